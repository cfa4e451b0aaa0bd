//! The log's tail as it was recovered: its records, and what each asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use akidb_wal::Records;

use crate::error::{Error, ErrorKind, Result};
use crate::id::Id;
use crate::lsn::Lsn;
use crate::ops::{Change, Op};
use crate::record::{self, Record};
use crate::row::{self, Row};
use crate::schema::{IdKind, Schema};

/// Of each collection the versions of its schema, and up to where it is flushed.
pub(super) type Schemas = BTreeMap<u32, (Vec<Arc<Schema>>, Lsn)>;

/// The records of a log and what it takes to read them.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) records: Records,
    /// Records below are flushed.
    pub(super) floor: Lsn,
    pub(super) schemas: Schemas,
}

impl Tail {
    /// What a record asks for.
    ///
    /// # Errors
    /// `NewerFormat`, `Corrupt`.
    pub(super) fn op(&self, item: &akidb_wal::Record<'_>) -> Result<Op> {
        replayed_op(item, &self.schemas)
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
    // Ids of collections are never reused, so a record of an unknown one is of a dropped one.
    let Some((versions, flushed)) = schemas.get(&record.collection) else {
        return Ok(Op::nothing(record.collection));
    };
    if item.lsn <= *flushed {
        return Ok(Op::nothing(record.collection));
    }
    let newest = versions.last().expect("a collection has a schema");
    let id =
        Id::from_key(record.key, newest.id_kind == IdKind::Int).ok_or_else(|| bad("the id".to_owned()))?;
    let change = match record.op {
        record::Op::Delete => Change::Delete(id),
        record::Op::Upsert => {
            let schema = versions.iter().find(|schema| schema.version == record.schema);
            let schema = schema.ok_or_else(|| bad(format!("schema version {}", record.schema)))?;
            let (fields, rest) =
                row::split_logged(schema, record.payload).map_err(|error| bad(error.to_string()))?;
            Change::Upsert(Arc::new(Row { id, vector: record.vector.to_f32(), fields, rest }))
        }
    };
    Ok(Op::new(record.collection, change))
}
