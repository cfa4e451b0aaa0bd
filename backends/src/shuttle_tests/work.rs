//! The uploader's turns, with threads where it has tasks: puts, burials, redrives, commits.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use shuttle::future::block_on;
use shuttle::thread;

use super::store::Answer;
use super::world::{BACKEND, Sent, World};
use super::{Plan, chance};
use crate::breaker::{Refused, State};
use crate::class::Class;
use crate::dlq::{LetterId, LetterState, PARKED_MS, Which};
use crate::queue::{Next, Queue, Turn};
use crate::sync::Mutex;

/// More than any schedule needs: a backlog that has not drained by then never will.
const MOST_TURNS: u32 = 500;

type PlanTurn<'w> = Turn<&'w Queue<Arc<Plan>>, Arc<Plan>>;

/// What comes after a turn.
enum Then {
    Again,
    Pause(i64),
    /// Only a person can help: wait for the bell.
    Sleep,
}

/// The uploader's thread.
pub(super) fn drive(world: &World) {
    for _ in 0..MOST_TURNS {
        match Queue::next(&world.queue) {
            Next::Stop => return,
            Next::Idle => block_on(world.queue.bell()),
            Next::Work(turn) => {
                let then = world.turn(&turn);
                drop(turn);
                world.told(|standing| standing.turns += 1);
                match then {
                    Then::Again => {}
                    Then::Pause(ms) => {
                        world.pass(ms);
                        thread::yield_now();
                    }
                    Then::Sleep => {
                        world.told(|standing| standing.is_asleep = true);
                        block_on(world.queue.bell());
                    }
                }
            }
        }
    }
    panic!("the backlog does not drain: {:?}", world.ledger.room.lock().letters.stats(None, world.now()));
}

impl World {
    fn turn(&self, turn: &PlanTurn<'_>) -> Then {
        let plan = turn.plan();
        // A commit without an answer may have done its work.
        if self.store.newest().1 >= plan.number {
            return self.published(plan);
        }
        let missing = self.missing(plan);
        self.supersede(&missing);
        let free: Vec<u32> = missing.iter().copied().filter(|file| self.is_free(*file)).collect();
        let todo = Mutex::new(free);
        // This thread sends nothing itself: the end of a scope wakes it whatever it waits for in there.
        thread::scope(|scope| {
            for _ in 0..super::SENDERS {
                scope.spawn(|| self.send(turn, &todo));
            }
        });
        self.nobody_sends();
        if self.missing(plan).is_empty() {
            let number = self.store.newest().0 + 1;
            return match self.call(|_| self.store.commit(number, plan)) {
                Sent::Answered(Answer::Well) => self.published(plan),
                _ => Then::Pause(1_000),
            };
        }
        if turn.is_over() {
            self.seen.overtaken.add();
            return Then::Again;
        }
        self.rest(plan)
    }

    fn published(&self, plan: &Plan) -> Then {
        self.supersede(&BTreeSet::new());
        self.queue.done(plan.number);
        self.told(|standing| standing.published = plan.number);
        Then::Again
    }

    /// With no call under way, a breaker that tries calls has a place for one.
    fn nobody_sends(&self) {
        let refused = self.breaker.check(self.now_ms());
        let is_lost = matches!(refused, Err(Refused { state: State::HalfOpen, .. }));
        assert!(!is_lost, "a place among the tried calls is lost: {refused:?}");
        let stats = self.ledger.room.lock().letters.stats(None, self.now());
        assert!(stats.size <= u64::from(self.max_size) && stats.redriving == 0, "{stats:?}");
    }

    /// How long a turn that left something is followed by nothing; what is left has a time, or a letter people see.
    fn rest(&self, plan: &Plan) -> Then {
        let missing = self.missing(plan);
        if missing.iter().any(|file| self.is_free(*file)) {
            return Then::Pause(1_000);
        }
        let state = self.ledger.room.lock();
        let letters = &state.letters;
        if let Some(due) = letters.next_due(BACKEND) {
            return Then::Pause((due - self.now()).max(1_000));
        }
        if missing.iter().any(|file| letters.id_of(BACKEND, &file.to_string()).is_none()) {
            return Then::Pause(PARKED_MS);
        }
        let poison = Which::backend(BACKEND).with_state(LetterState::Poison);
        let listed: BTreeSet<_> = letters.list(&poison).map(|letter| letter.key.clone()).collect();
        assert!(missing.iter().all(|file| listed.contains(&file.to_string())), "forgotten: {missing:?}");
        self.seen.slept.add();
        Then::Sleep
    }

    /// One of the threads that send: files without a letter first, then letters.
    fn send(&self, turn: &PlanTurn<'_>, todo: &Mutex<Vec<u32>>) {
        while !turn.is_over() {
            let Some(file) = todo.lock().pop() else { break };
            match self.put(file) {
                Sent::Answered(Answer::Well) | Sent::GivenUp => {}
                Sent::Answered(Answer::Refusal) => self.bury(turn, file, Class::Permanent),
                // The backend's fault is no letter, unless all looks well there.
                Sent::Answered(Answer::Fault) if self.breaker.state() != State::Closed => {}
                Sent::Answered(Answer::Fault) => self.bury(turn, file, Class::Transient),
                Sent::Held => break,
            }
        }
        self.redrive(turn);
    }

    fn bury(&self, turn: &PlanTurn<'_>, file: u32, class: Class) {
        let plan = turn.plan();
        self.add_letter(plan.number, file, class, class == Class::Permanent && chance(2));
    }

    /// Tries letters: after a healing all of them by name, and those that are due.
    fn redrive(&self, turn: &PlanTurn<'_>) {
        let mut revived: VecDeque<LetterId> = if chance(2) { self.dead() } else { VecDeque::new() };
        while !turn.is_over() {
            let claim = match revived.pop_front() {
                Some(id) => self.claim(&id),
                None => match self.claim_due() {
                    None => return,
                    some => some,
                },
            };
            let Some(claim) = claim else { continue };
            let file: u32 = claim.letter().key.parse().expect("files are numbers");
            if !self.missing(turn.plan()).contains(&file) {
                self.resolve(claim);
                continue;
            }
            self.seen.redriven.add();
            match self.put(file) {
                Sent::Answered(Answer::Well) => self.resolve(claim),
                Sent::Answered(Answer::Refusal) => self.failed(claim, Class::Permanent),
                Sent::Answered(Answer::Fault) if self.breaker.state() == State::Closed => {
                    self.failed(claim, Class::Transient);
                }
                // The backend is not well, or the call was given up: the letter is as it was.
                Sent::Answered(Answer::Fault) | Sent::Held | Sent::GivenUp => {
                    self.give_back(claim);
                    return;
                }
            }
        }
    }
}
