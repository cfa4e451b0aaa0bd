//! The embedded sample: 2,000 WordNet entries with their sentence embeddings, and 100 held-out queries.

use akidb::{Metric, Schema};
use serde_json::{Map, Value};

use crate::npy::read_npy;

const BASE: &[u8] = include_bytes!("../sample/wordnet-2k/base.f16.npy");
const QUERIES: &[u8] = include_bytes!("../sample/wordnet-2k/queries.f16.npy");
const PAYLOAD: &str = include_str!("../sample/wordnet-2k/payload.jsonl");
const QUERY_PAYLOAD: &str = include_str!("../sample/wordnet-2k/query_payload.jsonl");

/// Dimension of the sample's vectors.
pub const SAMPLE_DIM: u16 = 384;
/// Rows of the sample.
pub const SAMPLE_ROWS: usize = 2_000;
/// The first queries are fit to be shown to people.
pub const DEMO_QUERIES: usize = 5;

/// Rows in random order, so that a prefix is a random part of them, and queries that are none of the rows.
#[derive(Clone, Debug)]
pub struct Sample {
    /// 2,000 rows with distinct ids.
    pub rows: Vec<SampleRow>,
    /// 100 queries. The ten nearest rows of each are also its ten nearest of all 116,659 entries.
    pub queries: Vec<SampleQuery>,
}

/// A row of the sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRow {
    /// The entry's synset, such as "n02084071".
    pub id: String,
    /// 384 numbers, widened from f16: length within 0.001 of 1.
    pub vector: Vec<f32>,
    /// Everything but the id: `row`, `bucket`, `pos`, `lexname`, `lemmas`, `n_lemmas`, `n_pointers`, `gloss`.
    pub payload: Map<String, Value>,
}

/// A query of the sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleQuery {
    /// What was embedded: "lemma, lemma: gloss".
    pub text: String,
    /// 384 numbers.
    pub vector: Vec<f32>,
}

impl SampleRow {
    /// What was embedded: "lemma, lemma: gloss".
    #[must_use]
    pub fn text(&self) -> String {
        text_of(&self.payload)
    }
}

/// The text of a payload in the sample's form, as a search returns it: "lemma, lemma: gloss".
#[must_use]
pub fn text_of(payload: &Map<String, Value>) -> String {
    let lemmas = payload.get("lemmas").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let lemmas: Vec<&str> = lemmas.iter().filter_map(Value::as_str).collect();
    let gloss = payload.get("gloss").and_then(Value::as_str).unwrap_or_default();
    format!("{}: {gloss}", lemmas.join(", "))
}

/// The schema that fits the sample: cosine, text ids, every key a declared field but `gloss`, which stays in
/// the undeclared payload.
#[must_use]
pub fn sample_schema() -> Schema {
    Schema::new(SAMPLE_DIM, Metric::Cosine)
        .int("row")
        .int("bucket")
        .text("pos")
        .text("lexname")
        .text_list("lemmas")
        .int("n_lemmas")
        .int("n_pointers")
}

/// The sample. Decodes 2 MB at each call: keep what it returns.
#[must_use]
pub fn sample() -> Sample {
    let row = |(vector, mut payload): (Vec<f32>, Map<String, Value>)| {
        let Some(Value::String(id)) = payload.remove("id") else { panic!("a row of the sample has no id") };
        SampleRow { id, vector, payload }
    };
    let query = |(vector, payload)| SampleQuery { text: text_of(&payload), vector };
    Sample {
        rows: matrix(BASE).zip(objects(PAYLOAD)).map(row).collect(),
        queries: matrix(QUERIES).zip(objects(QUERY_PAYLOAD)).map(query).collect(),
    }
}

fn matrix(file: &'static [u8]) -> impl Iterator<Item = Vec<f32>> {
    let rows = read_npy(file).expect("the embedded matrix has a good header");
    rows.map(|row| row.expect("the embedded matrix is whole"))
}

fn objects(lines: &'static str) -> impl Iterator<Item = Map<String, Value>> {
    lines.lines().map(|line| serde_json::from_str(line).expect("an embedded line is a JSON object"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_sample_is_whole_and_fits_its_schema() {
        let sample = sample();
        assert_eq!((sample.rows.len(), sample.queries.len()), (SAMPLE_ROWS, 100));
        assert_eq!((PAYLOAD.lines().count(), QUERY_PAYLOAD.lines().count()), (SAMPLE_ROWS, 100));
        let ids: HashSet<&str> = sample.rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids.len(), SAMPLE_ROWS, "ids are distinct");
        let schema = sample_schema();
        schema.check().unwrap();
        for row in &sample.rows {
            let length = row.vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            assert!((length - 1.0).abs() < 1e-3, "{}: {length}", row.id);
            assert_eq!(row.vector.len(), usize::from(SAMPLE_DIM));
            assert!(row.payload.keys().all(|key| key == "gloss" || schema.position(key).is_some()));
            assert_eq!(row.payload.len(), schema.fields.len() + 1, "{}", row.id);
        }
    }

    #[test]
    fn the_first_query_asks_for_geckos_and_finds_them() {
        let sample = sample();
        assert!(sample.queries[0].text.starts_with("gecko: "), "{}", sample.queries[0].text);
        let best = crate::exact_top_k_cosine_f64(&sample.rows, &sample.queries[0].vector, 10);
        assert!(sample.rows[best[0].0].text().contains("gecko"), "{}", sample.rows[best[0].0].text());
    }
}
