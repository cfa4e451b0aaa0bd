//! A read is a pair (version, L): what is published, how far it is visible, and the rule for reading both.

use akidb_host::seeded_bug;

use crate::lsn::Lsn;
use crate::sync::{Arc, AtomicU64, Mutex, MutexGuard, Ordering};

/// An immutable view, and the LSN from which on it no longer is the whole truth.
#[derive(Debug)]
pub(crate) struct Version<C> {
    content: C,
    /// `Lsn::MAX` while this is the current version; set just before the successor is published. Writes above it
    /// went to structures this version does not have.
    retired_at: AtomicU64,
}

impl<C> Version<C> {
    fn new(content: C) -> Arc<Self> {
        Arc::new(Self { content, retired_at: AtomicU64::new(Lsn::MAX.as_u64()) })
    }

    pub(crate) fn content(&self) -> &C {
        &self.content
    }
}

/// A version and the LSN up to which it is read: a consistent snapshot for as long as it is held.
#[derive(Debug)]
pub(crate) struct View<C> {
    version: Arc<Version<C>>,
    lsn: Lsn,
    now_micros: i64,
}

impl<C> Clone for View<C> {
    fn clone(&self) -> Self {
        Self { version: Arc::clone(&self.version), lsn: self.lsn, now_micros: self.now_micros }
    }
}

impl<C> View<C> {
    pub(crate) fn content(&self) -> &C {
        self.version.content()
    }

    /// L: rows with `lsn <= L < hidden_at` live here.
    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The moment, in microseconds since 1970: rows that expired by then are not there.
    pub(crate) fn now_micros(&self) -> i64 {
        self.now_micros
    }
}

/// The current version and the visible LSN. Both change under the apply lock only; anyone may read.
#[derive(Debug)]
pub(crate) struct Published<C> {
    /// Guarded by its own mutex, held for the copy of one pointer.
    current: Mutex<Arc<Version<C>>>,
    visible: AtomicU64,
}

impl<C> Published<C> {
    pub(crate) fn new(content: C, visible: Lsn) -> Self {
        Self { current: Mutex::new(Version::new(content)), visible: AtomicU64::new(visible.as_u64()) }
    }

    /// The pair a read works on. The version is taken **first**: an L loaded before it could pass the version's
    /// retirement unseen and show rows that a later write replaced in structures this version lacks. The moment stands
    /// still with it.
    pub(crate) fn view(&self, now_micros: i64) -> View<C> {
        let early = seeded_bug("l_before_version").then(|| self.visible.load(Ordering::Acquire));
        let version = Arc::clone(&*self.current.lock());
        let visible = early.unwrap_or_else(|| self.visible.load(Ordering::Acquire));
        let retired = version.retired_at.load(Ordering::Acquire);
        let lsn = lsn_of(visible.min(retired));
        View { version, lsn, now_micros }
    }

    /// The current version, for its holder of the apply lock and for work that checks again later.
    pub(crate) fn current(&self) -> Arc<Version<C>> {
        Arc::clone(&*self.current.lock())
    }

    pub(crate) fn visible(&self) -> Lsn {
        lsn_of(self.visible.load(Ordering::Acquire))
    }

    /// Shows everything up to `lsn`, the last LSN of an applied frame. Needs the apply lock.
    pub(crate) fn set_visible(&self, lsn: Lsn, _apply: &MutexGuard<'_, ApplyLock>) {
        let before = self.visible.swap(lsn.as_u64(), Ordering::AcqRel);
        assert!(before <= lsn.as_u64(), "visible went back from {before} to {}", lsn.as_u64());
    }

    /// Replaces the version; the only way anything is published. Needs the apply lock, so `visible` stands still
    /// between the retirement of the old version and the new one's first reader.
    pub(crate) fn publish(&self, content: C, _apply: &MutexGuard<'_, ApplyLock>) {
        let next = Version::new(content);
        let retired_at = self.visible.load(Ordering::Acquire);
        let mut current = self.current.lock();
        current.retired_at.store(retired_at, Ordering::Release);
        *current = next;
    }
}

/// What the apply lock guards is the right to change what is published; it holds nothing itself.
#[derive(Debug, Default)]
pub(crate) struct ApplyLock(());

fn lsn_of(bits: u64) -> Lsn {
    Lsn::from_u64(bits).expect("only LSNs are stored")
}
