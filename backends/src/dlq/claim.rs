//! The right to try one letter's upload.

use std::fmt;
use std::sync::Arc;

use super::ledger::Room;
use super::letter::{Letter, LetterId};

/// The one claim of a letter. Ends with [`crate::DeadLetters::resolve`] or [`crate::DeadLetters::failed`]; dropped without
/// either (also by a cancelled future) the letter is as it was before.
#[must_use = "dropping a claim gives the letter back at once"]
pub struct Claim {
    room: Arc<Room>,
    letter: Arc<Letter>,
    is_settled: bool,
}

impl Claim {
    pub(crate) fn new(room: Arc<Room>, letter: Arc<Letter>) -> Self {
        Self { room, letter, is_settled: false }
    }

    /// The letter as it was when it was claimed.
    #[must_use]
    pub fn letter(&self) -> &Letter {
        &self.letter
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &LetterId {
        &self.letter.id
    }

    /// The verdict is in.
    pub(crate) fn settle(mut self) -> LetterId {
        self.is_settled = true;
        self.letter.id.clone()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_settled {
            self.room.lock().letters.give_back(&self.letter.id);
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Claim").field(&self.letter.id).finish()
    }
}
