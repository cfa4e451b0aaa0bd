//! The manifest: the numbered document that names every collection, live segment and the floor of the log.
//!
//! Types and the steps from one manifest to the next live here; bytes in `manifest/format.rs`, files in
//! `manifest/store.rs`, the rules between two manifests in `manifest/invariants.rs`, names that keep one in `manifest/named.rs`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, ErrorKind, Result};
use crate::idempotency::KeptKey;
use crate::lsn::Lsn;
use crate::schema::{FieldType, Schema, check_name};
use crate::segment_meta::SegmentMeta;

mod features;
mod files;
mod format;
mod hex;
mod invariants;
mod named;
mod repair;
mod seen;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use files::NamedFile;
pub use format::{FORMAT_MAJOR, FORMAT_MINOR, file_name, number_of};
pub(crate) use invariants::named_manifests_stay;
pub use invariants::{Broken, check_alone, check_commit};
pub use named::NamedManifest;
pub(crate) use named::check_snapshot_name;
pub(crate) use repair::look_back;
pub use repair::{SteppedBack, repair_step_back};
pub use store::{Kept, Store};

/// Longest slug in the name of a collection's directory.
const MAX_SLUG_BYTES: usize = 40;

/// The compatible feature of a manifest whose writer shows rows before they are synced.
const SHOWS_UNSYNCED: &str = "shows-unsynced";

/// What a reader must know to read a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// Rises when older versions must not read the document.
    pub major: u16,
    /// The lowest that has all fields this document uses, so that older versions read what they can.
    pub minor: u16,
    /// Features a reader may ignore.
    pub compatible: Vec<String>,
    /// Features a reader must know, else it refuses the document.
    pub incompatible: Vec<String>,
}

impl Default for Format {
    fn default() -> Self {
        Self { major: FORMAT_MAJOR, minor: 0, compatible: Vec::new(), incompatible: Vec::new() }
    }
}

/// The manifest before this one, and the checksum its file carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its number.
    pub number: u64,
    /// The crc32 in its last line.
    #[serde(with = "hex::u32_text")]
    pub crc32: u32,
}

/// Why a manifest was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// A database was made.
    Create,
    /// An open for writing took a new epoch.
    Open,
    /// Memtables became segments, or deletes became deletion vectors.
    Flush,
    /// A collection was made, changed or dropped, or a snapshot named or let go.
    Ddl,
    /// Segments were merged.
    Compact,
    /// Clean-up after recovery.
    Recover,
    /// A person ordered a repair.
    Repair,
    /// A clean close.
    Close,
}

/// Who commits a manifest, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The epoch of the open that commits.
    pub writer_epoch: u32,
    /// Random, fresh at each open for writing.
    pub writer_id: u32,
    /// Random, fresh at each commit.
    pub commit_id: u64,
    /// Wall time in microseconds since the Unix epoch.
    pub unix_micros: i64,
}

/// One manifest: a whole picture of the database, never a difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// What a reader must know.
    pub format: Format,
    /// The database, the same from its creation on and in every copy.
    #[serde(with = "hex::display_text")]
    pub db_id: Uuid,
    /// Number of this manifest: dense, from 1, also in the name of its file.
    pub number: u64,
    /// The manifest before; `null` in the first only.
    pub parent: Option<Parent>,
    /// Epoch of the open that wrote it.
    pub writer_epoch: u32,
    /// Random id of the open that wrote it.
    #[serde(with = "hex::u32_text")]
    pub writer_id: u32,
    /// Random id of the commit.
    #[serde(with = "hex::u64_text")]
    pub commit_id: u64,
    /// Wall time of the commit, UTC.
    #[serde(with = "hex::display_text")]
    pub created_at: Timestamp,
    /// Why it was written.
    pub reason: Reason,
    /// Lowest LSN the log must still hold: every record below it is in a segment or a deletion vector.
    #[serde(with = "crate::lsn::text")]
    pub floor: Lsn,
    /// The id the next collection gets; ids are never reused.
    pub next_collection_id: u32,
    /// Live collections, by id.
    pub collections: Vec<CollectionMeta>,
    /// Dropped collections whose files may still lie around.
    pub dropped: Vec<DroppedCollection>,
    /// Keys of batches that lie wholly below the floor, oldest first: what the log does not tell again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idempotency_keys: Vec<KeptKey>,
    /// Manifests that are kept under a name, oldest first; left out where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<NamedManifest>,
}

/// A collection as the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollectionMeta {
    /// Its id, never reused.
    pub id: u32,
    /// Its name, unique whatever its case.
    pub name: String,
    /// Its directory inside `collections/`: `<id>-<slug>`, fixed at creation.
    pub dir: String,
    /// Epoch in which it was created.
    pub created_epoch: u32,
    /// Seed of everything random in its index.
    #[serde(with = "hex::u64_text")]
    pub seed: u64,
    /// Every record of this collection up to here is in a segment or a deletion vector.
    #[serde(with = "crate::lsn::text")]
    pub flushed_lsn: Lsn,
    /// Every version of its schema in order; the last is the current one.
    pub schemas: Vec<Schema>,
    /// Its live segments, oldest first.
    pub segments: Vec<SegmentMeta>,
}

/// A dropped collection whose files may still lie around.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DroppedCollection {
    /// Its id.
    pub id: u32,
    /// Its directory inside `collections/`.
    pub dir: String,
}

/// A manifest together with the checksum of its file: what the next one names as its parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The manifest.
    pub manifest: Manifest,
    /// The crc32 in its last line.
    pub crc32: u32,
}

impl CollectionMeta {
    /// The current schema.
    ///
    /// # Panics
    /// If there is none: `check_alone` refuses such a manifest before anybody sees it.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        self.schemas.last().expect("a checked manifest gives every collection a schema")
    }
}

impl Manifest {
    /// The first manifest of a database without collections. Its floor is the first record of the epoch.
    #[must_use]
    pub fn first(db_id: Uuid, stamp: Stamp) -> Self {
        Self {
            format: Format::default(),
            db_id,
            number: 1,
            parent: None,
            writer_epoch: stamp.writer_epoch,
            writer_id: stamp.writer_id,
            commit_id: stamp.commit_id,
            created_at: timestamp(stamp.unix_micros),
            reason: Reason::Create,
            floor: Lsn::new(stamp.writer_epoch, 1),
            next_collection_id: 1,
            collections: Vec::new(),
            dropped: Vec::new(),
            idempotency_keys: Vec::new(),
            snapshots: Vec::new(),
        }
    }

    /// The collection of that name, whatever the case of its letters.
    #[must_use]
    pub fn collection(&self, name: &str) -> Option<&CollectionMeta> {
        let lower = name.to_lowercase();
        self.collections.iter().find(|c| c.name.to_lowercase() == lower)
    }

    /// Where a collection stands: they are in the order of their ids, which is a rule of every manifest.
    fn place_of(&self, id: u32) -> Option<usize> {
        self.collections.binary_search_by_key(&id, |c| c.id).ok()
    }

    /// The collection with that id.
    #[must_use]
    pub fn collection_by_id(&self, id: u32) -> Option<&CollectionMeta> {
        self.place_of(id).map(|at| &self.collections[at])
    }

    /// The same, to change.
    #[must_use]
    pub fn collection_mut(&mut self, id: u32) -> Option<&mut CollectionMeta> {
        self.place_of(id).map(|at| &mut self.collections[at])
    }

    /// Adds a collection and returns its id. Its `flushed_lsn` lies just below the floor: no record can name
    /// the collection before this manifest is durable, so none of its records is older.
    ///
    /// # Errors
    /// `Invalid`: a name or schema that cannot be stored. `Conflict`: the name is taken, in whatever case.
    pub fn add_collection(&mut self, name: &str, schema: Schema, seed: u64) -> Result<u32> {
        check_name("collection", name)?;
        schema.check()?;
        if let Some(taken) = self.collection(name) {
            let message = format!("collection \"{}\" exists (case does not tell names apart)", taken.name);
            return Err(Error::new(ErrorKind::Conflict, "AKI-0301", message));
        }
        let id = self.next_collection_id;
        let Some(next) = id.checked_add(1) else {
            return Err(Error::new(ErrorKind::Invalid, "AKI-0302", "all collection ids were given out"));
        };
        self.next_collection_id = next;
        self.collections.push(CollectionMeta {
            id,
            name: name.to_owned(),
            dir: dir_name(id, name),
            created_epoch: self.writer_epoch,
            seed,
            flushed_lsn: self.floor.pred(),
            schemas: vec![schema],
            segments: Vec::new(),
        });
        self.note_features();
        Ok(id)
    }

    /// Gives a collection another name. Its directory keeps the old one.
    ///
    /// # Errors
    /// `Invalid`: a name that cannot be stored. `Conflict`: another collection has it, in whatever case. `NotFound`.
    pub fn rename_collection(&mut self, id: u32, name: &str) -> Result<()> {
        check_name("collection", name)?;
        if let Some(taken) = self.collection(name).filter(|taken| taken.id != id) {
            let message = format!("collection \"{}\" exists (case does not tell names apart)", taken.name);
            return Err(Error::new(ErrorKind::Conflict, "AKI-0301", message));
        }
        self.existing(id)?.name = name.to_owned();
        Ok(())
    }

    /// Declares more fields, in a new version of the collection's schema.
    ///
    /// # Errors
    /// `Invalid`: fields that cannot be stored or that there are; all versions were given out. `NotFound`.
    pub fn add_fields(&mut self, id: u32, fields: &[(&str, FieldType)]) -> Result<()> {
        self.add_schema(id, |schema| {
            Ok(fields.iter().fold(schema, |schema, (name, field_type)| schema.field(*name, *field_type)))
        })
    }

    /// Lets rows of a collection expire by a declared timestamp, in a new version of its schema.
    ///
    /// # Errors
    /// `Invalid`: no such timestamp is declared; they expire by another field; all versions were given out. `NotFound`.
    pub fn expire_by(&mut self, id: u32, field: &str) -> Result<()> {
        self.add_schema(id, |schema| match &schema.expires_by {
            Some(other) if other != field => {
                let message = format!("rows cannot expire by \"{field}\": they do by \"{other}\"");
                Err(Error::invalid("AKI-0278", message)
                    .help_is("write the rows to a new collection that expires by it"))
            }
            _ => Ok(schema.expires_by(field)),
        })?;
        self.note_features();
        Ok(())
    }

    fn add_schema(&mut self, id: u32, change: impl FnOnce(Schema) -> Result<Schema>) -> Result<()> {
        let collection = self.existing(id)?;
        let mut schema = collection.schema().clone();
        let Some(version) = schema.version.checked_add(1) else {
            return Err(Error::invalid("AKI-0115", "all versions of this schema were given out"));
        };
        schema.version = version;
        let schema = change(schema)?;
        schema.check()?;
        collection.schemas.push(schema);
        Ok(())
    }

    fn existing(&mut self, id: u32) -> Result<&mut CollectionMeta> {
        self.collection_mut(id).ok_or_else(Error::dropped)
    }

    /// Whether the writer of this manifest shows rows that are not synced (`durability = "memory"`) and has not said
    /// that they all are by now, by a clean close.
    #[must_use]
    pub fn shows_unsynced(&self) -> bool {
        self.format.compatible.iter().any(|feature| feature == SHOWS_UNSYNCED)
    }

    /// Notes whether the writer shows rows that are not synced.
    pub fn note_shows_unsynced(&mut self, shows: bool) {
        self.format.compatible.retain(|feature| feature != SHOWS_UNSYNCED);
        if shows {
            self.format.compatible.push(SHOWS_UNSYNCED.to_owned());
        }
    }

    /// The lowest minor format that has every field this manifest uses.
    #[must_use]
    pub fn minor_needed(&self) -> u16 {
        if !self.idempotency_keys.is_empty() {
            return format::MINOR_OF_KEYS;
        }
        let mut segments = self.collections.iter().flat_map(|c| &c.segments);
        if segments.any(|s| s.head.is_some() || s.codes.is_some()) { format::MINOR_OF_INDEX } else { 0 }
    }

    /// Drops a collection; its directory is remembered until a commit finds it gone ([`Manifest::forget_dropped`]). False if there is
    /// none with that id.
    pub fn drop_collection(&mut self, id: u32) -> bool {
        let Some(at) = self.collections.iter().position(|c| c.id == id) else { return false };
        let gone = self.collections.remove(at);
        self.dropped.push(DroppedCollection { id: gone.id, dir: gone.dir });
        self.note_features();
        true
    }

    /// Forgets a dropped collection whose files are gone.
    pub fn forget_dropped(&mut self, id: u32) {
        self.dropped.retain(|d| d.id != id);
    }

    /// Sets every collection's `flushed_lsn` and then the floor. `oldest_unflushed` says for a collection the
    /// lowest LSN that is in no segment or deletion vector of *this* manifest; `visible` is the last LSN
    /// readers may see. A collection with nothing unflushed is flushed up to `visible`, one with something up
    /// to just below it; the floor lies one above the lowest of them, or above `visible`. Nothing ever falls.
    pub fn settle_floor(&mut self, visible: Lsn, oldest_unflushed: impl Fn(u32) -> Option<Lsn>) {
        let mut lowest = visible;
        for collection in &mut self.collections {
            let flushed = oldest_unflushed(collection.id).map_or(visible, Lsn::pred);
            collection.flushed_lsn = collection.flushed_lsn.max(flushed);
            lowest = lowest.min(collection.flushed_lsn);
        }
        let above = Lsn::from_u64(lowest.as_u64() + 1).unwrap_or(Lsn::MAX);
        self.floor = self.floor.max(above);
    }
}

impl Committed {
    /// A copy to change and commit next: its number one higher, its parent this one.
    #[must_use]
    pub fn successor(&self, stamp: Stamp, reason: Reason) -> Manifest {
        let mut next = self.manifest.clone();
        next.number += 1;
        next.parent = Some(Parent { number: self.manifest.number, crc32: self.crc32 });
        next.writer_epoch = stamp.writer_epoch;
        next.writer_id = stamp.writer_id;
        next.commit_id = stamp.commit_id;
        next.created_at = timestamp(stamp.unix_micros);
        next.reason = reason;
        next
    }
}

/// The directory of a collection inside `collections/`: its id, and what of its name is safe in a path. At
/// most 40 bytes of lower-case letters, digits and single dashes, so no name can climb out of its place.
#[must_use]
pub fn dir_name(id: u32, name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        if slug.len() == MAX_SLUG_BYTES {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { format!("{id}-collection") } else { format!("{id}-{slug}") }
}

/// The time of a stamp; a clock outside the calendar's years is shown as the year's end, never an error.
fn timestamp(unix_micros: i64) -> Timestamp {
    Timestamp::from_microsecond(unix_micros).unwrap_or(if unix_micros < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}
