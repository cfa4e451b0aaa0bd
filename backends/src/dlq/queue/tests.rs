use akidb_host::sim::{CrashDisk, FakeClock};

use super::*;
use crate::dlq::letter::LetterState;
use crate::dlq::test_letters::{attempt, new_letter};

mod crash;
mod faults;

const PATH: &str = "/db/dlq/dlq.json";

struct Rig {
    disk: CrashDisk,
    clock: Arc<FakeClock>,
    settings: DlqSettings,
}

impl Rig {
    fn new() -> Self {
        let disk = CrashDisk::new(1);
        disk.create_dir_all(Path::new("/db")).unwrap();
        Self { disk, clock: Arc::new(FakeClock::default()), settings: DlqSettings::default() }
    }

    fn open(&self) -> (DeadLetters, Loaded) {
        let (fs, clock) = (Arc::new(self.disk.clone()), Arc::clone(&self.clock));
        DeadLetters::open(fs, clock, Path::new(PATH), self.settings.clone()).unwrap()
    }

    fn now_ms(&self) -> i64 {
        self.clock.unix_micros() / 1_000
    }
}

#[test]
fn what_was_added_is_there_after_a_power_cut_and_what_was_resolved_is_gone_after_a_tick() {
    let mut rig = Rig::new();
    let (queue, loaded) = rig.open();
    assert_eq!(loaded, Loaded::default());
    assert!(rig.disk.list(Path::new("/db/dlq")).is_err(), "an empty queue makes no file");
    let a = queue.add(new_letter("a")).unwrap().unwrap();
    let b = queue.add(new_letter("b")).unwrap().unwrap();
    assert_eq!(queue.add(new_letter("b")).unwrap(), None);
    let claim = queue.claim(&a).unwrap();
    assert!(queue.claim(&a).is_none());
    queue.resolve(claim);
    queue.tick(rig.clock.now());
    rig.disk = rig.disk.power_cut_keeping(0, &mut Rng::seeded(1));
    let (queue, loaded) = rig.open();
    assert_eq!((loaded.letters, loaded.corrupt_lines, loaded.is_torn), (1, 0, false));
    let left = queue.list(&Which::all(), 10);
    assert_eq!((left[0].id.clone(), left[0].retry_count), (b, 6));
    queue.persist().unwrap();
    let (read, _) = DeadLetters::read(&rig.disk, Path::new(PATH)).unwrap();
    assert_eq!(read, left);
}

#[test]
fn a_compressed_snapshot_is_read_whatever_is_set_and_the_next_has_the_form_that_is() {
    let mut rig = Rig::new();
    let starts = |rig: &Rig| akidb_host::read_file(&rig.disk, Path::new(PATH)).unwrap()[..4].to_vec();
    let mut ids = Vec::new();
    for compress in [true, false, true] {
        rig.settings.compress = compress;
        let (queue, loaded) = rig.open();
        assert_eq!((loaded.letters, loaded.corrupt_lines), (ids.len() as u64, 0));
        ids.push(queue.add(new_letter(&format!("{}", ids.len()))).unwrap().unwrap());
        queue.persist().unwrap();
        assert_eq!(starts(&rig) == [0x28, 0xb5, 0x2f, 0xfd], compress);
        let listed: Vec<_> = queue.list(&Which::all(), 10).into_iter().map(|letter| letter.id).collect();
        assert_eq!(listed, ids);
    }
}

#[test]
fn three_redrives_refused_for_good_are_poison_until_a_person_asks() {
    let rig = Rig::new();
    let (queue, _) = rig.open();
    let id = queue.add(new_letter("a")).unwrap().unwrap();
    assert!(queue.claim_due("s3", rig.now_ms(), 9).is_empty(), "its first minute is not over");
    for round in 0..3 {
        rig.clock.advance(Duration::from_secs(60 << round));
        assert!(!queue.parked("s3", "a", rig.now_ms()));
        let claim = queue.claim_due("s3", rig.now_ms(), 9).pop().expect("due");
        queue.failed(claim, Class::Permanent, "400", attempt());
        assert!(queue.parked("s3", "a", rig.now_ms()));
    }
    assert_eq!(queue.get(&id).unwrap().state, LetterState::Poison);
    rig.clock.advance(Duration::from_secs(7_200));
    assert!(queue.claim_due("s3", rig.now_ms(), 9).is_empty());
    assert_eq!(queue.ask_retry_all(&Which::backend("s3")), 1);
    let claim = queue.claim_due("s3", rig.now_ms(), 9).pop().expect("asked for");
    drop(claim);
    let claim = queue.claim_due("s3", rig.now_ms(), 9).pop().expect("given back, still asked for");
    queue.resolve(claim);
    assert_eq!(queue.stats().size, 0);
}
