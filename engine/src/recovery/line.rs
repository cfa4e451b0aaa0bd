//! Decoded pieces of the log wait in line to be applied, in order: by a second thread where there are many, and by the one
//! that decodes where none came or the line is full.
//!
//! The one that opens decodes. What comes out is the same whoever applied what.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use akidb_host::{Job, Spawn};

use super::decode::Piece;
use crate::error::Result;

/// Bytes of records that wait, at most, or one piece that is larger: decoded records are held twice, in the log and in memory.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// What applies a piece.
pub(super) type Apply = Box<dyn FnMut(&Piece) -> Result<()> + Send>;

/// Pieces being applied. Dropping it forgets those that wait.
pub(super) struct Line {
    ground: Arc<Ground>,
    job: Option<Box<dyn Job>>,
}

/// What the two threads share.
struct Ground {
    state: Mutex<State>,
    /// A piece came or was applied, or it is over.
    changed: Condvar,
}

struct State {
    waiting: VecDeque<Piece>,
    /// Of their records.
    waiting_bytes: usize,
    /// Applied, and to be dropped by the thread that allocated them.
    spent: Vec<Piece>,
    /// With whoever applies a piece while one does: so it is one at a time.
    apply: Option<Apply>,
    outcome: Result<()>,
    is_over: bool,
}

impl Line {
    /// Begins a line; a second thread helps where `is_long`, if there is one.
    pub(super) fn new(is_long: bool, apply: Apply, spawn: &dyn Spawn) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            spent: Vec::new(),
            apply: Some(apply),
            outcome: Ok(()),
            is_over: false,
        };
        let ground = Arc::new(Ground { state: Mutex::new(state), changed: Condvar::new() });
        let helped = Arc::clone(&ground);
        let help = || spawn.job("akidb-replay", Box::new(move || helped.help())).ok();
        Self { job: is_long.then(help).flatten(), ground }
    }

    /// Puts a piece at the end.
    ///
    /// # Errors
    /// What applying an earlier one answered; the line is then over.
    pub(super) fn push(&self, piece: Piece) -> Result<()> {
        let mut state = self.ground.state();
        state.waiting_bytes += piece.bytes;
        state.waiting.push_back(piece);
        let spent = std::mem::take(&mut state.spent);
        drop(state);
        self.ground.changed.notify_all();
        drop(spent);
        let is_long = |state: &State| state.waiting.len() > 1 && state.waiting_bytes > MAX_WAITING_BYTES;
        self.ground.shorten_while(is_long).outcome.clone()
    }

    /// Waits until all are applied.
    ///
    /// # Errors
    /// As [`Line::push`].
    pub(super) fn finish(self) -> Result<()> {
        let state = self.ground.shorten_while(|state| !state.waiting.is_empty());
        // One may have left the line and not be applied yet.
        let busy = |state: &mut State| state.apply.is_none() && state.outcome.is_ok() && !state.is_over;
        let state = self.ground.changed.wait_while(state, busy).unwrap_or_else(PoisonError::into_inner);
        assert!(!state.is_over, "applying what was logged panicked");
        state.outcome.clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ground.state().is_over = true;
        self.ground.changed.notify_all();
        if let Some(job) = self.job.take() {
            assert!(job.join() || std::thread::panicking(), "applying what was logged does not panic");
        }
    }
}

impl Ground {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shortens the line for as long as that `is_due`: applies some here, or waits for the other thread to.
    ///
    /// # Panics
    /// If applying a piece did, on the other thread: what comes after it must never be applied.
    fn shorten_while(&self, is_due: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.state();
        loop {
            assert!(!state.is_over, "applying what was logged panicked");
            if !is_due(&state) || state.outcome.is_err() {
                return state;
            }
            state = match self.apply_first(state) {
                Ok(state) => state,
                Err(state) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Applies the first piece; gives the state back as it was where there is none, or it is the other thread's turn.
    fn apply_first<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, MutexGuard<'a, State>> {
        if state.waiting.is_empty() || state.outcome.is_err() || state.is_over {
            return Err(state);
        }
        let Some(apply) = state.apply.take() else { return Err(state) };
        let piece = state.waiting.pop_front();
        state.waiting_bytes -= piece.as_ref().map_or(0, |piece| piece.bytes);
        drop(state);
        let mut turn = Turn { ground: self, apply: Some(apply), piece, outcome: None };
        turn.take();
        drop(turn);
        Ok(self.state())
    }

    fn help(&self) {
        let mut state = self.state();
        while !state.is_over {
            state = match self.apply_first(state) {
                Ok(state) => state,
                Err(state) if state.is_over => return,
                Err(state) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

/// One piece being applied. Afterwards the next may be, unless this one panicked: then the line is over, and nobody waits.
struct Turn<'a> {
    ground: &'a Ground,
    apply: Option<Apply>,
    piece: Option<Piece>,
    /// None until it is applied.
    outcome: Option<Result<()>>,
}

impl Turn<'_> {
    fn take(&mut self) {
        if let (Some(apply), Some(piece)) = (&mut self.apply, &self.piece) {
            self.outcome = Some(apply(piece));
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.ground.state();
        state.spent.extend(self.piece.take());
        match self.outcome.take() {
            Some(outcome) => {
                state.apply = self.apply.take();
                state.outcome = outcome;
            }
            // It panicked: what follows half a piece is not applied, by anybody.
            None => state.is_over = true,
        }
        drop(state);
        self.ground.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;

    use akidb_host::sim::InlineSpawn;
    use akidb_host::{Clock, RealSpawn, Tick, Ticker};

    use super::*;
    use crate::error::Error;

    /// A machine that has no thread left.
    #[derive(Debug)]
    struct NoThreads;

    impl Spawn for NoThreads {
        fn job(&self, _: &str, _: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn Job>> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn ticker(&self, _: &str, _: Box<dyn Tick>, _: Arc<dyn Clock>) -> io::Result<Arc<dyn Ticker>> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn spawns() -> [Box<dyn Spawn>; 3] {
        [Box::new(RealSpawn), Box::new(InlineSpawn::default()), Box::new(NoThreads)]
    }

    fn piece(n: u64) -> Piece {
        Piece { replayed: n, bytes: 2 << 20, ..Piece::default() }
    }

    /// Notes what it applies; what `of` answers for a piece is the outcome.
    fn noting(of: impl Fn(u64) -> Result<()> + Send + 'static) -> (Arc<Mutex<Vec<u64>>>, Apply) {
        let noted = Arc::new(Mutex::new(Vec::new()));
        let applied = Arc::clone(&noted);
        let apply = move |piece: &Piece| {
            applied.lock().unwrap().push(piece.replayed);
            of(piece.replayed)
        };
        (noted, Box::new(apply))
    }

    #[test]
    fn pieces_are_applied_once_and_in_order_whoever_does_it() {
        for spawn in spawns() {
            for is_long in [true, false] {
                let (noted, apply) = noting(|_| Ok(()));
                let line = Line::new(is_long, apply, &*spawn);
                (0..100).for_each(|n| line.push(piece(n)).unwrap());
                line.finish().unwrap();
                assert_eq!(*noted.lock().unwrap(), (0..100).collect::<Vec<_>>(), "{spawn:?}");
            }
        }
    }

    #[test]
    fn after_an_error_nothing_more_is_applied_and_whoever_asks_is_told() {
        for spawn in spawns() {
            let (noted, apply) =
                noting(|n| if n == 5 { Err(Error::invalid("AKI-0101", "no")) } else { Ok(()) });
            let line = Line::new(true, apply, &*spawn);
            let pushed = (0..100).try_for_each(|n| line.push(piece(n)));
            assert!(pushed.is_err(), "{spawn:?}: the line is shorter than what was pushed");
            assert!(line.finish().is_err());
            assert_eq!(*noted.lock().unwrap(), [0, 1, 2, 3, 4, 5], "{spawn:?}");
        }
    }

    #[test]
    fn a_panic_of_either_thread_is_one_here_and_nobody_waits_for_ever() {
        for spawn in spawns() {
            let (noted, apply) = noting(|n| {
                assert_ne!(n, 5, "on purpose");
                Ok(())
            });
            let ended = catch_unwind(AssertUnwindSafe(|| {
                let line = Line::new(true, apply, &*spawn);
                (0..100).try_for_each(|n| line.push(piece(n)))?;
                line.finish()
            }));
            assert!(ended.is_err(), "{spawn:?}");
            assert_eq!(*noted.lock().unwrap(), [0, 1, 2, 3, 4, 5], "nothing after half a piece: {spawn:?}");
        }
    }

    /// The other thread has the piece that panics, and this one has more to bring.
    #[test]
    fn what_comes_after_a_panic_of_the_other_thread_is_never_applied() {
        let (taken, is_taken) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let (noted, apply) = noting(move |_| {
            taken.send(()).unwrap();
            may_go_on.recv().unwrap();
            panic!("on purpose");
        });
        let line = Line::new(true, apply, &RealSpawn);
        line.push(piece(0)).unwrap();
        is_taken.recv().unwrap();
        line.push(piece(1)).unwrap();
        line.push(piece(2)).unwrap();
        go_on.send(()).unwrap();
        let ended = catch_unwind(AssertUnwindSafe(|| (3..9).try_for_each(|n| line.push(piece(n)))));
        assert!(ended.is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| line.finish())).is_err());
        assert_eq!(*noted.lock().unwrap(), [0]);
    }

    #[test]
    fn a_line_that_is_dropped_forgets_what_waits() {
        let (taken, is_taken) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let (noted, apply) = noting(move |_| {
            taken.send(()).unwrap();
            may_go_on.recv().unwrap();
            Ok(())
        });
        let line = Line::new(true, apply, &RealSpawn);
        (0..2).for_each(|n| line.push(piece(n)).unwrap());
        is_taken.recv().unwrap();
        line.ground.state().is_over = true;
        go_on.send(()).unwrap();
        drop(line);
        assert_eq!(*noted.lock().unwrap(), [0]);
    }

    #[test]
    fn a_piece_larger_than_what_may_wait_waits_alone() {
        let (noted, apply) = noting(|_| Ok(()));
        let line = Line::new(false, apply, &NoThreads);
        let large = |n| Piece { bytes: 64 << 20, ..piece(n) };
        line.push(large(0)).unwrap();
        assert!(noted.lock().unwrap().is_empty());
        line.push(large(1)).unwrap();
        assert_eq!(*noted.lock().unwrap(), [0]);
        line.finish().unwrap();
        assert_eq!(*noted.lock().unwrap(), [0, 1]);
    }
}
