//! What a row of a soak holds: made from the number of the change that wrote it, again and again the same.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use akidb::NewRow;
use akidb_host::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model::{Change, id_of};

/// Vectors that are made lie around so many centres.
const CENTRES: u64 = 500;
/// How far at most each number of a made vector is from its centre's, which is within 1 of 0.
const AROUND_CENTRE: f32 = 0.6;
/// The same of a vector that repeats a given one, whose length is about 1.
const AROUND_GIVEN: f32 = 0.02;
/// Queries made where none are given.
const QUERIES: u64 = 1_000;
/// Bytes of a row's payload: one declared integer.
const PAYLOAD_BYTES: u64 = 8;

/// Where vectors come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RowsPlan {
    pub(super) dim: u16,
    pub(super) seed: u64,
    /// Given vectors, else they are made.
    pub(super) given: Option<Given>,
}

/// Files of plain f32 numbers of this machine, one vector behind the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Given {
    pub(super) base: PathBuf,
    pub(super) base_rows: u64,
    pub(super) queries: PathBuf,
    pub(super) query_rows: u64,
}

/// Makes rows and queries.
#[derive(Debug)]
pub(super) struct Rows {
    dim: usize,
    seed: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Centres(Vec<Vec<f32>>),
    Given { base: File, base_rows: u64, queries: File, query_rows: u64 },
}

impl RowsPlan {
    /// Bytes of a row as it is given: vector and payload.
    pub(super) fn raw_bytes(&self) -> u64 {
        u64::from(self.dim) * 4 + PAYLOAD_BYTES
    }
}

impl Rows {
    pub(super) fn open(plan: &RowsPlan) -> io::Result<Self> {
        let dim = usize::from(plan.dim);
        let source = match &plan.given {
            Some(given) => Source::Given {
                base: File::open(&given.base)?,
                base_rows: given.base_rows,
                queries: File::open(&given.queries)?,
                query_rows: given.query_rows,
            },
            None => {
                let mut rng = Rng::seeded(plan.seed);
                let centre = |_| (0..dim).map(|_| symmetric(&mut rng)).collect();
                Source::Centres((0..CENTRES).map(centre).collect())
            }
        };
        Ok(Self { dim, seed: plan.seed, source })
    }

    /// The row that a change writes.
    pub(super) fn row(&self, change: Change) -> io::Result<NewRow> {
        let payload = [("n".to_owned(), Value::from(change.n))].into_iter().collect();
        Ok(NewRow { id: id_of(change.row).into(), vector: self.vector(change.n)?, payload, expires: None })
    }

    /// Its vector.
    pub(super) fn vector(&self, n: u32) -> io::Result<Vec<f32>> {
        let n = u64::from(n);
        let mut rng = Rng::seeded(mixed(self.seed, n));
        match &self.source {
            Source::Centres(centres) => Ok(around(&centres[pick(&mut rng)], AROUND_CENTRE, &mut rng)),
            Source::Given { base, base_rows, .. } => {
                Ok(around(&self.read(base, n % base_rows)?, AROUND_GIVEN, &mut rng))
            }
        }
    }

    /// The vector to ask for in the `n`th search.
    pub(super) fn query(&self, n: u64) -> io::Result<Vec<f32>> {
        match &self.source {
            Source::Centres(centres) => {
                let mut rng = Rng::seeded(mixed(!self.seed, n % QUERIES));
                Ok(around(&centres[pick(&mut rng)], AROUND_CENTRE, &mut rng))
            }
            Source::Given { queries, query_rows, .. } => self.read(queries, n % query_rows),
        }
    }

    fn read(&self, file: &File, row: u64) -> io::Result<Vec<f32>> {
        let mut bytes = vec![0; self.dim * 4];
        let at = row * bytes.len() as u64;
        file.read_exact_at(&mut bytes, at)?;
        let numbers = bytes.as_chunks::<4>().0.iter().map(|number| f32::from_ne_bytes(*number));
        Ok(numbers.collect())
    }
}

fn pick(rng: &mut Rng) -> usize {
    usize::try_from(rng.below(CENTRES)).expect("small")
}

fn around(centre: &[f32], by: f32, rng: &mut Rng) -> Vec<f32> {
    centre.iter().map(|x| x + by * symmetric(rng)).collect()
}

/// Between -1 and 1.
fn symmetric(rng: &mut Rng) -> f32 {
    (rng.u32() >> 8) as f32 / 8_388_608.0 - 1.0
}

fn mixed(seed: u64, n: u64) -> u64 {
    seed ^ n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_number_makes_the_same_vector_again_and_queries_are_no_rows() {
        let plan = RowsPlan { dim: 8, seed: 3, given: None };
        let (a, b) = (Rows::open(&plan).unwrap(), Rows::open(&plan).unwrap());
        assert_eq!(a.vector(5).unwrap(), b.vector(5).unwrap());
        assert_ne!(a.vector(5).unwrap(), a.vector(6).unwrap());
        assert_ne!(a.vector(5).unwrap(), a.query(5).unwrap());
        assert_eq!(a.query(1).unwrap(), a.query(1 + QUERIES).unwrap());
        let row = a.row(Change { n: 5, row: 2 }).unwrap();
        assert_eq!((row.id, row.vector.len(), row.payload["n"].as_u64()), (id_of(2).into(), 8, Some(5)));
    }

    #[test]
    fn given_vectors_come_again_and_again_each_time_a_little_off() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, numbers: &[f32]| {
            let path = dir.path().join(name);
            let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_ne_bytes()).collect();
            File::create(&path).unwrap().write_all(&bytes).unwrap();
            path
        };
        let (base, queries) = (file("base", &[1.0, 2.0, 3.0, 4.0]), file("queries", &[9.0, 8.0]));
        let given = Some(Given { base, base_rows: 2, queries, query_rows: 1 });
        let plan = RowsPlan { dim: 2, seed: 3, given };
        let rows = Rows::open(&plan).unwrap();
        assert_eq!((rows.query(7).unwrap(), plan.raw_bytes()), (vec![9.0, 8.0], 16));
        let (first, again) = (rows.vector(1).unwrap(), rows.vector(3).unwrap());
        assert!(
            first.iter().zip([3.0, 4.0]).all(|(x, given)| (x - given).abs() <= AROUND_GIVEN),
            "{first:?}"
        );
        assert_ne!(first, again);
    }
}
