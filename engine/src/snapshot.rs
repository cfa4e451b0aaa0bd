//! A snapshot: the whole database at one LSN, or as a kept manifest shows it, for as long as it is held.

use std::sync::Arc;

use crate::catalog::Catalog;
use crate::collection::Collection;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::{Handle, Moment};
use crate::kept::{KeptManifest, Opened};
use crate::lsn::Lsn;
use crate::version::View;

/// The database as it was when the snapshot was taken: every read through it gives the same answer, whatever is
/// written, flushed, merged or dropped meanwhile. Takes no lock, stops nobody, and costs memory and disk only for what
/// changes. Cheap to clone; the last clone, or collection handle that came from it, lets it go.
///
/// A snapshot older than `engine.snapshot_max_age_secs` is given up, so that a forgotten one does not keep dead rows
/// for ever, and the oldest go first where snapshots keep more than an eighth of `engine.memory_bytes` in memory; reads
/// then answer `NotFound`. Snapshots end with their process; those that are to outlive it get a name
/// ([`Db::create_snapshot`](crate::Db::create_snapshot)).
#[derive(Clone, Debug)]
pub struct Snapshot {
    handle: Arc<Handle>,
    moment: Arc<Moment>,
    lsn: Lsn,
    kept: Option<Arc<KeptManifest>>,
}

impl Snapshot {
    pub(crate) fn take(handle: &Arc<Handle>, holder: &str) -> Result<Self> {
        Self::hold(handle, holder, handle.engine.view()?, None)
    }

    /// What a kept manifest shows.
    pub(crate) fn of_kept(handle: &Arc<Handle>, holder: &str, opened: Opened) -> Result<Self> {
        Self::hold(handle, holder, opened.view, Some(Arc::new(opened.kept)))
    }

    fn hold(
        handle: &Arc<Handle>,
        holder: &str,
        view: View<Catalog>,
        kept: Option<Arc<KeptManifest>>,
    ) -> Result<Self> {
        let engine = &handle.engine;
        let lsn = view.lsn();
        let number = engine.snapshots.hold(holder, engine.place.clock.now(), view)?;
        let moment = Arc::new(Moment::new(Arc::clone(engine), number));
        Ok(Self { handle: Arc::clone(handle), moment, lsn, kept })
    }

    /// The last LSN it shows.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The kept manifest it reads, if it came from [`Db::at_snapshot`](crate::Db::at_snapshot) or
    /// [`Db::as_of`](crate::Db::as_of).
    #[must_use]
    pub fn kept(&self) -> Option<&KeptManifest> {
        self.kept.as_deref()
    }

    /// Names of the collections there were, sorted.
    ///
    /// # Errors
    /// `NotFound` once it was given up.
    pub fn collections(&self) -> Result<Vec<String>> {
        let view = self.moment.view()?;
        let mut names: Vec<String> =
            view.content().collections.values().map(|state| state.name.to_string()).collect();
        names.sort();
        Ok(names)
    }

    /// The collection as it was: `get`, `scan`, `count`, `search` and their kin read the snapshot; writes are refused
    /// with `Invalid`.
    ///
    /// # Errors
    /// `NotFound` if there was none of this name, or once the snapshot was given up.
    pub fn collection(&self, name: &str) -> Result<Collection> {
        let view = self.moment.view()?;
        let Some(state) = view.content().by_name(name) else {
            let message = format!("there was no collection \"{name}\" when the snapshot was taken");
            return Err(Error::new(ErrorKind::NotFound, "AKI-0202", message));
        };
        Ok(Collection::of_moment(Arc::clone(&self.handle), state.id, Arc::clone(&self.moment)))
    }
}
