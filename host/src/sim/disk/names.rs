//! Names of a simulated disk, twice: as processes see them, and as a power cut leaves them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};

use crate::rng::Rng;

/// A file or a directory, whatever its names.
pub(super) type Ino = u64;

pub(super) const ROOT: Ino = 0;

#[derive(Clone, Default)]
struct Dir {
    seen: BTreeMap<String, Ino>,
    disk: BTreeMap<String, Ino>,
}

/// Names that change together, in one directory.
#[derive(Clone)]
struct Change {
    id: u64,
    dir: Ino,
    sets: Vec<(String, Option<Ino>)>,
    /// Never on disk without this one: a name moved to another directory is not lost on the way.
    after: Option<u64>,
}

/// The tree of names.
#[derive(Clone)]
pub(super) struct Names {
    dirs: BTreeMap<Ino, Dir>,
    /// Not on disk yet, oldest first.
    pending: Vec<Change>,
    last_id: u64,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { dirs: BTreeMap::from([(ROOT, Dir::default())]), pending: Vec::new(), last_id: 0 }
    }

    pub(super) fn is_dir(&self, ino: Ino) -> bool {
        self.dirs.contains_key(&ino)
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut ino = ROOT;
        for name in components(path)? {
            ino = self.get(ino, &name)?.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(ino)
    }

    /// The directory and the name in it, which need not be there.
    pub(super) fn place(&self, path: &Path) -> io::Result<(Ino, String)> {
        let mut names = components(path)?;
        let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let mut dir = ROOT;
        for part in names {
            dir = self.get(dir, &part)?.ok_or(io::ErrorKind::NotFound)?;
        }
        if !self.is_dir(dir) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok((dir, name))
    }

    pub(super) fn get(&self, dir: Ino, name: &str) -> io::Result<Option<Ino>> {
        let dir = self.dirs.get(&dir).ok_or(io::ErrorKind::NotADirectory)?;
        Ok(dir.seen.get(name).copied())
    }

    pub(super) fn list(&self, dir: Ino) -> io::Result<&BTreeMap<String, Ino>> {
        Ok(&self.dirs.get(&dir).ok_or(io::ErrorKind::NotADirectory)?.seen)
    }

    pub(super) fn add_dir(&mut self, ino: Ino) {
        self.dirs.insert(ino, Dir::default());
    }

    /// Gives or takes names of one directory, all at once.
    pub(super) fn change(&mut self, dir: Ino, sets: Vec<(String, Option<Ino>)>, after: Option<u64>) -> u64 {
        self.last_id += 1;
        let seen = &mut self.dirs.get_mut(&dir).expect("place() found it").seen;
        sets.iter().for_each(|(name, ino)| set(seen, name, *ino));
        self.pending.push(Change { id: self.last_id, dir, sets, after });
        self.last_id
    }

    pub(super) fn sync(&mut self, dir: Ino) -> io::Result<()> {
        if !self.is_dir(dir) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let needed: BTreeSet<u64> = self
            .pending
            .iter()
            .filter(|c| c.dir == dir)
            .flat_map(|c| c.after.into_iter().chain([c.id]))
            .collect();
        self.settle(|change| needed.contains(&change.id));
        Ok(())
    }

    /// Moves the changes that `which` accepts to the disk.
    fn settle(&mut self, mut which: impl FnMut(&Change) -> bool) {
        let mut left = Vec::new();
        for change in std::mem::take(&mut self.pending) {
            let waits = change.after.is_some_and(|id| left.iter().any(|c: &Change| c.id == id));
            if which(&change) && !waits {
                let disk = &mut self.dirs.get_mut(&change.dir).expect("directories stay").disk;
                change.sets.iter().for_each(|(name, ino)| set(disk, name, *ino));
            } else {
                left.push(change);
            }
        }
        self.pending = left;
    }

    /// What a power cut leaves: of the pending changes the first ones, as a journal has it, or any of them.
    pub(super) fn after_power_cut(&self, percent: u64, rng: &mut Rng) -> Self {
        let mut cut = self.clone();
        let in_order = rng.below(2) == 0;
        let mut over = false;
        cut.settle(|_| {
            let kept = rng.below(100) < percent && !over;
            over |= in_order && !kept;
            kept
        });
        cut.pending.clear();
        let reached = cut.reachable(|dir| &dir.disk);
        cut.dirs.retain(|ino, _| reached.contains(ino));
        cut.dirs.values_mut().for_each(|dir| dir.seen.clone_from(&dir.disk));
        cut
    }

    /// Everything that has a name now, or may have one after a power cut.
    pub(super) fn named(&self) -> BTreeSet<Ino> {
        let all = self.dirs.values().flat_map(|dir| dir.seen.values().chain(dir.disk.values()));
        let pending = self.pending.iter().flat_map(|c| c.sets.iter().filter_map(|(_, ino)| ino.as_ref()));
        all.chain(pending).copied().chain([ROOT]).collect()
    }

    pub(super) fn has_name(&self, ino: Ino) -> bool {
        self.dirs.values().any(|dir| dir.seen.values().any(|i| *i == ino))
    }

    fn reachable(&self, names: impl Fn(&Dir) -> &BTreeMap<String, Ino>) -> BTreeSet<Ino> {
        let (mut reached, mut todo) = (BTreeSet::from([ROOT]), vec![ROOT]);
        while let Some(ino) = todo.pop() {
            let below = self.dirs.get(&ino).into_iter().flat_map(|dir| names(dir).values());
            todo.extend(below.filter(|ino| reached.insert(**ino)));
        }
        reached
    }
}

fn set(names: &mut BTreeMap<String, Ino>, name: &str, ino: Option<Ino>) {
    match ino {
        Some(ino) => names.insert(name.to_owned(), ino),
        None => names.remove(name),
    };
}

/// The names of a path from the root: the simulated process stands there.
fn components(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?.to_owned())
            }
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}
