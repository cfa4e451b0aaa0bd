//! The rules of named snapshots.

use std::collections::{BTreeSet, HashSet};

use super::{Checked, hold};
use crate::manifest::Manifest;
use crate::manifest::named::{MAX_NAMED, NAMED_SNAPSHOTS, check_snapshot_name};

/// Versions that do not know names, and would remove what they keep, are told to stay away.
pub(super) fn named_snapshots_are_announced(m: &Manifest) -> Checked {
    let said = m.says_incompatible(NAMED_SNAPSHOTS);
    hold("named_snapshots_are_announced", said != m.snapshots.is_empty(), || {
        format!("{} names, feature {NAMED_SNAPSHOTS}: {said}", m.snapshots.len())
    })
}

/// Names can be names and differ in more than case; their manifests stand in order, none newer than this one, and
/// there are not too many.
pub(super) fn named_snapshots_are_whole(m: &Manifest) -> Checked {
    let rule = "named_snapshots_are_whole";
    hold(rule, m.snapshots.len() <= MAX_NAMED, || format!("{} names", m.snapshots.len()))?;
    let ordered = m.snapshots.is_sorted_by(|a, b| a.manifest < b.manifest);
    hold(rule, ordered, || "not in the order of their manifests".into())?;
    let mut seen = HashSet::new();
    for named in &m.snapshots {
        let good = check_snapshot_name(&named.name).is_ok() && seen.insert(named.name.to_ascii_lowercase());
        let there = (1..=m.number).contains(&named.manifest);
        hold(rule, good && there && named.flushed_lsn.epoch() <= m.writer_epoch, || {
            format!("{:?} is manifest {} of {}", named.name, named.manifest, m.number)
        })?;
    }
    Ok(())
}

/// What a manifest says of itself under a name is so: every collection is flushed that far.
pub(super) fn named_snapshot_is_flushed(m: &Manifest) -> Checked {
    let Some(own) = m.snapshots.iter().find(|named| named.manifest == m.number) else { return Ok(()) };
    for c in &m.collections {
        hold("named_snapshot_is_flushed", c.flushed_lsn >= own.flushed_lsn, || {
            format!("\"{}\" is of {}, \"{}\" flushed to {}", own.name, own.flushed_lsn, c.name, c.flushed_lsn)
        })?;
    }
    Ok(())
}

/// A name stays with its manifest; a new one is the new manifest's own: an older one may be gone already.
pub(super) fn names_stay_with_their_manifests(parent: &Manifest, next: &Manifest) -> Checked {
    for named in &next.snapshots {
        let good = parent.snapshots.contains(named) || named.manifest == next.number;
        hold("names_stay_with_their_manifests", good, || {
            format!("{:?} names manifest {} in {}", named.name, named.manifest, next.number)
        })?;
    }
    Ok(())
}

/// Nothing that is about to be removed is kept under a name.
pub(crate) fn named_manifests_stay(newest: &Manifest, going: &[u64]) -> Checked {
    let kept: BTreeSet<u64> = newest.snapshots.iter().map(|named| named.manifest).collect();
    let lost = going.iter().find(|number| kept.contains(number));
    hold("named_manifests_stay", lost.is_none(), || format!("manifest {lost:?} would be removed"))
}
