//! The rows of the model: where their vectors lie, what they carry, and the exact answer to a search over them.

use akidb::{Id, Lsn, Metric, NewRow, Schema};
use akidb_host::Rng;
use serde_json::{Map, Value, json};

use super::wanted::Wanted;

pub(super) const LANGS: [&str; 4] = ["de", "en", "fr", "it"];
/// Of a kind of collection: its ids are text.
pub(super) const IDS_TEXT: bool = true;
const CLUSTERS: u64 = 50;

/// What the model is run on, one after the other.
pub(super) const KINDS: [Kind; 4] = [
    Kind {
        metric: Metric::Cosine,
        dim: 64,
        text_ids: IDS_TEXT,
        grid: false,
        ids: 7_000,
        first: 5_000,
        share: 30,
    },
    Kind { metric: Metric::L2, dim: 48, text_ids: false, grid: true, ids: 7_000, first: 5_000, share: 30 },
    // One bit a number; lengths differ.
    Kind {
        metric: Metric::Dot,
        dim: 200,
        text_ids: IDS_TEXT,
        grid: false,
        ids: 6_000,
        first: 5_000,
        share: 25,
    },
    // So many rows that their segment has lists.
    Kind {
        metric: Metric::Cosine,
        dim: 48,
        text_ids: false,
        grid: false,
        ids: 36_000,
        first: 34_000,
        share: 15,
    },
];

/// A kind of collection, and how many rows it has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) metric: Metric,
    pub(super) dim: u16,
    pub(super) text_ids: bool,
    /// Numbers are multiples of an eighth, so that f32 holds every sum: scores must be the model's to the bit, and many
    /// are equal.
    pub(super) grid: bool,
    /// Ids there can be, and how many are written and flushed at first.
    pub(super) ids: usize,
    pub(super) first: usize,
    /// Operations of a hundred.
    pub(super) share: u64,
}

impl Kind {
    pub(super) fn schema(&self) -> Schema {
        let schema = Schema::new(self.dim, self.metric).int("bucket").text("lang").text_list("tags");
        if self.text_ids { schema } else { schema.int_ids() }
    }

    pub(super) fn id(&self, n: usize) -> Id {
        if self.text_ids { format!("r{n:06}").into() } else { i64::try_from(n).unwrap().into() }
    }

    pub(super) fn number(id: &Id) -> usize {
        id.to_string().trim_start_matches('r').parse().unwrap()
    }

    /// A place near one of the clusters, where rows and queries lie.
    pub(super) fn vector(&self, rng: &mut Rng) -> Vec<f32> {
        let gaussian = |rng: &mut Rng| (0..6).map(|_| rng.f64()).sum::<f64>() * 2f64.sqrt() - 18f64.sqrt();
        let mut centre = Rng::seeded(7_000 + rng.below(CLUSTERS).min(rng.below(CLUSTERS)));
        let mut number = || gaussian(&mut centre) + 0.6 * gaussian(rng);
        let round = |x: f64| if self.grid { (x * 8.0).round() / 8.0 } else { x };
        (0..self.dim).map(|_| round(number()) as f32).collect()
    }

    /// How far a score of the engine may lie from the true one: what its kernels state, `d/32 + 8` units in the last
    /// place of the sum of the terms' magnitudes; under cosine twice, as the norm is such a sum too.
    fn bound(&self, query: &[f32], row: &Row, score: f64) -> f64 {
        let ulps = (f64::from(self.dim / 32) + 8.0) * 2f64.powi(-23);
        let terms = || query.iter().zip(&row.vector).map(|(a, b)| f64::from(a * b).abs()).sum::<f64>();
        match self.metric {
            _ if self.grid => 0.0,
            Metric::Cosine => 2.0 * ulps,
            Metric::L2 => ulps * score.abs(),
            Metric::Dot => ulps * terms(),
        }
    }

    fn score(&self, query: &[f32], row: &[f32]) -> f64 {
        let pairs = || query.iter().zip(row).map(|(a, b)| (f64::from(*a), f64::from(*b)));
        let score = match self.metric {
            Metric::Dot => pairs().map(|(a, b)| a * b).sum(),
            Metric::L2 => -pairs().map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
            Metric::Cosine => {
                let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
                pairs().for_each(|(a, b)| (dot, aa, bb) = (dot + a * b, aa + a * a, bb + b * b));
                dot / (aa * bb).sqrt()
            }
        };
        if self.grid { f64::from(score as f32) } else { score }
    }
}

/// A row as it was last written.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) vector: Vec<f32>,
    pub(super) bucket: Option<i64>,
    pub(super) lang: Option<usize>,
    /// A bit each.
    pub(super) tags: Option<u8>,
    pub(super) version: u64,
    pub(super) lsn: Lsn,
}

impl Row {
    pub(super) fn random(vector: Vec<f32>, version: u64, rng: &mut Rng) -> Self {
        let bucket = (rng.below(12) > 0).then(|| i64::try_from(rng.below(100)).unwrap());
        let lang = (rng.below(10) > 0).then(|| usize::try_from(rng.below(4)).unwrap());
        let tags = (rng.below(8) > 0).then(|| 1 + u8::try_from(rng.below(15)).unwrap());
        Self { vector, bucket, lang, tags, version, lsn: Lsn::ZERO }
    }

    pub(super) fn payload(&self) -> Map<String, Value> {
        let mut payload = Map::from_iter([("version".to_owned(), json!(self.version))]);
        payload.extend(self.bucket.map(|bucket| ("bucket".to_owned(), json!(bucket))));
        payload.extend(self.lang.map(|lang| ("lang".to_owned(), json!(LANGS[lang]))));
        let names = |tags: u8| (0..4).filter(move |n| tags & 1 << n != 0).map(|n| format!("t{n}"));
        payload.extend(self.tags.map(|tags| ("tags".to_owned(), names(tags).collect())));
        payload
    }

    pub(super) fn new_row(&self, id: Id) -> NewRow {
        NewRow { id, vector: self.vector.clone(), payload: self.payload(), expires: None }
    }
}

/// The true answer to a search.
pub(super) struct Truth<'a> {
    kind: Kind,
    query: &'a [f32],
    /// Rows asked for.
    pub(super) k: usize,
    /// Rows that match, of all.
    pub(super) matching: usize,
    /// (score, number) of the best, in their order.
    pub(super) best: Vec<(f64, usize)>,
}

impl<'a> Truth<'a> {
    pub(super) fn of(
        kind: Kind,
        rows: &[Option<Row>],
        query: &'a [f32],
        wanted: Option<&Wanted>,
        k: usize,
    ) -> Self {
        let live = rows.iter().enumerate().filter_map(|(n, row)| Some((n, row.as_ref()?)));
        let taken = live.filter(|(n, row)| wanted.is_none_or(|wanted| wanted.takes(*n, row)));
        let mut best: Vec<(f64, usize)> = taken.map(|(n, row)| (kind.score(query, &row.vector), n)).collect();
        let matching = best.len();
        let order = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if k < matching {
            best.select_nth_unstable_by(k, order);
            best.truncate(k);
        }
        best.sort_unstable_by(order);
        Self { kind, query, k, matching, best }
    }

    /// The true score of a row, and how far the engine's may lie from it.
    pub(super) fn score(&self, row: &Row) -> (f64, f64) {
        let score = self.kind.score(self.query, &row.vector);
        (score, self.kind.bound(self.query, row, score))
    }

    /// The share of the best that is among these rows; one as near as the last counts.
    pub(super) fn recall(&self, found: &[(f64, usize)]) -> f64 {
        let Some((worst, _)) = self.best.last() else { return 1.0 };
        found.iter().filter(|(score, _)| score >= worst).count().min(self.best.len()) as f64
            / self.best.len() as f64
    }
}
