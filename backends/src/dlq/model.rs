//! Loom models of the queue: what is acknowledged is on disk, an entry has one claim, a failure reaches everybody.

use loom::thread;

use super::ledger::{Ledger, Sink, Trouble};
use super::letter::{Attempt, Letter, LetterId, LetterState, NewLetter};
use super::letters::{Change, Letters, What};
use super::settings::DlqSettings;
use super::which::Which;
use super::*;
use crate::class::{Class, Op};
use crate::explored::explore;
use crate::sync::Mutex;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What a power cut would leave.
#[derive(Default)]
struct Image {
    snapshot: BTreeMap<LetterId, ()>,
    last: u64,
    journal: Vec<Change>,
    fails: u32,
}

impl Image {
    fn letters(&self) -> BTreeMap<LetterId, ()> {
        let mut letters = self.snapshot.clone();
        for change in self.journal.iter().filter(|change| change.n > self.last) {
            match &change.what {
                What::Added(letter) | What::Updated(letter) => letters.insert(letter.id.clone(), ()),
                What::Gone(letter, _) => letters.remove(&letter.id),
            };
        }
        letters
    }
}

struct Files(Mutex<Image>);

impl Files {
    fn new() -> Self {
        Self::failing(0)
    }

    fn failing(fails: u32) -> Self {
        Self(Mutex::new(Image { fails, ..Image::default() }))
    }

    fn fails(image: &mut Image) -> Result<(), Trouble> {
        if image.fails == 0 {
            return Ok(());
        }
        image.fails -= 1;
        Err(Trouble::new("the sync", Path::new("journal"), io::ErrorKind::Other.into()))
    }
}

impl Sink for Files {
    fn append(&self, changes: &[Change]) -> Result<(), Trouble> {
        let mut image = self.0.lock();
        Self::fails(&mut image)?;
        image.journal.extend_from_slice(changes);
        Ok(())
    }

    fn replace(&self, letters: &[Arc<Letter>], last: u64, _since: &[Change]) -> Result<(), Trouble> {
        {
            let mut image = self.0.lock();
            Self::fails(&mut image)?;
            image.snapshot = letters.iter().map(|letter| (letter.id.clone(), ())).collect();
            image.last = last;
        }
        self.0.lock().journal.clear();
        Ok(())
    }
}

fn queue(files: Files) -> Arc<Ledger<Files>> {
    Arc::new(Ledger::new(Letters::new(&DlqSettings::default()), 0, files))
}

fn id(n: u32) -> LetterId {
    format!("00000000-0000-7000-8000-{n:012}").parse().unwrap()
}

fn put_letter(queue: &Ledger<Files>, n: u32) -> u64 {
    let new = NewLetter {
        backend: "s3".into(),
        collection_id: "1".into(),
        segment_id: "1".into(),
        op: Op::Put,
        key: n.to_string(),
        local: "local".into(),
        len: 1,
        crc32: 2,
        local_number: 3,
        class: Class::Transient,
        error_message: String::new(),
        retry_count: 3,
        attempts: Vec::new(),
        priority: 0,
        poison: false,
    };
    let mut state = queue.room.lock();
    state.letters.add(new, id(n), 0);
    state.letters.changes.last()
}

/// As `DeadLetters::add`; whether it was acknowledged, and then it is on disk at that very moment.
fn add(queue: &Ledger<Files>, n: u32) -> bool {
    let change = put_letter(queue, n);
    let told = queue.settle(change).is_ok();
    assert!(!told || queue.sink.0.lock().letters().contains_key(&id(n)), "{n} is acknowledged and nowhere");
    told
}

fn in_thread<T: Send + 'static>(
    queue: &Arc<Ledger<Files>>,
    run: impl FnOnce(&Arc<Ledger<Files>>) -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let queue = Arc::clone(queue);
    thread::spawn(move || run(&queue))
}

fn m11(adders: u32) {
    let queue = queue(Files::new());
    add(&queue, 0);
    let others: Vec<_> = (1..adders).map(|n| in_thread(&queue, move |queue| add(queue, n))).collect();
    let persists = in_thread(&queue, |queue| queue.persist().unwrap());
    assert!(add(&queue, adders));
    others.into_iter().for_each(|thread| assert!(thread.join().unwrap()));
    persists.join().unwrap();
    assert_eq!(queue.sink.0.lock().letters().len(), adders as usize + 1);
}

/// Bug `dlq_snapshot_covers_later_adds`.
#[test]
fn model_m11_an_acknowledged_add_is_in_the_snapshot_or_in_the_journal() {
    explore("m11, 2 threads", || m11(1));
    explore("m11, 3 threads", || m11(2));
}

#[cfg(akidb_loom_nightly)]
#[test]
fn model_m11_with_four_threads() {
    explore("m11, 4 threads", || m11(3));
}

/// Bug `dlq_failed_snapshot_forgets`.
#[test]
fn model_m11_a_snapshot_that_fails_takes_nothing_with_it() {
    explore("m11, the first write fails", || {
        let queue = queue(Files::failing(1));
        let persists = in_thread(&queue, |queue| queue.persist().is_ok());
        let told = add(&queue, 1);
        let persisted = persists.join().unwrap();
        assert!(told || persisted, "one of two writes fails");
        assert!(add(&queue, 2) || queue.persist().is_ok());
        assert_eq!(queue.sink.0.lock().letters().len(), 2);
    });
}

fn claim(queue: &Ledger<Files>) -> Option<Claim> {
    let letter = queue.room.lock().letters.claim(&id(1))?;
    Some(Claim::new(Arc::clone(&queue.room), letter))
}

fn claim_due(queue: &Ledger<Files>) -> Option<Claim> {
    let letter = queue.room.lock().letters.claim_due("s3", 120_000, 1).pop()?;
    Some(Claim::new(Arc::clone(&queue.room), letter))
}

/// Bugs `dlq_claims_twice`, `dlq_retry_all_frees_claims`: a redrive, a person's retry of all, and a worker.
#[test]
fn model_m12_an_entry_has_one_claim() {
    explore("m12, all keep theirs", || {
        let queue = queue(Files::new());
        put_letter(&queue, 1);
        let redrive = in_thread(&queue, |queue| claim_due(queue));
        let retry_all = in_thread(&queue, |queue| {
            queue.room.lock().letters.ask_retry_all(&Which::all(), 120_000);
            claim_due(queue)
        });
        let worker = claim(&queue);
        let claims = [redrive.join().unwrap(), retry_all.join().unwrap(), worker];
        assert_eq!(claims.iter().flatten().count(), 1);
    });
}

#[test]
fn model_m12_an_upload_is_sent_once_and_a_claim_given_back_is_taken_again() {
    explore("m12, one gives back, one sends", || {
        let queue = queue(Files::new());
        put_letter(&queue, 1);
        let gives_up = in_thread(&queue, |queue| drop(claim_due(queue)));
        let sends = |queue: &Arc<Ledger<Files>>| {
            let sent = claim(queue).map(Claim::settle);
            sent.is_some_and(|id| queue.room.lock().letters.resolve(&id))
        };
        let other = in_thread(&queue, sends);
        let sent = u32::from(sends(&queue)) + u32::from(other.join().unwrap());
        gives_up.join().unwrap();
        assert_eq!(sent + u32::from(sends(&queue)), 1);
    });
}

#[test]
fn model_m12_a_failure_and_a_retry_all_leave_one_that_can_be_claimed() {
    explore("m12, a failure and a person", || {
        let queue = queue(Files::new());
        put_letter(&queue, 1);
        let claim = claim_due(&queue).unwrap();
        let asks = in_thread(&queue, |queue| queue.room.lock().letters.ask_retry_all(&Which::all(), 120_000));
        let attempt = Attempt { unix_ms: 0, status: None, request_id: None, millis: 0 };
        let id = claim.settle();
        queue.room.lock().letters.failed(&id, Class::Local, "bad", attempt, 120_000);
        assert_eq!(asks.join().unwrap(), 1);
        let letter = queue.room.lock().letters.get(&id).cloned().unwrap();
        // Poison, and due only if the person asked after the failure.
        assert_eq!((letter.state, letter.asked), (LetterState::Poison, claim_due(&queue).is_some()));
    });
}

/// Bugs `dlq_wakes_nobody`, where loom sees the deadlock, and `dlq_error_swallowed`.
#[test]
fn model_m14_the_leaders_failure_reaches_all_and_acknowledges_none() {
    explore("m14, 2 threads", || m14(2));
    explore("m14, 3 threads", || m14(3));
}

fn m14(adders: u32) {
    let queue = queue(Files::failing(1));
    let others: Vec<_> = (1..adders).map(|n| in_thread(&queue, move |queue| add(queue, n))).collect();
    let told = add(&queue, adders);
    let others = others.into_iter().map(|thread| thread.join().unwrap());
    assert_eq!(others.chain([told]).filter(|told| *told).count(), 0, "acknowledged behind a failed write");
    assert!(queue.persist().is_ok() && add(&queue, 9));
    assert_eq!(queue.sink.0.lock().letters().len(), adders as usize + 1);
}

#[cfg(akidb_loom_nightly)]
#[test]
fn model_m14_with_four_threads() {
    explore("m14, 4 threads", || m14(4));
}

#[test]
fn model_m14_who_heals_acknowledges_only_what_is_on_disk() {
    explore("m14, healed meanwhile", || {
        let queue = queue(Files::failing(1));
        let adds = in_thread(&queue, |queue| add(queue, 1));
        let heals = in_thread(&queue, |queue| queue.persist().is_ok());
        add(&queue, 2);
        adds.join().unwrap();
        let healed = heals.join().unwrap();
        assert!(healed || queue.persist().is_ok() || add(&queue, 3));
        assert!(queue.persist().is_ok());
        assert!([1, 2].iter().all(|&n| queue.sink.0.lock().letters().contains_key(&id(n))));
    });
}
