//! A kept manifest opened for reading: one that a person named, or one that is not old enough to go.
//!
//! Takes no lock: gc removes a manifest before the files that only it named, in this process or another, so whoever finds
//! a file gone finds the manifest gone too.

use crate::catalog::Catalog;
use crate::engine::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::manifest::{Committed, Manifest, NamedManifest, Store};
use crate::named_snapshots::{self, manifests};
use crate::recovery;
use crate::version::{Published, View};

/// How often another manifest is looked for when gc took the chosen one meanwhile.
const TRIES: u32 = 8;

/// The kept manifest that a snapshot was opened from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptManifest {
    /// Its number.
    pub number: u64,
    /// The name it is kept under, if it has one.
    pub name: Option<String>,
    /// Wall time of its commit, RFC 3339 in UTC.
    pub created_at: String,
    /// The last LSN of which it may show anything.
    pub lsn: Lsn,
    /// It shows every row up to here, whatever the collection. Equals `lsn` in a named one; elsewhere collections are
    /// flushed one by one.
    pub complete_to: Lsn,
}

/// What a kept manifest shows.
pub(crate) struct Opened {
    pub(crate) view: View<Catalog>,
    pub(crate) kept: KeptManifest,
}

/// Opens the manifest that is kept under this name.
///
/// # Errors
/// `NotFound` if there is none; `Corrupt` with the file; `Invalid` where a backend's state is read.
pub(crate) fn named(engine: &Engine, name: &str) -> Result<Opened> {
    let (store, newest) = manifests(engine)?;
    let number = newest.manifest.snapshot(name)?.manifest;
    let opened = match open(engine, &store, &newest.manifest, number) {
        Ok(Some(opened)) => Ok(opened),
        Err(error) => Err(error),
        // Let go meanwhile; unless somebody removed its file.
        Ok(None) => {
            let (store, newest) = manifests(engine)?;
            newest.manifest.snapshot(name)?;
            store.load(number).and_then(|committed| view_of(engine, &newest.manifest, committed))
        }
    };
    opened.map_err(|error| named_snapshots::mended(error, &store, &newest.manifest, name))
}

/// Opens the newest kept manifest that shows nothing above `lsn`.
///
/// # Errors
/// `NotFound` naming the oldest and the newest LSN there are; `Corrupt` if the manifest that may be the one is damaged.
pub(crate) fn as_of(engine: &Engine, lsn: Lsn) -> Result<Opened> {
    for _ in 0..TRIES {
        let (store, newest) = manifests(engine)?;
        let number = choose(&store, &newest.manifest, lsn)?;
        let opened = open(engine, &store, &newest.manifest, number).map_err(|error| {
            let kept = newest.manifest.snapshots.iter().find(|named| named.manifest == number);
            match kept {
                Some(kept) => named_snapshots::mended(error, &store, &newest.manifest, &kept.name),
                None => error,
            }
        });
        if let Some(opened) = opened? {
            return Ok(opened);
        }
    }
    let message = format!("manifests are removed faster than {lsn} can be opened");
    Err(Error::new(ErrorKind::NotFound, "AKI-0276", message)
        .help_is("keep more of them (engine.manifest_keep), or make a snapshot with `akidb snapshot create`"))
}

/// The number of the newest kept manifest that shows nothing above `lsn`. At one LSN a named one goes before changes of
/// collections that were made since: those have no LSN, and the name was given to that very moment.
fn choose(store: &Store, newest_of_all: &Manifest, lsn: Lsn) -> Result<u64> {
    let (mut chosen, mut chosen_named, mut damaged) = (None, None, None);
    let (mut oldest, mut newest, mut seen) = (Lsn::MAX, Lsn::ZERO, Lsn::ZERO);
    for number in store.numbers()? {
        let manifest = match store.load(number) {
            Ok(committed) => committed.manifest,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                // Before the first that shows too much, it may be the one.
                damaged = damaged.or(Some(error).filter(|_| seen <= lsn));
                continue;
            }
        };
        // A collection that was dropped takes its LSN along; what was shown before is not older for that.
        seen = seen.max(manifest.shown().0);
        // What it shows does not change when its name goes.
        let shown = if own_name(&manifest).is_some() { manifest.shown().0 } else { seen };
        let is_named = name_now(newest_of_all, &manifest).is_some();
        (oldest, newest) = (oldest.min(shown), newest.max(shown));
        if shown <= lsn {
            chosen = Some((shown, number));
            chosen_named = chosen.filter(|_| is_named).or(chosen_named);
            damaged = None;
        }
    }
    if let Some(error) = damaged {
        return Err(error);
    }
    let same = |named: &(Lsn, u64)| chosen.is_some_and(|(shown, _)| shown == named.0);
    chosen_named.filter(same).or(chosen).map(|(_, number)| number).ok_or_else(|| {
        let message =
            format!("nothing kept is as old as {lsn}: the oldest is of {oldest}, the newest of {newest}");
        Error::new(ErrorKind::NotFound, "AKI-0276", message)
            .help_is("ask for one in between; `akidb snapshot create` keeps a moment for as long as you like")
    })
}

/// Opens a manifest; `None` if it is not there any more.
fn open(engine: &Engine, store: &Store, newest: &Manifest, number: u64) -> Result<Option<Opened>> {
    let is_gone = |error: &Error| {
        (error.kind() == ErrorKind::NotFound || error.is_of_missing_file())
            && store.load(number).is_err_and(|error| error.kind() == ErrorKind::NotFound)
    };
    match store.load(number).and_then(|committed| view_of(engine, newest, committed)) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name that a manifest was made for.
fn own_name(manifest: &Manifest) -> Option<&NamedManifest> {
    manifest.snapshots.iter().find(|named| named.manifest == manifest.number)
}

/// The same while the newest manifest still has it: a manifest outlives its name, if it is young.
fn name_now(newest: &Manifest, manifest: &Manifest) -> Option<String> {
    let own = own_name(manifest)?;
    let is_kept =
        newest.snapshots.iter().any(|kept| (&kept.name, kept.manifest) == (&own.name, own.manifest));
    is_kept.then(|| own.name.clone())
}

fn view_of(engine: &Engine, newest: &Manifest, Committed { manifest, .. }: Committed) -> Result<Opened> {
    let (lsn, complete_to) = manifest.shown();
    let kept = KeptManifest {
        number: manifest.number,
        name: name_now(newest, &manifest),
        created_at: manifest.created_at.to_string(),
        lsn,
        complete_to,
    };
    let empty = engine.current().content().without_collections();
    let catalog = recovery::load_segments(&engine.place, &manifest, empty)?;
    // What had expired by then is gone, and nothing else: the same answers for as long as it is kept.
    let view = Published::new(catalog, lsn).view(manifest.created_at.as_microsecond());
    Ok(Opened { view, kept })
}
