//! Power cuts and kills before every call of a life of the queue: what was acknowledged is there, what never was is not.

use std::collections::{BTreeMap, BTreeSet};

use akidb_host::sim::{Act, HookFs};

use super::*;

const MAX_SIZE: u32 = 8;

/// What may be on the disk.
#[derive(Clone, Default)]
struct Expected {
    /// Added and acknowledged, not yet on their way out.
    there: BTreeSet<LetterId>,
    /// Gone for good: that was on disk.
    gone: BTreeSet<LetterId>,
}

struct Cut {
    image: CrashDisk,
    expected: Expected,
    place: String,
}

/// One life of the queue, seeded, and the power cuts in it.
struct Life {
    rig: Rig,
    queue: DeadLetters,
    expected: Arc<Mutex<Expected>>,
    /// Every state a letter has had.
    states: BTreeMap<LetterId, Vec<Letter>>,
    rng: Rng,
    leaving: BTreeSet<LetterId>,
    keys: u32,
}

impl Life {
    fn new(seed: u64, cuts: &Arc<Mutex<Vec<Cut>>>) -> Self {
        let mut rig = Rig::new();
        rig.settings.max_size = MAX_SIZE;
        let expected = Arc::new(Mutex::new(Expected::default()));
        let (disk, rng) = (rig.disk.clone(), Mutex::new(Rng::seeded(seed)));
        let (seen, cuts) = (Arc::clone(&expected), Arc::clone(cuts));
        let hook = HookFs::new(
            Arc::new(rig.disk.clone()),
            Arc::new(move |call| {
                if call.op.changes() {
                    let mut rng = rng.lock();
                    let image = if rng.below(3) == 0 { disk.kill() } else { disk.power_cut(&mut rng) };
                    let place = format!(
                        "seed {seed}, before call {} ({:?} {})",
                        call.n,
                        call.op,
                        call.path.display()
                    );
                    cuts.lock().push(Cut { image, expected: seen.lock().clone(), place });
                }
                Act::Go
            }),
        );
        let (queue, _) =
            DeadLetters::open(Arc::new(hook), rig.clock.clone(), Path::new(PATH), rig.settings.clone())
                .unwrap();
        let states = BTreeMap::new();
        Self { rig, queue, expected, states, rng: Rng::seeded(!seed), leaving: BTreeSet::new(), keys: 0 }
    }

    fn leaves(&mut self, id: &LetterId) {
        self.expected.lock().there.remove(id);
        self.leaving.insert(id.clone());
    }

    fn add(&mut self) {
        let all = self.queue.list(&Which::all(), usize::MAX);
        if all.len() == MAX_SIZE as usize {
            self.leaves(&all[0].id);
        }
        self.keys += 1;
        let id = self.queue.add(new_letter(&self.keys.to_string())).unwrap().unwrap();
        self.expected.lock().there.insert(id);
        self.written();
    }

    /// Everything up to here is on disk.
    fn written(&mut self) {
        self.expected.lock().gone.extend(std::mem::take(&mut self.leaving));
    }

    fn some_id(&mut self) -> Option<LetterId> {
        let all = self.queue.list(&Which::all(), usize::MAX);
        let at = usize::try_from(self.rng.below(all.len() as u64)).unwrap();
        all.get(at).map(|letter| letter.id.clone())
    }

    fn step(&mut self) {
        self.rig.clock.advance(Duration::from_secs(self.rng.below(400)));
        let what = self.rng.below(10);
        let id = self.some_id();
        match (what, id) {
            (4, Some(id)) => {
                self.leaves(&id);
                self.queue.resolve(self.queue.claim(&id).unwrap());
            }
            (5, Some(id)) => {
                let claim = self.queue.claim(&id).unwrap();
                self.queue.failed(claim, Class::Permanent, "400", attempt());
            }
            (6, Some(id)) => {
                self.leaves(&id);
                assert!(self.queue.drop_entry(&id, true).unwrap());
                self.written();
            }
            (7, Some(id)) => {
                let key = self.queue.get(&id).unwrap().key;
                assert_eq!(self.queue.add(new_letter(&key)).unwrap(), None);
                self.written();
            }
            (8, _) => {
                self.queue.persist().unwrap();
                self.written();
            }
            (9, _) => {
                self.queue.tick(self.rig.clock.now());
                self.written();
            }
            _ => self.add(),
        }
        for letter in self.queue.list(&Which::all(), usize::MAX) {
            self.states.entry(letter.id.clone()).or_default().push(letter);
        }
    }
}

fn check(cut: &Cut, rig: &Rig, states: &BTreeMap<LetterId, Vec<Letter>>) {
    let place = &cut.place;
    let rig = Rig { disk: cut.image.clone(), clock: rig.clock.clone(), settings: rig.settings.clone() };
    let (queue, loaded) = rig.open();
    assert!(loaded.unreadable.is_empty(), "{place}: {loaded:?}");
    let left = queue.list(&Which::all(), usize::MAX);
    for letter in &left {
        let known = states.get(&letter.id).into_iter().flatten();
        assert!(known.clone().any(|state| state == letter), "{place}: never was: {letter:?}");
        assert!(!cut.expected.gone.contains(&letter.id), "{place}: back again: {letter:?}");
    }
    let left: BTreeSet<_> = left.into_iter().map(|letter| letter.id).collect();
    for id in &cut.expected.there {
        assert!(left.contains(id), "{place}: lost {id}; {loaded:?}");
    }
    // What was recovered can be built on.
    let id = queue.add(new_letter("new")).unwrap().expect("not there before");
    let rig = Rig { disk: rig.disk.power_cut_keeping(0, &mut Rng::seeded(1)), ..rig };
    let (queue, _) = rig.open();
    assert!(queue.get(&id).is_some(), "{place}: lost what came after the recovery");
    let kept = left.iter().filter(|id| queue.get(id).is_some()).count();
    assert!(kept + 1 >= left.len(), "{place}: the recovery lost letters: {kept} of {}", left.len());
}

#[test]
fn a_power_cut_or_a_kill_at_any_call_loses_nothing_acknowledged() {
    let mut seen = 0;
    for seed in 0..40 {
        let cuts = Arc::new(Mutex::new(Vec::new()));
        let mut life = Life::new(seed, &cuts);
        (0..30).for_each(|_| life.step());
        let cuts = std::mem::take(&mut *cuts.lock());
        assert!(cuts.len() > 30, "seed {seed}: {} cuts", cuts.len());
        cuts.iter().for_each(|cut| check(cut, &life.rig, &life.states));
        seen += cuts.len();
    }
    println!("{seen} power cuts and kills");
}

#[test]
fn what_many_threads_were_told_is_on_disk_whatever_snapshots_are_taken_meanwhile() {
    const THREADS: u32 = 8;
    const EACH: u32 = 40;
    let rig = Rig::new();
    let (queue, _) = rig.open();
    let gate = std::sync::Barrier::new(THREADS as usize + 1);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (queue, gate) = (&queue, &gate);
            scope.spawn(move || {
                gate.wait();
                for n in 0..EACH {
                    queue.add(new_letter(&format!("{thread}-{n}"))).unwrap().unwrap();
                }
            });
        }
        gate.wait();
        (0..20).for_each(|_| queue.persist().unwrap());
    });
    let ids: Vec<_> = queue.list(&Which::all(), usize::MAX).into_iter().map(|letter| letter.id).collect();
    let rig = Rig { disk: rig.disk.power_cut_keeping(0, &mut Rng::seeded(1)), ..rig };
    let (again, loaded) = rig.open();
    let left: Vec<_> = again.list(&Which::all(), usize::MAX).into_iter().map(|letter| letter.id).collect();
    assert_eq!((left.len(), loaded.corrupt_lines), ((THREADS * EACH) as usize, 0));
    assert_eq!(left, ids);
}
