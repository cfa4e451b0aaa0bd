//! Collections and rows as the simulation makes them, and what filters and searches mean for a plain list.

use akidb::{Collection, Id, Metric, Payload, Schema};
use akidb_host::Rng;
use serde_json::{Value, json};

use super::truth::{Row, Table};

/// How much a world holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    Small,
    /// Segments of some thousand rows, so that deletion vectors need files of their own.
    Large,
    /// Few rows of up to 100 KiB that do not compress, so that a backend is soon a MiB behind.
    Heavy,
}

impl Scale {
    /// Ids of a collection.
    pub(crate) fn ids(self) -> u64 {
        match self {
            Self::Small => 40,
            Self::Large => 2_400,
            Self::Heavy => 16,
        }
    }

    /// Rows of a batch, at most.
    pub(crate) fn batch(self) -> u64 {
        match self {
            Self::Small => 8,
            Self::Large => 1_500,
            Self::Heavy => 6,
        }
    }

    /// By how much rarer crashes are tried: each reads all there is.
    pub(crate) fn rarity(self) -> u64 {
        if self == Self::Heavy { 6 } else { 1 }
    }

    /// Bytes of a memtable.
    pub(crate) fn memtable_bytes(self) -> u64 {
        match self {
            Self::Small => 64 << 10,
            Self::Large => 2 << 20,
            Self::Heavy => 512 << 10,
        }
    }
}

pub(crate) fn schema(rng: &mut Rng) -> Schema {
    let metric = [Metric::Cosine, Metric::L2, Metric::Dot][rng.below(3) as usize];
    let schema = Schema::new(8 + rng.below(9) as u16, metric).text("lang").int("year");
    let schema = if rng.below(2) == 0 { schema.int_ids() } else { schema };
    // Nothing is drawn for it: a seed goes on meaning what it meant.
    if schema.dim % 3 == 2 { schema.timestamp("until").expires_by("until") } else { schema }
}

/// Times that are over before any clock of ours begins, and that none comes to.
const OVER: &str = "0001-01-01T00:00:00Z";
const NEVER_OVER: &str = "9000-01-01T00:00:00Z";

/// Gives the row with this version a time, or none, where its collection has one.
pub(crate) fn expire(schema: &Schema, version: u64, payload: &mut Payload) {
    if schema.expires_by.is_some()
        && let Some(until) = [Some(OVER), Some(NEVER_OVER), None][(version % 3) as usize]
    {
        payload.insert("until".into(), json!(until));
    }
}

/// Whether a row has expired: it is as good as deleted from its write on, and the database has it to purge.
pub(crate) fn is_over(row: &Row) -> bool {
    row.payload.get("until").is_some_and(|until| until == OVER)
}

/// The `n`-th id of a collection, from 0; integers are on both sides of zero.
pub(crate) fn id(schema: &Schema, n: u64) -> Id {
    match schema.id_kind {
        akidb::IdKind::Int => Id::Int(i64::try_from(n).unwrap() * 7 - 100),
        akidb::IdKind::Text => Id::Text(format!("id{n:04}").into()),
    }
}

pub(crate) fn vector(schema: &Schema, rng: &mut Rng) -> Vec<f32> {
    (0..schema.dim).map(|_| rng.below(64) as f32 / 16.0 - 2.0 + 0.01).collect()
}

pub(crate) fn payload(scale: Scale, version: u64, rng: &mut Rng) -> Payload {
    // Such sizes that a dozen or some hundred rows make a memtable full.
    let fill = if scale == Scale::Large {
        rng.below(8)
    } else if rng.below(3) == 0 {
        500 + rng.below(6_000)
    } else {
        rng.below(300)
    };
    let mut payload = json!({ "version": version, "fill": "x".repeat(fill as usize) });
    if rng.below(5) > 0 {
        payload["year"] = json!(rng.below(8));
    }
    if rng.below(5) > 0 {
        payload["lang"] = json!(["en", "de"][rng.below(2) as usize]);
    }
    if scale == Scale::Heavy {
        payload["ballast"] = json!(ballast(version, 20_000 + rng.below(100_000)));
    }
    let Value::Object(payload) = payload else { unreachable!("it is an object") };
    payload
}

/// A text of its own for each version.
fn ballast(version: u64, bytes: u64) -> String {
    let mut rng = Rng::seeded(version);
    let letter = |_| char::from(b'0' + rng.below(64) as u8);
    (0..bytes).map(letter).collect()
}

/// What a filter means for a row.
type Meaning = fn(&Row) -> bool;

fn filter(n: u64) -> Option<(&'static str, Meaning)> {
    match n {
        0 => Some(("year > 3", |row| year_of(row).is_some_and(|year| year > 3))),
        1 => Some(("not (lang = 'en')", |row| lang_of(row).is_some_and(|lang| lang != "en"))),
        2 => Some(("year is null or lang = 'de'", |row| {
            year_of(row).is_none() || lang_of(row).is_some_and(|lang| lang == "de")
        })),
        _ => None,
    }
}

fn year_of(row: &Row) -> Option<i64> {
    row.payload.get("year").and_then(Value::as_i64)
}

fn lang_of(row: &Row) -> Option<&str> {
    row.payload.get("lang").and_then(Value::as_str)
}

fn score(metric: Metric, q: &[f32], x: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    match metric {
        Metric::Dot => dot(q, x),
        Metric::Cosine => dot(q, x) / (dot(q, q) * dot(x, x)).sqrt(),
        Metric::L2 => {
            -q.iter().zip(x).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
        }
    }
}

/// One search and one count, under a filter or none, compared with the list.
pub(crate) fn search(rows: &Collection, table: &Table, rng: &mut Rng) -> akidb::Result<()> {
    let query = vector(&table.schema, rng);
    let (k, wanted) = (1 + rng.below(12) as usize, filter(rng.below(5)));
    let (mut search, mut count) = (rows.search(&query).k(k), None);
    if let Some((text, _)) = wanted {
        search = search.filter(text);
        count = Some(rows.count_where(text)?);
    }
    let hits = if rng.below(2) == 0 { search.exact() } else { search.recall(1.0) }.run()?;
    let matches = |row: &Row| wanted.is_none_or(|(_, meaning)| meaning(row));
    let mut best: Vec<f64> = table
        .rows
        .values()
        .filter(|row| matches(row))
        .map(|row| score(table.schema.metric, &query, &row.vector))
        .collect();
    best.sort_by(|a, b| b.total_cmp(a));
    assert!(count.is_none_or(|count| count == best.len() as u64), "count {count:?} of {}", best.len());
    assert_eq!(hits.len(), k.min(best.len()), "k matching rows come back");
    for (hit, best) in hits.iter().zip(best) {
        let row = table.rows.get(&hit.id).unwrap_or_else(|| panic!("{} came back from the dead", hit.id));
        assert!(matches(row) && hit.payload == row.payload, "{} is not what was asked for", hit.id);
        let exact = score(table.schema.metric, &query, &row.vector);
        let near = |a: f64| (a - exact).abs() <= 1e-4 * exact.abs().max(1.0);
        assert!(
            near(f64::from(hit.score)) && near(best),
            "{} scores {}, {exact}, best {best}",
            hit.id,
            hit.score
        );
    }
    Ok(())
}
