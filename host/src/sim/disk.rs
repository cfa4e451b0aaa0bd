//! A disk in memory that forgets, when the power is cut, what nobody synced.
//!
//! It keeps two images of everything. The *live* one is what processes see: the page cache and the names in it.
//! The *durable* one is what a power cut leaves: synced bytes and names, and of the rest whatever the kernel wrote
//! back by chance, in sectors of 512 bytes and in any order, now and then already while the test runs. A file that
//! is written over (a recycled one) keeps its old bytes where the new ones were lost.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::content::Content;
use self::file::{Held, OpenFile};
use self::names::{Ino, Names, ROOT};
use self::space::Space;
use crate::fs::{Access, EntryKind, File};
use crate::map::AtomicPage;
use crate::rng::Rng;

mod calls;
mod content;
mod file;
mod names;
mod space;
#[cfg(test)]
mod tests;

/// A simulated disk with its page cache; clones are the same disk. One seed and one order of calls give one run.
///
/// A crash makes another disk and leaves this one alone: from one point of a run any number of crashes can be
/// taken, and whoever still holds files of this one harms none of them. Wrap it in a [`super::HookFs`] to take
/// them before each call and to let calls fail; only a failed *sync* must be asked for here
/// ([`CrashDisk::fail_next_sync`]), because of what it does to the pages.
///
/// Not as on a real machine: a read-only map is a copy of the file as it was, and of two log maps of one file
/// neither sees the other's stores.
#[derive(Clone)]
pub struct CrashDisk(Arc<Mutex<State>>);

struct State {
    names: Names,
    files: BTreeMap<Ino, Inode>,
    last_ino: Ino,
    space: Space,
    rng: Rng,
    locked: BTreeMap<Ino, Held>,
    next_sync_error: Option<i32>,
}

#[derive(Default)]
struct Inode {
    content: Content,
    /// Open handles and maps.
    handles: u32,
    /// Its first page, where processes share it as words.
    shared: Option<AtomicPage>,
}

impl Inode {
    /// The file after a crash: nobody has it open.
    fn crashed(content: Content) -> Self {
        Self { content, handles: 0, shared: None }
    }

    /// Takes over what was stored into the shared page since the last look.
    fn absorb(&mut self, rng: &mut Rng) {
        let Some(page) = &self.shared else { return };
        let mut old = [0; AtomicPage::BYTES];
        self.content.read(&mut old, 0);
        let new = page.copy();
        if old != new {
            self.maybe_write_back(0, rng);
            self.content.store(&new, 0);
        }
    }
}

impl CrashDisk {
    /// An empty disk; `seed` decides what is written back early.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of(State {
            names: Names::new(),
            files: BTreeMap::new(),
            last_ino: ROOT,
            space: Space::default(),
            rng: Rng::seeded(seed),
            locked: BTreeMap::new(),
            next_sync_error: None,
        })
    }

    fn of(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as the next process finds it if this one is killed now: the page cache stays, locks are free. A
    /// page whose write failed may have fallen out of the cache; then the old bytes are back.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.state();
        state.absorb();
        let mut rng = Rng::seeded(state.rng.u64());
        let mut files = state.named_files();
        let forgets = rng.below(2) == 0;
        for inode in files.values_mut().filter(|inode| forgets && inode.content.errors > 0) {
            inode.content.forget_clean(|| rng.below(2) == 0);
        }
        state.reborn(state.names.clone(), files, rng)
    }

    /// The disk as it is after the power was cut now. What of the unsynced bytes and names survives, `rng` decides;
    /// often nothing or everything does.
    #[must_use]
    pub fn power_cut(&self, rng: &mut Rng) -> Self {
        let percent = content::percent(rng);
        self.power_cut_keeping(percent, rng)
    }

    /// As [`CrashDisk::power_cut`]; each unsynced sector and name survives with this probability.
    #[must_use]
    pub fn power_cut_keeping(&self, percent: u64, rng: &mut Rng) -> Self {
        let mut state = self.state();
        state.absorb();
        let names = state.names.after_power_cut(percent, rng);
        let named = names.named();
        let kept = state.files.iter().filter(|(ino, _)| named.contains(ino));
        let files = kept
            .map(|(ino, inode)| (*ino, Inode::crashed(inode.content.after_power_cut(percent, rng))))
            .collect();
        let rng = Rng::seeded(state.rng.u64());
        state.reborn(names, files, rng)
    }

    /// The next sync of a file fails with this error number. Some of the dirty pages reach the disk, the others do
    /// not, and all count as clean: reads show the new bytes, and the sync after it says `Ok`.
    pub fn fail_next_sync(&self, errno: i32) {
        self.state().next_sync_error = Some(errno);
    }

    /// From now on only so many bytes can be written to new blocks (`None`: no limit) until some are freed.
    pub fn set_free_bytes(&self, free: Option<u64>) {
        let mut state = self.state();
        state.count_space();
        state.space.set_free_bytes(free);
    }

    /// Makes a directory whose name no sync has covered: what a process leaves that died inside
    /// [`crate::Fs::create_dir_all`].
    pub fn make_dir_unsynced(&self, path: &Path) -> io::Result<()> {
        self.state().make_dir(path).map(|_| ())
    }

    /// A file's bytes as processes see them.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.state();
        state.absorb();
        let content = &state.file(path)?.content;
        Ok(content.bytes(content.len()))
    }

    /// Changes a file behind everyone's back, in both images: rot, or a stranger. Maps made before do not see it, nor
    /// does it last in a page that is mapped as words.
    pub fn rot(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.names.find(path)?;
        state.files.get_mut(&ino).ok_or(io::ErrorKind::IsADirectory)?.content.rot(change);
        state.count_space();
        Ok(())
    }

    fn open_ino(&self, state: &mut State, ino: Ino, access: Access) -> io::Result<Arc<dyn File>> {
        let inode = state.files.get_mut(&ino).ok_or(io::ErrorKind::IsADirectory)?;
        inode.handles += 1;
        let errors = inode.content.errors;
        Ok(Arc::new(OpenFile::new(self.clone(), ino, access == Access::ReadWrite, errors)))
    }
}

impl State {
    /// Another machine with this disk.
    fn reborn(&self, names: Names, files: BTreeMap<Ino, Inode>, rng: Rng) -> CrashDisk {
        let mut state = Self {
            names,
            files,
            last_ino: self.last_ino,
            space: self.space.clone(),
            rng,
            locked: BTreeMap::new(),
            next_sync_error: None,
        };
        state.count_space();
        CrashDisk::of(state)
    }

    fn named_files(&self) -> BTreeMap<Ino, Inode> {
        let named = self.names.named();
        let kept = self.files.iter().filter(|(ino, _)| named.contains(ino));
        kept.map(|(ino, inode)| (*ino, Inode::crashed(inode.content.clone()))).collect()
    }

    fn absorb(&mut self) {
        let Self { files, rng, .. } = self;
        files.values_mut().for_each(|inode| inode.absorb(rng));
    }

    /// Blocks belong to files that have a name or are open.
    fn count_space(&mut self) {
        let seen = |(ino, inode): &(&Ino, &Inode)| inode.handles > 0 || self.names.has_name(**ino);
        let used = self.files.iter().filter(seen).map(|(_, inode)| inode.content.pages()).sum();
        self.space.set_used(used);
    }

    /// After a name or a handle went: the file's blocks are free if it was the last.
    fn released(&mut self, ino: Ino) {
        let Some(inode) = self.files.get(&ino) else { return };
        if inode.handles > 0 || self.names.has_name(ino) {
            return;
        }
        self.space.give_back(inode.content.pages());
        if !self.names.named().contains(&ino) {
            self.files.remove(&ino);
        }
    }

    fn file(&self, path: &Path) -> io::Result<&Inode> {
        let ino = self.names.find(path)?;
        Ok(self.files.get(&ino).ok_or(io::ErrorKind::IsADirectory)?)
    }

    fn new_ino(&mut self) -> Ino {
        self.last_ino += 1;
        self.last_ino
    }

    /// A new, empty file.
    fn create(&mut self, path: &Path) -> io::Result<Ino> {
        let (dir, name) = self.names.place(path)?;
        if self.names.get(dir, &name)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let ino = self.new_ino();
        self.files.insert(ino, Inode::default());
        self.names.change(dir, vec![(name, Some(ino))], None);
        Ok(ino)
    }

    /// Gives the directory that holds the new name, if there was none yet.
    fn make_dir(&mut self, path: &Path) -> io::Result<Option<Ino>> {
        let (parent, name) = self.names.place(path)?;
        if let Some(ino) = self.names.get(parent, &name)? {
            let dir = self.names.is_dir(ino);
            return if dir { Ok(None) } else { Err(io::ErrorKind::AlreadyExists.into()) };
        }
        let ino = self.new_ino();
        self.names.add_dir(ino);
        self.names.change(parent, vec![(name, Some(ino))], None);
        Ok(Some(parent))
    }

    fn kind(&self, ino: Ino) -> EntryKind {
        if self.names.is_dir(ino) { EntryKind::Dir } else { EntryKind::File }
    }
}

impl fmt::Debug for CrashDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashDisk").finish_non_exhaustive()
    }
}
