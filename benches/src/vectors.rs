//! As many vectors as a bench wants: those of a directory, or of the sample, and mixes of two of them where they run out.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use crate::npy::read_npy;
use crate::sample::sample;

/// Names the directory with `base*.npy` and `queries*.npy`.
const DATA: &str = "AKIDB_BENCH_DATA";

/// Vectors of one dimension, and queries that are none of them.
#[derive(Debug)]
pub struct Vectors {
    base: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
    whence: String,
}

impl Vectors {
    /// Those of the directory that the variable `AKIDB_BENCH_DATA` names, else the sample's.
    ///
    /// # Panics
    /// If the directory has no `base*.npy` and `queries*.npy`, or they are no good.
    #[must_use]
    pub fn of_environment() -> Self {
        let Some(dir) = std::env::var_os(DATA) else {
            let sample = sample();
            let base = sample.rows.into_iter().map(|row| row.vector).collect();
            let queries = sample.queries.into_iter().map(|query| query.vector).collect();
            return Self { base, queries, whence: "the sample".to_owned() };
        };
        let dir = Path::new(&dir);
        let (base, queries) = (read(&find(dir, "base")), read(&find(dir, "queries")));
        Self { base, queries, whence: dir.display().to_string() }
    }

    /// Numbers in a vector.
    #[must_use]
    pub fn dim(&self) -> u16 {
        u16::try_from(self.base[0].len()).expect("a dimension of the engine")
    }

    /// Vectors that are no mixes.
    #[must_use]
    pub fn own(&self) -> usize {
        self.base.len()
    }

    /// Vectors to ask for.
    #[must_use]
    pub fn queries(&self) -> &[Vec<f32>] {
        &self.queries
    }

    /// Where they come from, for people.
    #[must_use]
    pub fn whence(&self) -> String {
        format!("{} vectors of {}, mixes of two of them beyond", self.base.len(), self.whence)
    }

    /// The vector of row `n` as it is written for the `version`th time, from 0. The first version of the first rows is
    /// as it was read; any other is 0.7 of one vector and 0.3 of another.
    #[must_use]
    pub fn row(&self, n: usize, version: usize) -> Vec<f32> {
        let len = self.base.len();
        if n < len && version == 0 {
            return self.base[n].clone();
        }
        let seed = (n as u64) << 8 | version as u64;
        let other = usize::try_from(akidb_host::Rng::seeded(seed).below(len as u64)).expect("below a usize");
        let (a, b) = (&self.base[(n + version * 7_919) % len], &self.base[other]);
        a.iter().zip(b).map(|(x, y)| 0.7 * x + 0.3 * y).collect()
    }
}

fn find(dir: &Path, start: &str) -> PathBuf {
    let files = std::fs::read_dir(dir).expect("the directory of AKIDB_BENCH_DATA can be listed");
    let mut names = files.map(|file| file.expect("it can be listed").path());
    let fits = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(start) && name.ends_with(".npy")
    };
    names.find(fits).unwrap_or_else(|| panic!("there is no {start}*.npy in {}", dir.display()))
}

fn read(path: &Path) -> Vec<Vec<f32>> {
    let file = File::open(path).unwrap_or_else(|cause| panic!("opening {}: {cause}", path.display()));
    let rows = read_npy(BufReader::with_capacity(1 << 20, file));
    let rows = rows.unwrap_or_else(|cause| panic!("{}: {cause}", path.display()));
    rows.collect::<Result<_, _>>().unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_same_at_each_call_and_differ_among_themselves() {
        let vectors = Vectors::of_environment();
        assert_eq!(vectors.row(5, 0), vectors.base[5]);
        let rows = [(5, 0), (5, 1), (5, 2), (5 + vectors.own(), 0), (6 + vectors.own(), 0)];
        let rows: Vec<_> = rows.into_iter().map(|(n, version)| vectors.row(n, version)).collect();
        assert!(rows.windows(2).all(|pair| pair[0] != pair[1] && pair[0].len() == pair[1].len()));
        assert_eq!(rows[3], vectors.row(5 + vectors.own(), 0));
    }
}
