//! A small database as bytes: written out, damaged and opened again as often as a test likes.

use std::path::{Path, PathBuf};

use akidb::{Db, Error, ErrorKind, Metric, NewRow, Schema, Settings};
use serde_json::json;

/// The files of a database that is closed, or that was stopped dead.
pub(crate) struct Sample {
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
    pub(crate) answers: Answers,
}

/// Everything a reader can ask: rows with versions, counts, searches with scores.
#[derive(Debug, PartialEq)]
pub(crate) struct Answers(Vec<String>);

/// What opening and reading a damaged copy led to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Same,
    Refused(Error),
    Cut,
    /// Other answers and no word about it: the one thing that must not be.
    Silent(Answers),
}

/// Two collections, three flushes, overwrites and deletes over segments, a tail in the log.
pub(crate) fn sample(clean: bool) -> Sample {
    let dir = tempfile::tempdir().unwrap();
    // A merge that ended while the files are copied would be in the manifest and not in the copy.
    let settings = Settings::from_toml("[engine]\ncompaction = false\n").unwrap();
    let db = Db::builder(dir.path()).settings(settings).open().unwrap();
    let docs = db.create_collection("docs", Schema::new(8, Metric::Cosine).text("lang").int("year")).unwrap();
    let points = db.create_collection("points", Schema::new(3, Metric::L2).int_ids()).unwrap();
    // Enough dimensions for a vector index.
    let texts = db.create_collection("texts", Schema::new(64, Metric::Cosine).int_ids()).unwrap();
    for round in 0..4u16 {
        for n in 0..30u16 {
            let number = i64::from(round * 20 + n);
            texts.upsert(number, &wide(number * 10 + i64::from(round)), json!({})).unwrap();
        }
        let row = |n: u16| {
            let vector: Vec<f32> = (0..8).map(|d| f32::from((n * 7 + d * 13 + round) % 31) + 0.5).collect();
            let payload = json!({"lang": (if n.is_multiple_of(2) { "en" } else { "de" }), "year": 2000 + n, "round": round});
            NewRow::new(format!("doc{n:03}"), vector, payload).unwrap()
        };
        docs.upsert_batch(&(round * 20..round * 20 + 40).map(row).collect::<Vec<_>>()).unwrap();
        for n in 0..20u16 {
            let at = [f32::from(n), f32::from(round), 1.0];
            points.upsert(i64::from(n + round * 10), &at, json!({})).unwrap();
        }
        // Enough dead rows in one segment that its deletion vector is a file of its own.
        if round < 2 {
            let far =
                |n: u16| NewRow::new(i64::from(1_000 + n), [f32::from(n), 50.0, f32::from(round)], json!({}));
            let step = usize::from(round + 1);
            let batch: Vec<NewRow> = (0..1_200).step_by(step).map(|n| far(n).unwrap()).collect();
            points.upsert_batch(&batch).unwrap();
        }
        for n in 0..5u16 {
            docs.delete(format!("doc{:03}", round * 20 + n)).unwrap();
            points.delete(i64::from(round * 10 + n)).unwrap();
        }
        // The last round stays in the log.
        if round < 3 {
            db.flush().unwrap();
        }
    }
    // At once after the last acknowledgement: the newest frames are not stamped as proven yet.
    let files = read_tree(dir.path());
    let answers = Answers::of(&db).unwrap();
    if !clean {
        return Sample { files, answers };
    }
    db.close().unwrap();
    Sample { files: read_tree(dir.path()), answers }
}

/// 64 numbers that look like chance.
fn wide(n: i64) -> Vec<f32> {
    let mut random = akidb_host::Rng::seeded(n.cast_unsigned());
    (0..64).map(|_| random.f64() as f32 - 0.4).collect()
}

impl Answers {
    pub(crate) fn of(db: &Db) -> Result<Self, Error> {
        let mut all = vec![format!("{:?}", db.collections()?)];
        for name in db.collections()? {
            let rows = db.collection(&name)?;
            all.push(format!("{name} {} rows", rows.count()?));
            let page = rows.scan().limit(10_000).run()?;
            all.extend(page.iter().map(|row| format!("{row:?}")));
            for row in page.iter().step_by(37) {
                all.push(format!("{:?}", rows.get(row.id.clone())?));
            }
            let dim = usize::from(rows.schema()?.dim);
            // Codes with so wide a threshold find what is there: the same as without them, where they are damaged.
            for n in (0..3).filter(|_| name == "texts") {
                all.push(format!("{:?}", rows.search(&wide(-1 - n)).k(7).recall(0.9999).run()?));
            }
            for n in 0..3u8 {
                let query: Vec<f32> = (0..dim).map(|d| f32::from(n) * 3.0 + d as f32 + 0.25).collect();
                all.push(format!("{:?}", rows.search(&query).k(7).with_vector(true).exact().run()?));
            }
            if name == "docs" {
                all.push(format!("{}", rows.count_where("lang = 'en' and year > 2030")?));
            }
        }
        Ok(Self(all))
    }
}

impl Sample {
    /// Writes the files below `dir`, which must not exist.
    pub(crate) fn write_to(&self, dir: &Path) {
        for (name, bytes) in &self.files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let used = used_len(bytes);
            std::fs::write(&path, &bytes[..used]).unwrap();
            // Zeros to come stay a hole.
            std::fs::File::options().write(true).open(&path).unwrap().set_len(bytes.len() as u64).unwrap();
        }
    }

    /// Opens the copy in `dir` and asks everything.
    pub(crate) fn judge(&self, dir: &Path) -> Outcome {
        let db = match Db::open(dir) {
            Ok(db) => db,
            Err(error) => return Outcome::Refused(error),
        };
        let cut = db.recovery().cut.is_some();
        let outcome = match Answers::of(&db) {
            Err(error) => Outcome::Refused(error),
            Ok(answers) if answers == self.answers => Outcome::Same,
            Ok(_) if cut => Outcome::Cut,
            Ok(answers) => Outcome::Silent(answers),
        };
        db.close().unwrap();
        outcome
    }

    /// Indices of the files below a directory whose name ends so, in order of name.
    pub(crate) fn below(&self, part: &str, end: &str) -> Vec<usize> {
        let is = |path: &Path| path.to_str().is_some_and(|name| name.contains(part) && name.ends_with(end));
        (0..self.files.len()).filter(|n| is(&self.files[*n].0)).collect()
    }
}

/// A refusal must say what and where.
#[track_caller]
pub(crate) fn assert_typed(error: &Error, what: &str) {
    let kinds = [ErrorKind::Corrupt, ErrorKind::NewerFormat, ErrorKind::Conflict];
    assert!(kinds.contains(&error.kind()), "{what}: {:?}: {error}", error.kind());
    assert!(error.file().is_some(), "{what}: no file: {error}");
    if error.kind() == ErrorKind::Corrupt {
        assert!(error.offset().is_some(), "{what}: no offset: {error}");
    }
}

/// Length without the zeros at the end.
pub(crate) fn used_len(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

fn read_tree(root: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.file_name().is_some_and(|name| name != "LOCK") {
                let bytes = std::fs::read(&path).unwrap();
                files.push((path.strip_prefix(root).unwrap().to_path_buf(), bytes));
            }
        }
    }
    files.sort();
    files
}
