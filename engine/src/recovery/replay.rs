//! The log's tail into memtables, within the memory of a running database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use akidb_wal::Recovered;

use super::RecoveryReport;
use crate::apply::Applier;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::flush;
use crate::id::Id;
use crate::idempotency::BatchKey;
use crate::limits::Limits;
use crate::log::from_wal;
use crate::lsn::Lsn;
use crate::manifest::Manifest;
use crate::ops::{Change, Memory, Op};
use crate::record::{self, Record};
use crate::row::{self, Row};
use crate::schema::{IdKind, Schema};

/// Bytes of records between two looks at the memory they took.
const LOOK_EVERY_BYTES: usize = 16 << 10;
/// Bytes of records whose ids are looked up together.
const CHUNK_BYTES: usize = 4 << 20;

/// Of each collection the versions of its schema, and up to where it is flushed.
pub(super) type Schemas = BTreeMap<u32, (Vec<Arc<Schema>>, Lsn)>;

/// Keeps a replay within the memory of a running database. A full memtable is only sealed: the driver flushes it behind
/// the open. Above the bound of all memtables it is flushed here and now.
pub(super) fn give_memory_back(engine: &Engine, applier: &Applier<Memory>, limits: &Limits) -> Result<()> {
    loop {
        let current = applier.published().current();
        let catalog = current.content();
        let healthy = || catalog.collections.values().filter(|state| state.damage.get().is_none());
        if let Some(full) =
            healthy().find(|s| s.active.bytes() >= limits.memtable_bytes || s.active.is_full())
        {
            flush::seal(engine.writer()?, full.id);
            continue;
        }
        let memory = &engine.place.memory;
        memory.note_flushes(catalog.held_memtable_bytes(&BTreeSet::new()), false);
        if !memory.is_asked() {
            // Where another database holds more, that one flushes.
            memory.call_first();
            return Ok(());
        }
        let sealed = healthy().find(|state| !state.sealed.is_empty());
        let largest = || healthy().filter(|s| s.active.bytes() > 0).max_by_key(|s| s.active.bytes());
        let Some(due) = sealed.or_else(largest).map(|state| state.id) else { return Ok(()) };
        if sealed.is_none() {
            flush::seal(engine.writer()?, due);
        }
        flush::flush_oldest(engine, due)?;
    }
}

/// Applies the log's frames above what is flushed, one at a time and in order, so that memory can be given back
/// in between. Some are decoded ahead.
pub(super) fn replay(
    applier: &Applier<Memory>,
    recovered: Recovered,
    manifest: &Manifest,
    schemas: &Schemas,
    report: &mut RecoveryReport,
    mut after: impl FnMut() -> Result<()>,
) -> Result<()> {
    let mut chunk = Chunk::default();
    let mut frame = Vec::new();
    let mut first = None;
    let mut range: Option<(Lsn, Lsn)> = None;
    let mut bytes = 0;
    for item in recovered.records.iter() {
        let item = item.map_err(|error| from_wal(&error))?;
        if item.lsn < manifest.floor {
            report.skipped_records += 1;
            continue;
        }
        let op = replayed_op(&item, schemas)?;
        if op.is_nothing() {
            report.skipped_records += 1;
        } else {
            report.replayed_records += 1;
            range = Some((range.map_or(item.lsn, |(from, _)| from), item.lsn));
        }
        first.get_or_insert(item.lsn);
        frame.push(op);
        bytes += item.bytes.len();
        if item.lsn == item.frame_last {
            let (ops, first) = (std::mem::take(&mut frame), first.take().expect("set above"));
            chunk.frames.push(Frame { ops, first, last: item.frame_last, bytes });
            chunk.bytes += std::mem::take(&mut bytes);
            if chunk.bytes >= CHUNK_BYTES {
                chunk.apply(applier, &mut after)?;
            }
        }
    }
    chunk.apply(applier, &mut after)?;
    assert!(frame.is_empty(), "the log handed out half a frame");
    report.replayed = range.map(|(from, to)| [from.to_string(), to.to_string()]);
    Ok(())
}

struct Frame {
    ops: Vec<Op>,
    first: Lsn,
    last: Lsn,
    bytes: usize,
}

/// Frames that are decoded and not yet applied.
#[derive(Default)]
struct Chunk {
    frames: Vec<Frame>,
    bytes: usize,
}

impl Chunk {
    /// Applies them, one at a time and in order.
    fn apply(&mut self, applier: &Applier<Memory>, after: &mut impl FnMut() -> Result<()>) -> Result<()> {
        self.look_up(applier);
        let mut bytes = 0;
        for frame in self.frames.drain(..) {
            applier.apply_now(&frame.ops, frame.first, frame.last);
            bytes += frame.bytes;
            if bytes >= LOOK_EVERY_BYTES {
                bytes = 0;
                after()?;
            }
        }
        self.bytes = 0;
        Ok(())
    }

    /// Looks the ids up in the segments, all at once. What a flush makes stale in between is looked up again when its turn
    /// comes.
    fn look_up(&self, applier: &Applier<Memory>) {
        let current = applier.published().current();
        let mut by_collection: BTreeMap<u32, Vec<&Op>> = BTreeMap::new();
        for op in self.frames.iter().flat_map(|frame| &frame.ops).filter(|op| !op.is_nothing()) {
            by_collection.entry(op.collection()).or_default().push(op);
        }
        for (id, ops) in by_collection {
            if let Some(collection) = current.content().collections.get(&id) {
                Op::prepare_each(&ops, collection);
            }
        }
    }
}

fn replayed_op(item: &akidb_wal::Record<'_>, schemas: &Schemas) -> Result<Op> {
    let bad = |what: String| {
        let message = format!("record {} is whole but cannot be read: {what}", item.lsn);
        Error::new(ErrorKind::Corrupt, "AKI-0226", message)
            .help_is("it was written by another version or by a bug; please report it, with the file")
    };
    let record = Record::decode(item.bytes).map_err(|error| match error.is_newer_format() {
        true => Error::new(ErrorKind::NewerFormat, "AKI-0227", format!("record {}: {error}", item.lsn))
            .help_is("a newer version wrote it: open the database with that version"),
        false => bad(error.to_string()),
    })?;
    let op = replayed_change(item.lsn, &record, schemas).map_err(bad)?;
    if !record.names_batch {
        return Ok(op);
    }
    let key = BatchKey::decode(record.idempotency_key, item.lsn);
    Ok(op.naming(key.ok_or_else(|| bad("the key of its batch".to_owned()))?))
}

/// What the record does that no segment holds yet; an error says what of it makes no sense.
fn replayed_change(lsn: Lsn, record: &Record<'_>, schemas: &Schemas) -> Result<Op, String> {
    // Ids of collections are never reused, so a record of an unknown one is of a dropped one.
    let Some((versions, flushed)) = schemas.get(&record.collection) else {
        return Ok(Op::nothing(record.collection));
    };
    if lsn <= *flushed {
        return Ok(Op::nothing(record.collection));
    }
    let newest = versions.last().expect("a collection has a schema");
    let id = Id::from_key(record.key, newest.id_kind == IdKind::Int).ok_or("the id")?;
    let change = match record.op {
        record::Op::Delete => Change::Delete(id),
        record::Op::Upsert => {
            let schema = versions.iter().find(|schema| schema.version == record.schema);
            let schema = schema.ok_or_else(|| format!("schema version {}", record.schema))?;
            let (fields, rest) =
                row::split_logged(schema, record.payload).map_err(|error| error.to_string())?;
            Change::Upsert(Arc::new(Row { id, vector: record.vector.to_f32(), fields, rest }))
        }
    };
    Ok(Op::new(record.collection, change))
}
