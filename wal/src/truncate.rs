//! How files leave the log: truncation below a floor, and the seal of a clean close.

use std::collections::VecDeque;
use std::io;

use crate::error::{Error, Result};
use crate::frame::FrameType;
use crate::inner::{Inner, Old, Spare, cause, poisoned};
use crate::lsn::Lsn;
use crate::sync::lock;

impl Inner {
    pub(crate) fn truncate_below(&self, floor: Lsn) -> Result<u64> {
        self.floor.raise(floor);
        let synced = self.commit.synced();
        let mut gone = VecDeque::new();
        {
            let mut writing = lock(&self.append);
            let below =
                |old: &Old| old.file.last < floor && old.file.last <= synced && old.unsynced.is_none();
            while writing.old.front().is_some_and(below) {
                let Some(old) = writing.old.pop_front() else { break };
                writing.old_used -= old.file.used;
                gone.push_back(old);
            }
        }
        let mut freed = 0;
        let any = !gone.is_empty();
        while let Some(old) = gone.pop_front() {
            match self.fs.unlink(&old.file.path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    let error = Error::io("remove", &old.file.path, e);
                    gone.push_front(old);
                    self.put_back(gone);
                    return Err(error);
                }
                _ => freed += old.file.size,
            }
        }
        if any {
            self.fs.sync_dir(&self.dir).map_err(|e| Error::io("sync", &self.dir, e))?;
        }
        Ok(freed)
    }

    pub(crate) fn put_back(&self, mut files: VecDeque<Old>) {
        let mut writing = lock(&self.append);
        while let Some(old) = files.pop_back() {
            writing.old_used += old.file.used;
            writing.old.push_front(old);
        }
    }

    pub(crate) fn close(&self) -> Result<()> {
        let mut closed = lock(&self.closing);
        if let Some(cause) = self.commit.poison() {
            return Err(poisoned(cause));
        }
        if *closed || self.read_only {
            return Ok(());
        }
        *closed = true;
        let last = {
            let mut writing = lock(&self.append);
            writing.sealed = true;
            writing.last
        };
        self.room.notify_all();
        self.wait(last)?;
        let (file, path, spare) = {
            let mut writing = lock(&self.append);
            let (next, durable) = (writing.next, self.commit.synced());
            let Some(active) = writing.active.as_mut() else { return Ok(()) };
            active.write_mark(FrameType::Seal, next, durable, &[]);
            let (file, path) = (active.file.clone(), active.path.clone());
            (file, path, std::mem::replace(&mut writing.spare, Spare::None))
        };
        if let Spare::Ready(spare) = spare {
            // An unused spare holds nothing; if it stays, the next open removes it.
            let _ = self.fs.unlink(&spare.path);
        }
        file.sync_data().map_err(|e| {
            let cause = cause(&path, &e);
            self.commit.poison_now(cause.clone());
            poisoned(cause)
        })
    }
}
