//! The rules every manifest obeys, alone and after its parent; each is a function, checked before a commit and
//! again after reading.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;

use super::features::ROW_EXPIRY;
use super::{CollectionMeta, Committed, Manifest, Reason};
use crate::idempotency::BatchKey;
use crate::lsn::Lsn;
use crate::schema::{IdKind, Schema, check_name};
use crate::segment_meta::{DeletionVectorRef, SegmentMeta};

mod named;

pub(crate) use named::named_manifests_stay;

/// A rule that a manifest breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule, as the function here is called.
    pub rule: &'static str,
    /// What breaks it.
    pub detail: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the manifest breaks the rule {}: {}", self.rule, self.detail)
    }
}

type Checked = Result<(), Broken>;

/// Checks the rules a manifest must obey whatever came before it.
///
/// # Errors
/// The first rule found broken.
pub fn check_alone(m: &Manifest) -> Checked {
    format_has_the_fields(m)?;
    number_and_parent_agree(m)?;
    epochs_are_in_range(m)?;
    collection_ids_are_unique(m)?;
    collection_names_are_unique(m)?;
    collection_dirs_stay_inside(m)?;
    for collection in &m.collections {
        schemas_only_grow(collection)?;
        for segment in &collection.segments {
            segment_is_whole(m, collection, segment)?;
            segment_is_flushed(collection, segment)?;
            deletion_vector_is_whole(collection, segment)?;
        }
    }
    segment_files_are_unique(m)?;
    keys_lie_below_the_floor(m)?;
    row_expiry_is_announced(m)?;
    named::named_snapshots_are_announced(m)?;
    named::named_snapshots_are_whole(m)?;
    named::named_snapshot_is_flushed(m)?;
    floor_is_covered(m)
}

/// Checks everything: `next` alone, and against the manifest before it (`None` for the first of a database).
///
/// # Errors
/// The first rule found broken.
pub fn check_commit(parent: Option<&Committed>, next: &Manifest) -> Checked {
    check_alone(next)?;
    let Some(parent) = parent else { return first_has_no_parent(next) };
    numbers_are_dense(parent, next)?;
    parent_is_named(parent, next)?;
    let parent = &parent.manifest;
    database_is_the_same(parent, next)?;
    epoch_never_falls(parent, next)?;
    collection_ids_are_never_reused(parent, next)?;
    dropped_collections_are_remembered(parent, next)?;
    floor_never_falls(parent, next)?;
    for collection in &next.collections {
        let Some(before) = parent.collection_by_id(collection.id) else { continue };
        collection_stays_itself(before, collection)?;
        schema_history_stays(before, collection)?;
        flushed_never_falls(before, collection)?;
        let older: HashMap<&str, &SegmentMeta> =
            before.segments.iter().map(|segment| (segment.file.as_str(), segment)).collect();
        for segment in &collection.segments {
            let Some(older) = older.get(segment.file.as_str()) else { continue };
            segments_never_change(older, segment)?;
            deletion_vectors_only_grow(older, segment)?;
        }
        compaction_keeps_every_live_row(next.reason, before, collection)?;
    }
    named::names_stay_with_their_manifests(parent, next)?;
    segments_stay_in_their_collection(parent, next)
}

fn hold(rule: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(Broken { rule, detail: detail() }) }
}

/// Numbers start at 1, and a manifest that names a parent is one above it.
fn number_and_parent_agree(m: &Manifest) -> Checked {
    let agree = m.number > 0 && m.parent.is_none_or(|p| p.number.checked_add(1) == Some(m.number));
    hold("number_and_parent_agree", agree && (m.parent.is_some() || m.number == 1), || {
        format!("number {} after {:?}", m.number, m.parent.map(|p| p.number))
    })
}

/// The epoch is one an LSN can hold, and nothing in the manifest is of a later one.
fn epochs_are_in_range(m: &Manifest) -> Checked {
    let top = m.writer_epoch;
    hold("epochs_are_in_range", top > 0 && top <= Lsn::MAX_EPOCH, || format!("epoch {top}"))?;
    hold("epochs_are_in_range", m.floor.epoch() <= top, || format!("floor {} in epoch {top}", m.floor))?;
    for c in &m.collections {
        hold("epochs_are_in_range", c.flushed_lsn.epoch() <= top && c.created_epoch <= top, || {
            format!(
                "\"{}\" made in {}, flushed to {}, in epoch {top}",
                c.name, c.created_epoch, c.flushed_lsn
            )
        })?;
    }
    Ok(())
}

/// Ids of live and dropped collections differ and lie below the next one; live ones stand in order.
fn collection_ids_are_unique(m: &Manifest) -> Checked {
    let rule = "collection_ids_are_unique";
    let ordered = m.collections.is_sorted_by(|a, b| a.id < b.id);
    hold(rule, ordered, || "collections are not in the order of their ids".into())?;
    let mut seen = HashSet::new();
    for id in m.collections.iter().map(|c| c.id).chain(m.dropped.iter().map(|d| d.id)) {
        let good = id > 0 && id < m.next_collection_id && seen.insert(id);
        hold(rule, good, || format!("id {id} (the next is {})", m.next_collection_id))?;
    }
    Ok(())
}

/// Names of collections can be stored and differ in more than case.
fn collection_names_are_unique(m: &Manifest) -> Checked {
    let mut seen = HashSet::new();
    for c in &m.collections {
        let good = check_name("collection", &c.name).is_ok() && seen.insert(c.name.to_lowercase());
        hold("collection_names_are_unique", good, || format!("name {:?}", c.name))?;
    }
    Ok(())
}

/// A collection's directory is its id, a dash and letters, digits and dashes: no path can leave its place.
fn collection_dirs_stay_inside(m: &Manifest) -> Checked {
    let live = m.collections.iter().map(|c| (c.id, &c.dir));
    for (id, dir) in live.chain(m.dropped.iter().map(|d| (d.id, &d.dir))) {
        let slug = dir.strip_prefix(&format!("{id}-")).unwrap_or_default();
        let plain = slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let good = !slug.is_empty() && slug.len() <= super::MAX_SLUG_BYTES && plain;
        hold("collection_dirs_stay_inside", good, || format!("collection {id} in {dir:?}"))?;
    }
    Ok(())
}

/// Schema versions count from 1; each next one keeps dimension, metric, kind of id, what rows expire by if they do, and all
/// fields in place, and adds fields with new ids.
fn schemas_only_grow(c: &CollectionMeta) -> Checked {
    let rule = "schemas_only_grow";
    hold(rule, !c.schemas.is_empty(), || format!("\"{}\" has no schema", c.name))?;
    for (at, schema) in c.schemas.iter().enumerate() {
        let numbered = usize::from(schema.version) == at + 1;
        hold(rule, numbered, || format!("\"{}\" has version {} at {at}", c.name, schema.version))?;
        let sound = schema.check().err().map(|e| e.message().to_owned());
        hold(rule, sound.is_none(), || sound.unwrap_or_default())?;
    }
    for pair in c.schemas.windows(2) {
        hold(rule, grows(&pair[0], &pair[1]), || {
            format!("version {} of \"{}\" changes what was there", pair[1].version, c.name)
        })?;
    }
    Ok(())
}

fn grows(from: &Schema, to: &Schema) -> bool {
    let top = from.fields.iter().map(|f| f.id).max().unwrap_or(0);
    (from.dim, from.metric, from.id_kind) == (to.dim, to.metric, to.id_kind)
        && (from.expires_by.is_none() || from.expires_by == to.expires_by)
        && to.fields.starts_with(&from.fields)
        && to.fields[from.fields.len()..].iter().all(|f| f.id > top)
}

/// A manifest says a format that has every field it uses, or an older version would take it for damaged.
fn format_has_the_fields(m: &Manifest) -> Checked {
    let (said, needed) = (m.format.minor, m.minor_needed());
    hold("format_has_the_fields", said >= needed, || format!("minor format {said}, and fields of {needed}"))
}

/// Versions that would show expired rows stay away while rows of any collection expire, and no longer.
fn row_expiry_is_announced(m: &Manifest) -> Checked {
    let (said, expires) = (m.says_incompatible(ROW_EXPIRY), m.has_expiry());
    hold("row_expiry_is_announced", said == expires, || {
        format!("rows of a collection expire: {expires}, feature {ROW_EXPIRY}: {said}")
    })
}

/// A segment's own facts fit together: name, epoch, rows, LSNs, ids, schema and places inside the file.
fn segment_is_whole(m: &Manifest, c: &CollectionMeta, s: &SegmentMeta) -> Checked {
    let rule = "segment_is_whole";
    let epoch = segment_epoch(&s.file);
    let named = epoch.is_some_and(|e| e > 0 && e <= m.writer_epoch);
    hold(rule, named, || format!("file name {:?} in epoch {}", s.file, m.writer_epoch))?;
    let bad = |what: &str| format!("{}: {what}", s.file);
    hold(rule, s.rows > 0, || bad("no rows"))?;
    hold(rule, s.min_lsn > Lsn::ZERO && s.min_lsn <= s.max_lsn, || bad("min_lsn above max_lsn"))?;
    hold(rule, s.group_bits < 32, || bad("group_bits over 31"))?;
    let known = c.schemas.iter().any(|schema| schema.version == s.schema);
    hold(rule, known, || bad(&format!("schema {} unknown", s.schema)))?;
    let kind = c.schemas.first().map(|schema| schema.id_kind).unwrap_or_default();
    hold(rule, ids_are_ordered(kind, &s.ids), || bad("smallest id above the largest, or no id"))?;
    hold(rule, s.head.is_some() == s.codes.is_some(), || bad("half of a vector index"))?;
    for place in [Some(s.check), s.id_index, s.head, s.codes].into_iter().flatten() {
        let inside = place.offset.checked_add(place.len).is_some_and(|end| end <= s.size);
        hold(rule, inside, || bad("a section ends past the file"))?;
    }
    hold(rule, s.vectors.iter().all(|at| *at < s.size), || bad("vectors lie past the file"))
}

/// The epoch in a segment's file name `{epoch:08}-{seq:08}-{writer:08x}.parquet`; `None` for any other name.
fn segment_epoch(file: &str) -> Option<u32> {
    let mut parts = file.strip_suffix(".parquet")?.split('-');
    let (epoch, seq, writer) = (parts.next()?, parts.next()?, parts.next()?);
    let digits = |text: &str| text.len() >= 8 && text.bytes().all(|b| b.is_ascii_digit());
    let writer_is_hex = super::hex::parse_u32(writer).is_some();
    (parts.next().is_none() && digits(epoch) && digits(seq) && writer_is_hex).then_some(())?;
    epoch.parse().ok()
}

fn ids_are_ordered(kind: IdKind, [low, high]: &[String; 2]) -> bool {
    let order = match kind {
        IdKind::Text => Some(low.as_bytes().cmp(high.as_bytes())).filter(|_| !low.is_empty()),
        IdKind::Int => low.parse::<i64>().ok().zip(high.parse::<i64>().ok()).map(|(l, h)| l.cmp(&h)),
    };
    order.is_some_and(Ordering::is_le)
}

/// No row of a segment is newer than what its collection says is flushed.
fn segment_is_flushed(c: &CollectionMeta, s: &SegmentMeta) -> Checked {
    hold("segment_is_flushed", s.max_lsn <= c.flushed_lsn, || {
        format!("{} holds rows to {}, \"{}\" is flushed to {}", s.file, s.max_lsn, c.name, c.flushed_lsn)
    })
}

/// A deletion vector names some rows, no more than there are, and a file inside the collection's `dv`.
fn deletion_vector_is_whole(c: &CollectionMeta, s: &SegmentMeta) -> Checked {
    let Some(dv) = &s.deletion_vector else { return Ok(()) };
    let dead = dv.count();
    let placed = match dv {
        DeletionVectorRef::Inline { z85, .. } => !z85.is_empty(),
        DeletionVectorRef::File { file, offset, len, size, .. } => {
            dv_file_is_plain(file) && u64::from(*offset) + u64::from(*len) <= *size
        }
    };
    hold("deletion_vector_is_whole", placed && dead > 0 && dead <= s.rows, || {
        format!("{} of \"{}\": {dead} dead of {} rows", s.file, c.name, s.rows)
    })
}

/// `deletion_vector_<uuid>.bin`, Delta's name.
fn dv_file_is_plain(file: &str) -> bool {
    let id = file.strip_prefix("deletion_vector_").and_then(|rest| rest.strip_suffix(".bin"));
    id.is_some_and(|id| uuid::Uuid::try_parse(id).is_ok())
}

/// No two segments share a file name, whatever their collections.
fn segment_files_are_unique(m: &Manifest) -> Checked {
    let mut seen = HashSet::new();
    for s in m.collections.iter().flat_map(|c| &c.segments) {
        hold("segment_files_are_unique", seen.insert(&s.file), || s.file.clone())?;
    }
    Ok(())
}

/// Every record below the floor is flushed in its collection: the log may forget it.
fn floor_is_covered(m: &Manifest) -> Checked {
    for c in &m.collections {
        hold("floor_is_covered", m.floor.pred() <= c.flushed_lsn, || {
            format!("floor {}, but \"{}\" is flushed to {} only", m.floor, c.name, c.flushed_lsn)
        })?;
    }
    Ok(())
}

/// Keys of batches stand in the order of their LSNs, and each batch lies wholly below the floor: what lies above is told
/// by the log, and by nothing if that is not at hand.
fn keys_lie_below_the_floor(m: &Manifest) -> Checked {
    let rule = "keys_lie_below_the_floor";
    let ordered = m.idempotency_keys.is_sorted_by(|a, b| a.last < b.last);
    hold(rule, ordered, || "keys of batches are not in the order of their LSNs".into())?;
    for kept in &m.idempotency_keys {
        let (first, last) = (kept.first, kept.last);
        let whole = first <= last && first.epoch() == last.epoch() && BatchKey::check(&kept.key).is_ok();
        hold(rule, whole && last < m.floor, || format!("{kept}, and the floor is {}", m.floor))?;
    }
    Ok(())
}

/// The first manifest of a database is number 1 and names no parent.
fn first_has_no_parent(next: &Manifest) -> Checked {
    hold("first_has_no_parent", next.number == 1 && next.parent.is_none(), || {
        format!("number {} without a manifest before it", next.number)
    })
}

/// A manifest's number is one above the one before it.
fn numbers_are_dense(parent: &Committed, next: &Manifest) -> Checked {
    let before = parent.manifest.number;
    hold("numbers_are_dense", before.checked_add(1) == Some(next.number), || {
        format!("{} after {before}", next.number)
    })
}

/// A manifest names the one before it, by number and checksum.
fn parent_is_named(parent: &Committed, next: &Manifest) -> Checked {
    let named = next.parent.is_some_and(|p| p.number == parent.manifest.number && p.crc32 == parent.crc32);
    hold("parent_is_named", named, || {
        format!(
            "{:?} is not manifest {} with crc32 {:08x}",
            next.parent, parent.manifest.number, parent.crc32
        )
    })
}

/// All manifests of a directory are of one database.
fn database_is_the_same(parent: &Manifest, next: &Manifest) -> Checked {
    hold("database_is_the_same", parent.db_id == next.db_id, || {
        format!("{} after {}", next.db_id, parent.db_id)
    })
}

/// The writer's epoch never falls, and one epoch has one writer.
fn epoch_never_falls(parent: &Manifest, next: &Manifest) -> Checked {
    let (before, after) = (parent.writer_epoch, next.writer_epoch);
    let one_writer = before != after || parent.writer_id == next.writer_id;
    hold("epoch_never_falls", after >= before && one_writer, || {
        format!("{after} by {:08x} after {before} by {:08x}", next.writer_id, parent.writer_id)
    })
}

/// An id that was ever given out is not given out again.
fn collection_ids_are_never_reused(parent: &Manifest, next: &Manifest) -> Checked {
    let rule = "collection_ids_are_never_reused";
    let (before, after) = (parent.next_collection_id, next.next_collection_id);
    hold(rule, after >= before, || format!("the next id falls from {before} to {after}"))?;
    for c in &next.collections {
        let known = parent.collection_by_id(c.id).is_some();
        hold(rule, known || c.id >= before, || format!("\"{}\" takes the used id {}", c.name, c.id))?;
    }
    let dropped: HashSet<(u32, &str)> = parent.dropped.iter().map(|d| (d.id, d.dir.as_str())).collect();
    for d in &next.dropped {
        let was = parent.collection_by_id(d.id).is_some_and(|c| c.dir == d.dir)
            || dropped.contains(&(d.id, d.dir.as_str()))
            || d.id >= before;
        hold(rule, was, || format!("{} is dropped but never was", d.dir))?;
    }
    Ok(())
}

/// A collection that is gone stands among the dropped ones, so that its files are found and removed.
fn dropped_collections_are_remembered(parent: &Manifest, next: &Manifest) -> Checked {
    let dropped: HashSet<u32> = next.dropped.iter().map(|d| d.id).collect();
    for c in &parent.collections {
        let there = next.collection_by_id(c.id).is_some() || dropped.contains(&c.id);
        hold("dropped_collections_are_remembered", there, || format!("\"{}\" vanished", c.name))?;
    }
    Ok(())
}

/// The floor never falls: what the log forgot stays forgotten.
fn floor_never_falls(parent: &Manifest, next: &Manifest) -> Checked {
    hold("floor_never_falls", next.floor >= parent.floor, || format!("{} after {}", next.floor, parent.floor))
}

/// Directory, seed and birth of a collection never change.
fn collection_stays_itself(before: &CollectionMeta, after: &CollectionMeta) -> Checked {
    let same =
        (&before.dir, before.seed, before.created_epoch) == (&after.dir, after.seed, after.created_epoch);
    hold("collection_stays_itself", same, || format!("collection {} (\"{}\")", after.id, after.name))
}

/// Schema versions are only appended.
fn schema_history_stays(before: &CollectionMeta, after: &CollectionMeta) -> Checked {
    hold("schema_history_stays", after.schemas.starts_with(&before.schemas), || {
        format!("an old schema of \"{}\" changed", after.name)
    })
}

/// A collection's `flushed_lsn` never falls.
fn flushed_never_falls(before: &CollectionMeta, after: &CollectionMeta) -> Checked {
    hold("flushed_never_falls", after.flushed_lsn >= before.flushed_lsn, || {
        format!("\"{}\" from {} to {}", after.name, before.flushed_lsn, after.flushed_lsn)
    })
}

/// A segment under one name is one file for ever: only its deletion vector changes.
fn segments_never_change(before: &SegmentMeta, after: &SegmentMeta) -> Checked {
    let mut same = after.clone();
    same.deletion_vector.clone_from(&before.deletion_vector);
    hold("segments_never_change", same == *before, || after.file.clone())
}

/// While a segment lives, dead rows stay dead.
fn deletion_vectors_only_grow(before: &SegmentMeta, after: &SegmentMeta) -> Checked {
    let (was, is) = (before.dead_rows(), after.dead_rows());
    hold("deletion_vectors_only_grow", is >= was, || format!("{}: {is} dead rows after {was}", after.file))
}

/// A merge drops dead rows and no others, and flushes nothing.
fn compaction_keeps_every_live_row(
    reason: Reason,
    before: &CollectionMeta,
    after: &CollectionMeta,
) -> Checked {
    if reason != Reason::Compact {
        return Ok(());
    }
    let rule = "compaction_keeps_every_live_row";
    let live = |c: &CollectionMeta| -> u64 {
        let one = |s: &SegmentMeta| u64::from(s.rows - s.dead_rows());
        c.segments.iter().map(one).sum()
    };
    hold(rule, live(before) == live(after), || {
        format!("\"{}\" has {} live rows after {}", after.name, live(after), live(before))
    })?;
    hold(rule, before.flushed_lsn == after.flushed_lsn, || {
        format!("\"{}\" is flushed to {} after {}", after.name, after.flushed_lsn, before.flushed_lsn)
    })
}

/// A segment never moves to another collection.
fn segments_stay_in_their_collection(parent: &Manifest, next: &Manifest) -> Checked {
    let homes: HashMap<&str, u32> =
        parent.collections.iter().flat_map(|c| c.segments.iter().map(|s| (s.file.as_str(), c.id))).collect();
    for c in &next.collections {
        for s in &c.segments {
            let home = homes.get(s.file.as_str()).copied().unwrap_or(c.id);
            hold("segments_stay_in_their_collection", home == c.id, || {
                format!("{} moved from collection {home} to {}", s.file, c.id)
            })?;
        }
    }
    Ok(())
}
