//! How files leave the log: truncation below a floor, and the seal of a clean close.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use akidb_host::seeded_bug;

use crate::control::ControlState;
use crate::error::{Error, Result};
use crate::frame::FrameType;
use crate::inner::{Inner, Old, cause, poisoned, write_cause};
use crate::log_file::Retired;
use crate::lsn::Lsn;
use crate::sync::{lock, wait};
use crate::wakers::wake_all;

impl Inner {
    pub(crate) fn truncate_below(&self, floor: Lsn) -> Result<u64> {
        self.floor.raise(floor);
        self.commit.control.set_floor(self.floor.get());
        self.commit.control.sweep(&*self.fs);
        let synced = self.commit.synced();
        let mut gone = VecDeque::new();
        {
            let mut writing = lock(&self.append);
            let below = |old: &Old| old.file.last < floor && old.file.last <= synced && !old.unsynced;
            while writing.old.front().is_some_and(below) {
                let Some(old) = writing.old.pop_front() else { break };
                writing.old_used -= old.file.used;
                let named = gone.iter().filter(|(_, name): &&(Old, Option<PathBuf>)| name.is_some()).count();
                let retired = self.retired_name(&writing, named, &old);
                gone.push_back((old, retired));
            }
        }
        let mut retired = Vec::new();
        let freed = self.leave_all(gone, &mut retired);
        match &freed {
            Ok(_) if retired.is_empty() => {}
            Ok(_) => lock(&self.append).spares.retired.append(&mut retired),
            // Their old names may come back with a power cut, so none of them serves again.
            Err(_) => retired.iter().for_each(|file| drop(self.fs.unlink(&file.path))),
        }
        freed
    }

    /// Takes the names of all of these away, for good; gives the bytes freed. What keeps its name after a failure is put back.
    fn leave_all(
        &self,
        mut gone: VecDeque<(Old, Option<PathBuf>)>,
        retired: &mut Vec<Retired>,
    ) -> Result<u64> {
        let mut freed = 0;
        let any = !gone.is_empty();
        while let Some((mut old, name)) = gone.pop_front() {
            if let Err(e) = self.leave(&mut old, name, retired) {
                gone.push_front((old, None));
                self.put_back(gone.into_iter().map(|(old, _)| old).collect());
                return Err(e);
            }
            freed += old.file.size;
        }
        if any && !seeded_bug("retired_name_not_synced") {
            // A retired file gets its new header only after this: its old name is gone by then, whatever happens.
            self.fs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        }
        Ok(freed)
    }

    /// Takes a file's name away: for good, or to keep its blocks for another file if nobody reads it.
    fn leave(&self, old: &mut Old, name: Option<PathBuf>, retired: &mut Vec<Retired>) -> Result<()> {
        let path = old.file.path.clone();
        if let Some(name) = name
            && let Some(written) = old.written.take()
            && let Ok(file) = written.retire(name)
        {
            match self.fs.rename(&path, &file.path) {
                Ok(()) => {
                    retired.push(file);
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(e) => return Err(Error::io("retire", &path, e)),
            }
        }
        match self.fs.unlink(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path, e)),
            _ => Ok(()),
        }
    }

    pub(crate) fn put_back(&self, mut files: VecDeque<Old>) {
        let mut writing = lock(&self.append);
        while let Some(old) = files.pop_back() {
            writing.old_used += old.file.used;
            writing.old.push_front(old);
        }
    }

    pub(crate) fn close(&self) -> Result<()> {
        if let Some(cause) = self.commit.poison() {
            return Err(poisoned(cause));
        }
        if self.read_only {
            return Ok(());
        }
        let (last, waiting) = {
            let mut writing = lock(&self.append);
            writing.sealed = true;
            (writing.last, std::mem::take(&mut writing.spares.wakers))
        };
        self.room.notify_all();
        // They wait for a file that nobody makes any more.
        wake_all(waiting);
        self.wait(last)?;
        let sealed = self.seal_once();
        // With no lock held: both wake.
        match &sealed {
            Ok(()) => self.commit.end(),
            Err(_) => self.commit.tell_of_poison(),
        }
        sealed
    }

    /// Blocks until nobody makes a file or syncs any more. Of a poisoned log, where nobody begins to.
    pub(crate) fn wait_for_others(&self) {
        let mut writing = lock(&self.append);
        while writing.spares.making {
            writing = wait(&self.room, writing);
        }
        drop(writing);
        self.commit.wait_for_leader();
    }

    /// Seals the log, whose last record is synced, unless another close did; that one is waited for.
    fn seal_once(&self) -> Result<()> {
        let mut closed = lock(&self.closing);
        if let Some(cause) = self.commit.poison() {
            return Err(poisoned(cause));
        }
        if *closed {
            return Ok(());
        }
        *closed = true;
        let (file, path, written, unused) = {
            let mut writing = lock(&self.append);
            while writing.spares.making {
                writing = wait(&self.room, writing);
            }
            let (next, durable) = (writing.next, self.commit.synced());
            let Some(active) = writing.active.as_mut() else { return Ok(()) };
            let written =
                active.write_mark(FrameType::Seal, next, durable, &[]).and_then(|()| active.flush());
            let (file, path) = (active.file.clone(), active.path.clone());
            let retired = std::mem::take(&mut writing.spares.retired);
            (file, path, written, (std::mem::take(&mut writing.spares.ready), retired))
        };
        // They hold nothing; what stays, the next open removes.
        let (mut ready, retired) = unused;
        let _ = self.remove_unused(&mut ready);
        retired.iter().for_each(|file| drop(self.fs.unlink(&file.path)));
        let sealed = written.map_err(|e| write_cause(&path, &e));
        sealed.and_then(|()| file.sync_data().map_err(|e| cause(&path, &e))).map_err(|cause| {
            self.commit.poison_untold(cause.clone());
            poisoned(cause)
        })?;
        self.commit.control.set_state(ControlState::Closed);
        Ok(())
    }
}
