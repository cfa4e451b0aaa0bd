//! The calls of a file system on a simulated disk.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::CrashDisk;
use super::file::Held;
use crate::fs::{Access, DirEntry, File, Fs, FsKind, FsStats, LockGuard, Metadata};

impl Fs for CrashDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let ino = state.names.find(path)?;
        self.open_ino(&mut state, ino, access)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let ino = state.create(path)?;
        self.open_ino(&mut state, ino, Access::ReadWrite)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut above: Vec<&Path> = path.ancestors().filter(|p| p.file_name().is_some()).collect();
        above.reverse();
        let mut state = self.state();
        for dir in above {
            if let Some(parent) = state.make_dir(dir)? {
                state.names.sync(parent)?;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let ((from_dir, old), (to_dir, new)) = (state.names.place(from)?, state.names.place(to)?);
        let ino = state.names.get(from_dir, &old)?.ok_or(io::ErrorKind::NotFound)?;
        let replaced = state.names.get(to_dir, &new)?;
        if replaced == Some(ino) {
            return Ok(());
        }
        if replaced.is_some_and(|ino| state.names.is_dir(ino)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from_dir == to_dir {
            state.names.change(from_dir, vec![(old, None), (new, Some(ino))], None);
        } else {
            let arrived = state.names.change(to_dir, vec![(new, Some(ino))], None);
            state.names.change(from_dir, vec![(old, None)], Some(arrived));
        }
        replaced.into_iter().for_each(|ino| state.released(ino));
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.names.find(from)?;
        if state.names.is_dir(ino) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let (dir, name) = state.names.place(to)?;
        if state.names.get(dir, &name)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.names.change(dir, vec![(name, Some(ino))], None);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let (dir, name) = state.names.place(path)?;
        let ino = state.names.get(dir, &name)?.ok_or(io::ErrorKind::NotFound)?;
        if state.names.is_dir(ino) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        state.names.change(dir, vec![(name, None)], None);
        state.released(ino);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let (dir, name) = state.names.place(path)?;
        let ino = state.names.get(dir, &name)?.ok_or(io::ErrorKind::NotFound)?;
        if !state.names.list(ino)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.names.change(dir, vec![(name, None)], None);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state();
        let names = state.names.list(state.names.find(dir)?)?;
        Ok(names.iter().map(|(name, ino)| DirEntry { name: name.clone(), kind: state.kind(*ino) }).collect())
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let state = self.state();
        let ino = state.names.find(path)?;
        let len = state.files.get(&ino).map_or(0, |inode| inode.content.len());
        Ok(Metadata { kind: state.kind(ino), len, modified_unix_micros: 0 })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let ino = state.names.find(dir)?;
        state.names.sync(ino)
    }

    fn statfs(&self, path: &Path) -> io::Result<FsStats> {
        let state = self.state();
        state.names.find(path)?;
        let (total_bytes, available_bytes) = (state.space.total_bytes(), state.space.free_bytes());
        Ok(FsStats { total_bytes, available_bytes, kind: FsKind::Local })
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let mut state = self.state();
        let ino = match state.names.find(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => state.create(path)?,
            found => found?,
        };
        self.lock_ino(&mut state, ino, Held::Alone)
    }

    fn try_lock_shared(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let mut state = self.state();
        let ino = state.names.find(path)?;
        self.lock_ino(&mut state, ino, Held::Shared(1))
    }
}
