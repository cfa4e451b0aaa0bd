//! A damaged segment given up: its ids are listed, its file is kept aside, and one manifest commit leaves it out.
//!
//! The steps, each durable before the next: a second name for the file in `damaged/`, the list of ids beside it, the
//! manifest. A crash before the manifest leaves the database as it was, and the same order goes through again. The file's old
//! name stays for older manifests, named snapshots among them, which read what they can of it; it goes with the last of them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Clock, Fs, RealClock, RealFs, Rng};

use super::lost::{Going, write_list, written_again};
use super::named::home_of;
use super::{LostRows, Named, RepairReport, take_lock};
use crate::deletion_vector::{self, DeletionVector};
use crate::error::{Error, Result};
use crate::manifest::{Reason, Stamp, Store};
use crate::named_snapshots;
use crate::segment::Segment;

/// Where what was given up lies, in its collection's directory.
pub(super) const ASIDE: &str = "damaged";

/// Gives up the damaged segment at `file`, a path as `Corrupt` errors name it: the next manifest leaves it out, the file
/// is kept in `damaged/` beside it, and the ids of the live rows that went with it are listed there, as far as they can
/// be read. Older versions of those rows stay dead. The database must not be open.
///
/// # Errors
/// `Locked` if it is; `Invalid` if the file is no segment, is sound, or is named by older manifests alone; `NotFound` if no
/// manifest names it; `Corrupt` if the newest manifest is damaged; `NewerFormat` if a newer version wrote the segment;
/// `Unavailable`, `NoSpace`: nothing is given up then, except with fate `Unknown`.
pub fn repair_segment_drop(file: impl AsRef<Path>, dry_run: bool) -> Result<RepairReport> {
    repair_segment_drop_on(Arc::new(RealFs), file, dry_run)
}

/// As [`repair_segment_drop`], on another file system.
///
/// # Errors
/// As [`repair_segment_drop`].
pub fn repair_segment_drop_on(
    fs: Arc<dyn Fs>,
    file: impl AsRef<Path>,
    dry_run: bool,
) -> Result<RepairReport> {
    let file = file.as_ref();
    let _lock = take_lock(&*fs, &home_of(file)?)?;
    let named = Named::find(&fs, file)?;
    if named.is_deletion_vector {
        let message = "a deletion vector alone is not given up: rows that it says are dead would live again";
        let help = format!("give up what it belongs to: {}", named.commands_to_drop());
        return Err(Error::invalid("AKI-0287", message).at(file, None).help_is(help));
    }
    if !named.is_live {
        let message = format!(
            "only older manifests name this segment, the newest of them is {}: no row of the database is in it",
            named.manifest.manifest.number
        );
        let help = match named.snapshots.as_slice() {
            [] => "it goes when they expire".to_owned(),
            names => named_snapshots::mending(file, names),
        };
        return Err(Error::invalid("AKI-0287", message).at(file, None).help_is(help));
    }
    let going = look(&fs, &named)?;
    let again = written_again(&fs, &named);
    if dry_run {
        let lost = going.list(&again, &mut |_| Ok(())).unwrap_or_default();
        let mut report = RepairReport::new(describe("would give up", &named, &lost), Vec::new(), true);
        report.kept.push(named.collection_dir().join(ASIDE).join(&named.meta.file));
        report.lost = Some(lost);
        return Ok(report);
    }
    let aside = named.collection_dir().join(ASIDE);
    let kept = keep_aside(&*fs, &named, &aside)?;
    let lost = write_list(&*fs, &aside, &format!("{}.lost.jsonl", named.meta.file), &going, &again)?;
    leave_out(&fs, &named)?;
    let done = describe("gave up", &named, &lost);
    let mut report = RepairReport::new(done, kept.into_iter().chain(lost.list.clone()).collect(), false);
    report.lost = Some(lost);
    Ok(report)
}

/// Refuses a segment that is sound, and one that cannot be judged: what may be readable is not given up.
fn look<'a>(fs: &Arc<dyn Fs>, named: &'a Named) -> Result<Going<'a>> {
    let schema = named.collection.schema();
    let dead = match &named.meta.deletion_vector {
        None => Some(DeletionVector::new()),
        Some(reference) => {
            let dir = named.collection_dir().join("dv");
            unless_damaged(deletion_vector::read(&**fs, &dir, reference, named.meta.rows))?
        }
    };
    let segment = unless_damaged(Segment::open(&**fs, &named.path, &named.meta, schema))?;
    let is_sound = match &segment {
        None => false,
        Some(segment) => {
            let rows = || segment.scan(schema, 0..segment.rows(), true)?.try_for_each(|rows| rows.map(drop));
            let rows_are_there = unless_damaged(rows())?.is_some();
            if rows_are_there && dead.is_some() && segment.is_index_damaged() {
                let message = "only the index of this segment is damaged: every row of it is there, and searches compare \
                               them all; nothing was changed";
                let help = "`akidb compact` writes it again, with an index";
                return Err(Error::invalid("AKI-0287", message).at(&named.path, None).help_is(help));
            }
            rows_are_there && unless_damaged(segment.verify())?.is_some()
        }
    };
    if is_sound && dead.is_some() {
        let message = "this segment is not damaged; nothing was changed";
        return Err(Error::invalid("AKI-0287", message).at(&named.path, None));
    }
    Ok(Going { named, segment, dead })
}

/// None for what is damaged. A newer format, a limit of this process or a busy machine is no damage.
fn unless_damaged<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(whole) => Ok(Some(whole)),
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error),
    }
}

/// A second name for the file; none if it is gone.
fn keep_aside(fs: &dyn Fs, named: &Named, aside: &Path) -> Result<Option<PathBuf>> {
    let failed =
        |cause: &io::Error| Error::io("AKI-0286", &named.path, "keeping a damaged segment aside", cause);
    fs.create_dir_all(aside).map_err(|cause| failed(&cause))?;
    for copy in 0..u32::MAX {
        let suffix = if copy == 0 { String::new() } else { format!(".{copy}") };
        let to = aside.join(format!("{}{suffix}", named.meta.file));
        match fs.hard_link(&named.path, &to) {
            Ok(()) => {
                fs.sync_dir(aside).map_err(|cause| failed(&cause))?;
                return Ok(Some(to));
            }
            // Of an attempt that was broken off, or of damage before this one.
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed(&cause)),
        }
    }
    Err(failed(&io::ErrorKind::AlreadyExists.into()))
}

/// Commits the manifest without the segment, as the last writer would have.
fn leave_out(fs: &Arc<dyn Fs>, named: &Named) -> Result<()> {
    let newest = &named.manifest;
    let stamp = Stamp {
        writer_epoch: newest.manifest.writer_epoch,
        writer_id: newest.manifest.writer_id,
        commit_id: Rng::from_machine().u64(),
        unix_micros: RealClock.unix_micros(),
    };
    let mut next = newest.successor(stamp, Reason::Repair);
    if let Some(collection) = next.collection_mut(named.collection.id) {
        collection.segments.retain(|segment| segment.file != named.meta.file);
    }
    Store::new(Arc::clone(fs), named.home.join("manifest")).commit(Some(newest), next).map(drop)
}

fn describe(verb: &str, named: &Named, lost: &LostRows) -> String {
    let mut text =
        format!("{verb} segment {} of {}: {} rows are lost", named.meta.file, lost.collection, lost.rows);
    if lost.ids_unread > 0 {
        text += &format!(", {} of them with ids that cannot be read", lost.ids_unread);
    }
    if lost.dead_rows_unknown {
        text += ", or fewer: which rows were dead before cannot be read";
    }
    text += "; this is final: the file, taken back later, brings no row of the database back";
    if !named.snapshots.is_empty() {
        let names = named.snapshots.join(", ");
        text += &format!("; snapshots go on reading what can be read of it, until they are removed: {names}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn only_damage_is_a_reason_to_give_up() {
        let of = |errno| {
            Err::<(), _>(Error::io(
                "AKI-0502",
                Path::new("x"),
                "reading",
                &io::Error::from_raw_os_error(errno),
            ))
        };
        let kind = |kind| Err::<(), _>(Error::new(kind, "AKI-0506", "x"));
        assert!(matches!(unless_damaged(Ok(())), Ok(Some(()))));
        let damages = [of(crate::error::EIO), of(2), kind(ErrorKind::Corrupt), kind(ErrorKind::NotFound)];
        assert!(damages.into_iter().all(|damage| matches!(unless_damaged(damage), Ok(None))));
        // Too many open files, no memory, no right; a newer format.
        let others = [of(24), of(23), of(12), of(13), kind(ErrorKind::NewerFormat), kind(ErrorKind::NoSpace)];
        assert!(others.into_iter().all(|other| unless_damaged(other).is_err()));
    }
}
