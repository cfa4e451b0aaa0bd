//! `akidb demo`: the main job from end to end on real rows, with every figure computed from what was found.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use akidb::{BackendSettings, Collection, Db};
use akidb_benches::{DEMO_QUERIES, Sample, SampleRow, sample, sample_schema, text_of};
use akidb_host::{Clock, Fs, FsKind, RealClock, RealFs, Rng};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use tempfile::TempDir;

use crate::database::Globals;
use crate::failure::{Failure, Result};
use crate::output::{Output, shortened, thousands};

mod judge;
mod kill;
mod live;
pub(crate) mod writer;

use judge::Recall;
use kill::Ack;

/// The collection everything happens in.
const COLLECTION: &str = "wordnet";
/// Rows of a batch when the sample is imported.
const BATCH_ROWS: usize = 500;
/// What searches that ask for nothing must find of the nearest rows.
const LEAST_RECALL: f64 = 0.95;
/// Neighbours shown of each query.
const SHOWN: usize = 3;
const UPLOAD_WAIT: Duration = Duration::from_secs(60);

/// Show the main job: import, search, kill a writer, recover, flush, upload, restore, compare
#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Leave the directories
    #[arg(long)]
    keep: bool,
    /// Directory to make the demo's directories in, such as one on the disk to be measured
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Replay the random moment of this run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Everything the demo found.
#[derive(Debug, Default, Serialize)]
struct Summary {
    seed: u64,
    rows: u64,
    imported: u64,
    acknowledged: u64,
    recovered: u64,
    lost: u64,
    recall_at_10: f64,
    default_recall_at_10: f64,
    durable_upsert_p50_us: u64,
    segments: usize,
    uploaded_segments: usize,
    restored_rows: u64,
    seconds: f64,
    directory: String,
    kept: bool,
    ok: bool,
}

struct Stage {
    output: Output,
    sample: Sample,
    started: Instant,
    root: PathBuf,
}

impl Demo {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let seed = self.seed.unwrap_or_else(|| Rng::from_machine().u64());
        let home = self.home()?;
        let root = home.path().to_path_buf();
        let output = globals.output();
        let stage = Stage { output, sample: sample(), started: RealClock.now(), root: root.clone() };
        let outcome = stage.play(seed, self.keep);
        if self.keep || outcome.is_err() {
            // What went wrong must be there to be looked at.
            let _ = home.keep();
        }
        outcome.map_err(|failure| failure.note(format!("seed {seed}; the files are in {}", root.display())))
    }

    fn home(&self) -> Result<TempDir> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let made = tempfile::Builder::new().prefix("akidb-demo-").tempdir_in(&parent);
        made.map_err(|cause| Failure::io(&parent, "making a directory", &cause))
    }
}

impl Stage {
    fn play(&self, seed: u64, keep: bool) -> Result<()> {
        self.tell("start", &json!({ "seed": seed, "directory": self.root.to_string_lossy() }), || {
            format!("AkiDB demo in {} (seed {seed})\n", self.root.display())
        })?;
        let mut summary = Summary {
            seed,
            directory: self.root.to_string_lossy().into_owned(),
            kept: keep,
            ..Summary::default()
        };
        let memory_recall = self.import_and_search(&mut summary)?;
        let acks = self.kill_a_writer(&mut Rng::seeded(seed))?;
        summary.acknowledged = summary.imported + acks.len() as u64;
        summary.durable_upsert_p50_us = judge::p50_micros(&acks);
        let after = self.after_the_kill(&acks, memory_recall, &mut summary);
        summary.lost = summary.acknowledged - summary.recovered;
        summary.seconds = RealClock.now().duration_since(self.started).as_secs_f64();
        // A database that does not open, or not to the end of the demo, has its figures told all the same.
        summary.ok &= after.is_ok();
        summary.kept |= !summary.ok;
        self.conclude(&summary)?;
        after?;
        match summary.ok {
            true => Ok(()),
            false => Err(Failure::broken_promise(format!(
                "{} acknowledged rows lost, recall {}, {} of {} rows restored",
                summary.lost, summary.recall_at_10, summary.restored_rows, summary.rows
            ))),
        }
    }

    fn after_the_kill(&self, acks: &[Ack], memory_recall: Recall, summary: &mut Summary) -> Result<()> {
        let (db, model) = self.reopen(acks, summary)?;
        let rows = db.collection(COLLECTION)?;
        summary.rows = rows.count()?;
        summary.segments = self.flush_and_upload(&db)?;
        let segment_recall = judge::recall_at_10(&rows, &model, &self.sample.queries)?;
        let recall = memory_recall.min(segment_recall);
        (summary.recall_at_10, summary.default_recall_at_10) = (recall.exact, recall.usual);
        (summary.restored_rows, summary.uploaded_segments) = self.restore_and_compare(&rows)?;
        db.close()?;
        summary.ok = summary.recovered == summary.acknowledged
            && summary.recall_at_10 >= 1.0
            && summary.default_recall_at_10 >= LEAST_RECALL
            && summary.restored_rows == summary.rows
            && summary.rows == model.len() as u64;
        Ok(())
    }

    /// A step's line: an object with `step`, or what `sentence` says.
    fn tell(&self, step: &str, object: &serde_json::Value, sentence: impl FnOnce() -> String) -> Result<()> {
        if self.output.is_json() {
            let mut line = json!({ "step": step });
            if let (Some(line), Some(object)) = (line.as_object_mut(), object.as_object()) {
                line.extend(object.clone());
            }
            return self.output.object(&line);
        }
        self.output.sentence(&sentence())
    }

    fn db_dir(&self) -> PathBuf {
        self.root.join("db")
    }

    fn backend_url(&self) -> String {
        format!("file://{}", self.root.join("backend").display())
    }

    fn import_and_search(&self, summary: &mut Summary) -> Result<Recall> {
        let started = RealClock.now();
        let db = Db::open(self.db_dir())?;
        let rows = db.create_collection(COLLECTION, sample_schema())?;
        for batch in self.sample.rows.chunks(BATCH_ROWS) {
            let batch: Vec<_> = batch.iter().map(live::new_row).collect();
            rows.upsert_batch(&batch)?;
            summary.imported += batch.len() as u64;
        }
        let seconds = RealClock.now().duration_since(started).as_secs_f64();
        let imported = summary.imported;
        self.tell("import", &json!({ "rows": imported, "seconds": seconds }), || {
            format!(
                "imported {} WordNet entries with their embeddings in {seconds:.2} s\n",
                thousands(imported)
            )
        })?;
        for query in &self.sample.queries[..DEMO_QUERIES] {
            self.show(&rows, query)?;
        }
        let recall = judge::recall_at_10(&rows, &self.sample.rows, &self.sample.queries)?;
        db.close()?;
        Ok(recall)
    }

    fn show(&self, rows: &Collection, query: &akidb_benches::SampleQuery) -> Result<()> {
        let hits = rows.search(&query.vector).k(SHOWN).run()?;
        let near: Vec<_> = hits
            .iter()
            .map(|hit| json!({ "id": hit.id.to_string(), "score": hit.score, "text": text_of(&hit.payload) }))
            .collect();
        self.tell("query", &json!({ "query": query.text, "nearest": near }), || {
            let mut lines = format!("? {}\n", shortened(&query.text, 100));
            for hit in &hits {
                lines += &format!("  {:.3}  {}\n", hit.score, shortened(&text_of(&hit.payload), 90));
            }
            lines
        })
    }

    fn kill_a_writer(&self, rng: &mut Rng) -> Result<Vec<Ack>> {
        let acks = kill::write_and_kill(&self.db_dir(), rng)?;
        self.tell("kill", &json!({ "acknowledged": acks.len() }), || {
            format!(
                "a child wrote rows one by one; killed by SIGKILL after {} acknowledgements were read",
                thousands(acks.len() as u64)
            )
        })?;
        Ok(acks)
    }

    /// The database after the kill, and the rows it must hold.
    fn reopen(&self, acks: &[Ack], summary: &mut Summary) -> Result<(Db, Vec<SampleRow>)> {
        let started = RealClock.now();
        let db = Db::builder(self.db_dir()).create(false).backend("local", &self.backend_url()).open()?;
        let seconds = RealClock.now().duration_since(started).as_secs_f64();
        let rows = db.collection(COLLECTION)?;
        let written = |n| live::row(&self.sample, n);
        summary.recovered =
            judge::found(&rows, &self.sample.rows)? + judge::found_as_told(&rows, acks, written)?;
        let mut model = self.sample.rows.clone();
        model.extend(acks.iter().map(|ack| written(ack.n)));
        // The write that was in flight may have reached the log; then it must be whole.
        let next = written(acks.len() as u64);
        let in_flight = judge::found(&rows, std::slice::from_ref(&next))? == 1;
        if in_flight {
            model.push(next);
        }
        let (replayed, lost) = (db.recovery().replayed_records, summary.acknowledged - summary.recovered);
        let object = json!({
            "recovered": summary.recovered, "lost": lost, "in_flight_found": in_flight,
            "replayed_records": replayed, "seconds": seconds,
        });
        self.tell("recover", &object, || {
            format!(
                "reopened in {:.0} ms, {} records replayed: {} rows acknowledged by import and child, {} recovered, {lost} lost",
                seconds * 1e3,
                thousands(replayed),
                thousands(summary.acknowledged),
                thousands(summary.recovered),
            )
        })?;
        Ok((db, model))
    }

    fn flush_and_upload(&self, db: &Db) -> Result<usize> {
        db.flush()?;
        db.wait_uploaded(UPLOAD_WAIT)?;
        let stats = db.stats()?;
        let segments = stats.collections.iter().map(|c| c.segments).sum();
        let bytes: u64 = stats.collections.iter().map(|c| c.segment_bytes).sum();
        self.tell("upload", &json!({ "segments": segments, "segment_bytes": bytes }), || {
            format!("flushed to {segments} Parquet segments ({} bytes) and uploaded", thousands(bytes))
        })?;
        Ok(segments)
    }

    fn restore_and_compare(&self, rows: &Collection) -> Result<(u64, usize)> {
        let dir = self.root.join("restored");
        let report = akidb::restore(&BackendSettings::new("local", &self.backend_url())?, &dir)?;
        let restored = Db::builder(&dir).read_only(true).open()?;
        let equal = judge::equal_rows(rows, &restored.collection(COLLECTION)?)?;
        let object = json!({ "segments": report.segments, "files": report.files, "bytes": report.bytes, "equal_rows": equal });
        self.tell("restore", &object, || {
            let files = report.files;
            format!("restored {files} files from the backend; {} rows equal bit for bit\n", thousands(equal))
        })?;
        Ok((equal, report.segments))
    }

    fn conclude(&self, summary: &Summary) -> Result<()> {
        if self.output.is_json() {
            return self.output.object(summary);
        }
        self.output.sentence(&self.paragraph(summary))
    }

    fn paragraph(&self, summary: &Summary) -> String {
        let durable = match kind_of_disk(&self.root) {
            FsKind::Memory => " (a file system in memory: name a disk by --dir for a disk's figure)",
            _ => "",
        };
        let mut text = format!(
            "lost {}, recall@10 of exact searches {:.4}, of searches that ask for nothing {:.4}, durable upsert p50 {} us{durable}, {} rows, {:.1} s\n\n",
            summary.lost,
            summary.recall_at_10,
            summary.default_recall_at_10,
            thousands(summary.durable_upsert_p50_us),
            thousands(summary.rows),
            summary.seconds
        );
        text += &format!("  database  {}\n", self.db_dir().display());
        text += &format!("  backend   {}\n", self.root.join("backend").display());
        text += &format!("  restored  {}\n", self.root.join("restored").display());
        if let Some(segment) = some_segment(&self.db_dir().join("collections")) {
            text += &format!(
                "\nAny Parquet reader opens the segments:\n  duckdb -c \"SELECT id, lexname, lemmas FROM '{}' LIMIT 5\"\n",
                segment.display()
            );
        }
        if !summary.kept {
            text += "\nThe directories are removed now; `akidb demo --keep` leaves them.\n";
        }
        text
    }
}

fn kind_of_disk(dir: &Path) -> FsKind {
    RealFs.statfs(dir).map_or(FsKind::Local, |stats| stats.kind)
}

/// The largest segment below a directory of collections.
fn some_segment(collections: &Path) -> Option<PathBuf> {
    let inside =
        |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = inside(collections).flat_map(|dir| inside(&dir).collect::<Vec<_>>());
    let segments = files.filter(|path| path.extension().is_some_and(|ending| ending == "parquet"));
    segments.max_by_key(|path| path.metadata().map_or(0, |metadata| metadata.len()))
}
