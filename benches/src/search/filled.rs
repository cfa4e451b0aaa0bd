//! A database filled through the engine's own calls, and what that cost: processor time, and bytes by part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use akidb::{Collection, Db, Id, IdKind, Metric, NewRow, Receipt, Schema, SegmentReport, Settings};
use akidb_host::{RealFs, process_cpu_time, thread_cpu_time};

use super::source::{SearchSource, SourceRow};
use super::{SearchError, fields};

/// Rows of a batch; one batch is synced while the next is read.
const BATCH_ROWS: usize = 512;
/// Rows that are looked at to tell the types of fields.
const LOOKED_AT_ROWS: usize = 1_000;

/// An open database, flushed, and what it cost.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) db: Db,
    pub(super) collection: Collection,
    pub(super) costs: Costs,
    /// The first rows, for telling which filters make sense.
    pub(super) first_rows: Vec<SourceRow>,
}

/// What filling cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Costs {
    pub(super) rows: u64,
    pub(super) dim: u16,
    /// Processor time of the writes until the last was acknowledged, reading the source apart.
    pub(super) ingest_cpu: Duration,
    /// Processor time of the flush after them: segments with their indexes.
    pub(super) build_cpu: Duration,
    pub(super) segments: usize,
    /// Bytes of the segment files, by part: columns, sections, and what is neither.
    pub(super) parts: BTreeMap<String, u64>,
}

impl Costs {
    /// Bytes of the segment files.
    pub(super) fn file_bytes(&self) -> u64 {
        self.parts.values().sum()
    }

    /// Bytes of every section that serves searches: all but the id index and the check table.
    pub(super) fn index_bytes(&self) -> u64 {
        let index =
            |name: &str| name.starts_with("section ") && name != "section IDS" && name != "section CHK";
        self.parts.iter().filter(|(name, _)| index(name)).map(|(_, bytes)| bytes).sum()
    }

    /// File bytes over those of the plain f32 values and the packed payload.
    pub(super) fn file_over_raw(&self) -> f64 {
        let own = ["column id", "column lsn", "column vector"];
        let payload: u64 = self
            .parts
            .iter()
            .filter(|(name, _)| name.starts_with("column ") && !own.contains(&name.as_str()))
            .map(|(_, bytes)| bytes)
            .sum();
        self.file_bytes() as f64 / (self.rows * u64::from(self.dim) * 4 + payload) as f64
    }
}

/// Writes the first `rows` rows into a new database in `home` and flushes. The fields that `filters` name are declared.
pub(super) fn fill(
    home: &Path,
    source: &SearchSource,
    rows: u64,
    metric: Metric,
    one_segment: bool,
    filters: &[String],
) -> Result<Filled, SearchError> {
    let mut stream = source.read(rows)?;
    let first_rows = stream.by_ref().take(LOOKED_AT_ROWS).collect::<Result<Vec<SourceRow>, _>>()?;
    let Some(first) = first_rows.first() else {
        return Err(SearchError::Plan("the source has no rows".to_owned()));
    };
    let dim = u16::try_from(first.vector.len()).unwrap_or(u16::MAX);
    let schema = fields::declared(Schema::new(dim, metric), &first_rows, filters);
    let schema = Schema { id_kind: IdKind::Int, ..schema };
    let db = Db::builder(home.join("db")).settings(fill_settings(one_segment)).open()?;
    let collection = db.create_collection("bench", schema)?;
    let mut writes = Writes::new(&collection);
    let before = process_cpu_time();
    for row in first_rows.iter().cloned().map(Ok).chain(stream) {
        writes.push(row?)?;
    }
    writes.finish()?;
    let (written, reading) = (writes.rows, writes.reading);
    let ingest_cpu = (process_cpu_time() - before).saturating_sub(reading);
    let before = process_cpu_time();
    db.flush()?;
    // What would be merged in the background, beside the searches that are measured.
    db.compact()?;
    let build_cpu = process_cpu_time() - before;
    let (segments, parts) = parts(&home.join("db"))?;
    let costs = Costs { rows: written, dim, ingest_cpu, build_cpu, segments, parts };
    Ok(Filled { db, collection, costs, first_rows })
}

/// Settings of a bench. For one segment: memtable and log take everything before anything is flushed. Writes wait as
/// long as it takes; nothing is merged but by order.
#[must_use]
pub fn fill_settings(one_segment: bool) -> Settings {
    let mut settings = Settings::default();
    settings.engine.write_stall_timeout_ms = 600_000;
    settings.engine.compaction = false;
    if one_segment {
        settings.engine.memtable_bytes = 1 << 30;
        settings.engine.memory_bytes = 2 << 30;
        settings.engine.wal_flush_bytes = 16 << 30;
        settings.engine.wal_max_bytes = 32 << 30;
    }
    settings
}

/// Batches on their way.
struct Writes<'a> {
    collection: &'a Collection,
    batch: Vec<NewRow>,
    in_flight: Option<Receipt>,
    rows: u64,
    /// Processor time of this thread outside of the engine: reading the source.
    reading: Duration,
    since: Duration,
}

impl<'a> Writes<'a> {
    fn new(collection: &'a Collection) -> Self {
        let (batch, reading) = (Vec::with_capacity(BATCH_ROWS), Duration::ZERO);
        Self { collection, batch, in_flight: None, rows: 0, reading, since: thread_cpu_time() }
    }

    fn push(&mut self, row: SourceRow) -> Result<(), SearchError> {
        let id = Id::from(i64::try_from(self.rows).unwrap_or(i64::MAX));
        self.batch.push(NewRow { id, vector: row.vector, payload: row.payload, expires: None });
        self.rows += 1;
        if self.batch.len() == BATCH_ROWS { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), SearchError> {
        self.reading += thread_cpu_time() - self.since;
        if !self.batch.is_empty() {
            let receipt = self.collection.submit(&self.batch)?;
            self.settle()?;
            self.in_flight = Some(receipt);
        }
        self.since = thread_cpu_time();
        self.batch.clear();
        Ok(())
    }

    fn settle(&mut self) -> Result<(), SearchError> {
        self.in_flight.take().map_or(Ok(()), |receipt| receipt.wait().map(|_| ()))?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SearchError> {
        self.send()?;
        self.settle()
    }
}

/// How many segments there are, and their bytes by part.
fn parts(db: &Path) -> Result<(usize, BTreeMap<String, u64>), SearchError> {
    let mut parts = BTreeMap::new();
    let files = segment_files(&db.join("collections"))?;
    for file in &files {
        add_parts(&mut parts, &akidb::inspect_segment(&RealFs, file)?);
    }
    Ok((files.len(), parts))
}

fn add_parts(parts: &mut BTreeMap<String, u64>, segment: &SegmentReport) {
    let mut named = 0;
    let mut add = |name: String, bytes: u64| {
        named += bytes;
        *parts.entry(name).or_default() += bytes;
    };
    for (column, bytes) in segment.row_groups.iter().flat_map(|group| &group.columns) {
        add(format!("column {column}"), u64::try_from(*bytes).unwrap_or(0));
    }
    for section in &segment.sections {
        add(format!("section {}", section.kind), section.len);
    }
    *parts.entry("footer and padding".to_owned()).or_default() += segment.size.saturating_sub(named);
}

fn segment_files(dir: &Path) -> Result<Vec<PathBuf>, SearchError> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for collection in std::fs::read_dir(dir)? {
            for file in std::fs::read_dir(collection?.path())? {
                files.push(file?.path());
            }
        }
        files.retain(|file| file.extension().is_some_and(|ending| ending == "parquet"));
        Ok(files)
    };
    list().map_err(|cause| SearchError::file(dir, "listing the directory", cause))
}
