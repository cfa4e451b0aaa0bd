//! What a log gives back when nobody writes: the files made ahead, and the large file in use, for the small one that an
//! open begins with.

use std::collections::VecDeque;

use akidb_host::seeded_bug;

use crate::error::Result;
use crate::header::{Header, Origin};
use crate::inner::{Inner, Writing, poisoned};
use crate::log_file::LogFile;
use crate::open;
use crate::sync::{lock, wait};
use crate::wakers::wake_all;

impl Inner {
    /// # Errors
    /// `Io`, `NoSpace`: the log goes on as before, with more files than it needs. `Poisoned` by a failed write or sync.
    pub(crate) fn rest(&self) -> Result<()> {
        let small_bytes = open::file_bytes(self.config.first_file_bytes, 0);
        let (header, mut unused) = {
            let mut writing = lock(&self.append);
            while writing.spares.making {
                writing = wait(&self.room, writing);
            }
            if writing.sealed || self.commit.poison().is_some() {
                return Ok(());
            }
            let Some(active) = writing.active.as_ref() else { return Ok(()) };
            let (seq, is_small) = (active.header.seq + 1, active.header.file_bytes <= small_bytes);
            let salt = open::fresh_salt(&mut writing.rng);
            let (log_id, epoch) = (self.me.log_id, self.me.epoch);
            let header = Header { log_id, seq, salt, file_bytes: small_bytes, epoch, origin: Origin::Spare };
            // Until this is done an append that needs the next file waits for it, as for one that is being made.
            writing.spares.making = !seeded_bug("rest_makes_a_file_unannounced");
            ((!is_small).then_some(header), writing.spares.give_up_ready())
        };
        let made = self.make_small(header, &mut unused);
        let (rotated, waiting) = {
            let mut writing = lock(&self.append);
            writing.spares.making = false;
            writing.spares.ready.extend(unused);
            let waiting = std::mem::take(&mut writing.spares.wakers);
            (made.and_then(|small| self.go_on_in(&mut writing, small)), waiting)
        };
        self.room.notify_all();
        wake_all(waiting);
        let rotated = rotated.inspect_err(|e| self.tell_if_poisoned(e))?;
        if rotated && self.commit.try_lead() {
            self.lead();
        }
        self.truncate_below(self.floor.get())?;
        let retired = std::mem::take(&mut lock(&self.append).spares.retired);
        // One that stays is removed by the next open.
        retired.iter().for_each(|file| drop(self.fs.unlink(&file.path)));
        Ok(())
    }

    fn make_small(&self, header: Option<Header>, unused: &mut VecDeque<LogFile>) -> Result<Option<LogFile>> {
        match header {
            Some(header) => self.make_file(header, unused, None).map(Some),
            None => self.remove_unused(unused).map(|()| None),
        }
    }

    /// Whether the log went on in the small file.
    fn go_on_in(&self, writing: &mut Writing, small: Option<LogFile>) -> Result<bool> {
        let Some(small) = small else { return Ok(false) };
        writing.spares.ready.push_back(small);
        if writing.sealed || self.commit.poison().is_some() {
            return Ok(false);
        }
        let next = writing.spares.ready.pop_front().expect("it was put there just now");
        self.rotate(writing, next).map_err(poisoned)?;
        writing.spares.next_bytes =
            self.config.first_file_bytes.saturating_mul(4).min(self.config.max_file_bytes);
        Ok(true)
    }
}
