//! Records of the log as the operations of frames.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::id::Id;
use crate::idempotency::BatchKey;
use crate::lsn::Lsn;
use crate::memory_budget::{Account, Charge, MemoryUse};
use crate::ops::{Change, Op};
use crate::record::{self, Record};
use crate::row::{self, Row};
use crate::schema::{IdKind, Schema};

/// What a record takes while it is replayed, beside what it holds: the record as it was taken, its operation, its place among
/// those whose ids are looked up, the allocations of its row.
const OP_BYTES: usize = size_of::<akidb_wal::Record<'_>>() + size_of::<Op>() + 160;

/// Of each collection the versions of its schema, and up to where it is flushed.
pub(super) type Schemas = BTreeMap<u32, (Vec<Arc<Schema>>, Lsn)>;

/// A frame to be applied.
pub(super) struct Frame {
    pub(super) ops: Vec<Op>,
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    /// Of its records.
    pub(super) bytes: usize,
}

/// Whole frames that follow each other in the log.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) frames: Vec<Frame>,
    /// Of their records.
    pub(super) bytes: usize,
    /// Records that are only counted.
    pub(super) skipped: u64,
    pub(super) replayed: u64,
    /// The first and the last that are not.
    pub(super) range: Option<(Lsn, Lsn)>,
    /// What is held for it until its rows are in memtables.
    pub(super) _held: Option<Charge>,
}

impl Piece {
    /// The frames of these records, of which none may be cut; those below the floor are left out.
    ///
    /// # Errors
    /// `Corrupt` or `NewerFormat`: a record that is whole but makes no sense here.
    pub(super) fn decode(
        records: &[akidb_wal::Record<'_>],
        floor: Lsn,
        schemas: &Schemas,
        memory: &Account,
    ) -> Result<Self> {
        let bytes: usize = records.iter().map(|record| record.bytes.len() + OP_BYTES).sum();
        let held = memory.charge(MemoryUse::Writes, bytes as u64);
        let mut piece = Self { _held: Some(held), ..Self::default() };
        let mut frame: Option<Frame> = None;
        for item in records {
            if item.lsn < floor {
                piece.skipped += 1;
                continue;
            }
            let op = replayed_op(item, schemas)?;
            if op.is_nothing() {
                piece.skipped += 1;
            } else {
                piece.replayed += 1;
                piece.range = Some((piece.range.map_or(item.lsn, |(from, _)| from), item.lsn));
            }
            let open = frame.get_or_insert_with(|| Frame::of(item));
            open.ops.push(op);
            open.bytes += item.bytes.len();
            piece.bytes += item.bytes.len();
            if item.lsn == item.frame_last {
                piece.frames.extend(frame.take());
            }
        }
        assert!(frame.is_none(), "the log handed out half a frame");
        Ok(piece)
    }
}

impl Frame {
    /// The frame that begins with this record, with room for all of its operations.
    fn of(first: &akidb_wal::Record<'_>) -> Self {
        let records = first.frame_last.as_u64() - first.lsn.as_u64() + 1;
        let ops = Vec::with_capacity(usize::try_from(records).unwrap_or_default());
        Self { ops, first: first.lsn, last: first.frame_last, bytes: 0 }
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
