//! Single bits flipped in the vectors, the codes and the head of the index of a segment: the same answers, a typed
//! error with file and offset, or an exact search instead that says the index is damaged. Never a wrong answer.
//!
//! Flips: `AKIDB_INDEX_FLIPS` (300 unless set); a failing run is repeated by the `AKIDB_FLIP_SEED` it prints.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use akidb::{Collection, Db, Explained, Hit, Metric, NewRow, PartKind, Schema};
use akidb_host::Rng;
use serde_json::json;

use crate::sample::assert_typed;

const FLIPS: u64 = 300;
const DIM: u16 = 48;
/// What a segment's checksums stand for.
const BLOCK_LEN: usize = 16_384;
/// Rows of the two files: codes in one list, codes in many.
const ROWS: [u64; 2] = [4_500, 32_768];

fn vector(n: u64) -> Vec<f32> {
    let (mut centre, mut own) = (Rng::seeded(1_000_000 + n % 30), Rng::seeded(n));
    let mut number = || (centre.f64() - 0.5 + 0.5 * (own.f64() - 0.5)) as f32;
    (0..DIM).map(|_| number()).collect()
}

/// A closed database of one segment.
struct Filled {
    dir: tempfile::TempDir,
    file: PathBuf,
    /// What is flipped: a name, the bytes, and those of them that every reader of the part must check.
    parts: Vec<(&'static str, Range<usize>, Range<usize>)>,
    answers: Vec<Answer>,
}

/// An answer of the whole file, and the exact one.
struct Answer {
    given: Vec<Hit>,
    exact: Vec<Hit>,
}

fn filled(rows: u64) -> Filled {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let docs =
        db.create_collection("docs", Schema::new(DIM, Metric::Cosine).int_ids().int("bucket")).unwrap();
    let new =
        |n: u64| NewRow::new(i64::try_from(n).unwrap(), vector(n), json!({ "bucket": n * 7 % 100 })).unwrap();
    for batch in (0..rows).map(new).collect::<Vec<_>>().chunks(500) {
        docs.upsert_batch(batch).unwrap();
    }
    db.flush().unwrap();
    drop(docs);
    db.close().unwrap();
    let file = segment(dir.path());
    let bytes = std::fs::read(&file).unwrap();
    let parts = vec![vectors(&bytes, rows), section("head", &bytes, 1), section("codes", &bytes, 2)];
    let docs = open(dir.path()).unwrap().collection("docs").unwrap();
    let exact = questions().map(|asked| asked.ask(&docs, true).unwrap().0);
    let answers = questions().zip(exact).map(|(asked, exact)| {
        let (given, explained) = asked.ask(&docs, false).unwrap();
        let kind = if rows == ROWS[0] { PartKind::Flat } else { PartKind::Lists };
        let codes = !matches!(asked, Asked::Exact(_));
        assert!(!codes || explained.parts[0].kind == kind, "{asked:?}: {explained:?}");
        Answer { given, exact }
    });
    let answers = answers.collect();
    Filled { dir, file, parts, answers }
}

fn open(dir: &Path) -> akidb::Result<Db> {
    Db::builder(dir).read_only(true).open()
}

fn segment(dir: &Path) -> PathBuf {
    let collection = std::fs::read_dir(dir.join("collections")).unwrap().next().unwrap().unwrap().path();
    let mut files = std::fs::read_dir(collection).unwrap().map(|file| file.unwrap().path());
    files.find(|file| file.extension().is_some_and(|end| end == "parquet")).unwrap()
}

/// The values of the vectors, which lie in one row group.
fn vectors(bytes: &[u8], rows: u64) -> (&'static str, Range<usize>, Range<usize>) {
    let key = b"\"vectors\":[";
    let at = bytes.windows(key.len()).rposition(|window| window == key).unwrap() + key.len();
    let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let start = digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
    let range = start..start + usize::try_from(rows).unwrap() * usize::from(DIM) * 4;
    assert!(vector(0).iter().zip(bytes[start..].chunks(4)).all(|(x, bytes)| x.to_le_bytes() == bytes));
    ("vectors", range.clone(), range)
}

/// A section with its head and checksum, and its body.
fn section(name: &'static str, bytes: &[u8], kind: u8) -> (&'static str, Range<usize>, Range<usize>) {
    let head = [b'A', b'K', b'S', b'E', b'C', b'1', 0, 0, kind, 0];
    let at = bytes.windows(head.len()).position(|window| window == head).expect("the section is there");
    let len = usize::try_from(u64::from_le_bytes(bytes[at + 32..at + 40].try_into().unwrap())).unwrap();
    (name, at..at + 64 + len + 4, at + 64..at + 64 + len)
}

/// Together they read every byte of every part.
#[derive(Clone, Copy, Debug)]
enum Asked {
    /// A search that says nothing.
    Default(u64),
    /// Through every list.
    AllLists(u64),
    /// By the codes of half the rows.
    Filtered(u64),
    /// Every vector.
    Exact(u64),
}

fn questions() -> impl Iterator<Item = Asked> {
    use Asked::{AllLists, Default, Exact, Filtered};
    [Default(1), Default(2), AllLists(3), Filtered(4), Exact(5)].into_iter()
}

impl Asked {
    fn ask(self, docs: &Collection, exact: bool) -> akidb::Result<(Vec<Hit>, Explained)> {
        let (Self::Default(n) | Self::AllLists(n) | Self::Filtered(n) | Self::Exact(n)) = self;
        let query = vector(50_000_000 + n);
        let search = docs.search(&query).k(10);
        let search = match self {
            Self::Default(_) => search,
            Self::AllLists(_) => search.effort(100_000),
            Self::Filtered(_) => search.filter("bucket < 50"),
            Self::Exact(_) => search.exact(),
        };
        if exact { search.exact().explain() } else { search.explain() }
    }
}

/// What came of a question to a damaged file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Same,
    ExactInstead,
    Refused,
}

fn judge(asked: Asked, docs: &Collection, answer: &Answer, what: &str) -> Outcome {
    match asked.ask(docs, false) {
        Err(error) => {
            assert_typed(&error, what);
            Outcome::Refused
        }
        Ok((hits, explained)) if explained.parts[0].damaged_index => {
            assert!(explained.exact && explained.parts[0].exact, "{what}: {explained:?}");
            assert_eq!(hits, answer.exact, "{what}: a damaged index, and another answer than the exact one");
            Outcome::ExactInstead
        }
        Ok((hits, _)) => {
            assert_eq!(hits, answer.given, "{what}: another answer and no word about it");
            Outcome::Same
        }
    }
}

/// Asks everything of the damaged file.
fn ask_all(filled: &Filled, what: &str) -> Vec<Outcome> {
    let db = match open(filled.dir.path()) {
        Ok(db) => db,
        Err(error) => {
            assert_typed(&error, what);
            return vec![Outcome::Refused];
        }
    };
    let docs = db.collection("docs").unwrap();
    let asked = questions().zip(&filled.answers);
    let outcomes = asked.map(|(asked, answer)| judge(asked, &docs, answer, &format!("{what}, {asked:?}")));
    outcomes.collect()
}

#[test]
fn a_flipped_bit_of_an_index_or_a_vector_is_never_silent() {
    let number = |name| std::env::var(name).ok().and_then(|n: String| n.parse().ok());
    let flips: u64 = number("AKIDB_INDEX_FLIPS").unwrap_or(FLIPS);
    let seed: u64 = number("AKIDB_FLIP_SEED").unwrap_or_else(|| Rng::from_machine().u64());
    println!("{flips} flips, AKIDB_FLIP_SEED={seed}");
    let mut rng = Rng::seeded(seed);
    let both = ROWS.map(filled);
    let mut counts: BTreeMap<(&str, Outcome), u64> = BTreeMap::new();
    for n in 0..flips {
        let filled = &both[usize::try_from(n % 2).unwrap()];
        let (part, range, checked) = &filled.parts[usize::try_from(n / 2 % 3).unwrap()];
        let at = range.start + usize::try_from(rng.below(range.len() as u64)).unwrap();
        let bit = 1u8 << rng.below(8);
        let what = format!("flip {n}: bit {bit:#x} of byte {at} ({part}) of {}", filled.file.display());
        let file = std::fs::File::options().read(true).write(true).open(&filled.file).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ bit], at as u64).unwrap();
        let outcomes = ask_all(filled, &what);
        file.write_all_at(&byte, at as u64).unwrap();
        let noticed = outcomes.iter().any(|outcome| *outcome != Outcome::Same);
        assert!(noticed || !checked.contains(&at), "{what}: all read it, none noticed");
        let worst = *outcomes.iter().max().unwrap();
        *counts.entry((*part, worst)).or_default() += 1;
        // The first codes share a checked block with the last vectors.
        let shared = at / BLOCK_LEN == (filled.parts[0].1.end - 1) / BLOCK_LEN;
        assert!(
            *part == "vectors" || shared || worst != Outcome::Refused,
            "{what}: an index is no reason to refuse"
        );
    }
    println!("{flips} flips, 0 silent: {counts:?}");
    for filled in &both {
        let outcomes = ask_all(filled, "every bit as it was");
        assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Same), "{outcomes:?}");
    }
}
