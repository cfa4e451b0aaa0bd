//! Copies of one directory over one backend, all alive: whoever claimed it last publishes there, nobody else does, and a
//! document is the state of one of them, never a mixture. In half of the worlds calls to the backend fail, or seem to; in
//! all of them hours pass, after which somebody prunes and sweeps there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use akidb::object_store::ObjectStoreExt;
use akidb::object_store::memory::InMemory;
use akidb::{Db, ErrorKind, Op, Settings, restore_on};
use akidb_backends::Document;
use akidb_backends::fault::{Fault, FaultStore};
use akidb_host::Rng;
use akidb_host::sim::{CrashDisk, FakeClock};
use futures::FutureExt;
use serde_json::{Value, json};

use super::backend::{change_weather, clear};
use super::dated::Dated;
use super::machine::{DIR, Machine, settings};
use super::restores::{check_all, documents, restored};
use super::rows::{Scale, id, schema, vector};
use super::truth::{Tables, difference, read};
use super::uploads::{PAUSES, is_uploaded};

const COPIES: usize = 4;
const STEPS: u64 = 70;
const HOUR: Duration = Duration::from_secs(3_600);
/// More opens than all the others had: then its epoch is above theirs.
const OPENS: u32 = 80;

/// One copy, on a machine of its own.
struct Twin {
    machine: Machine,
    db: Db,
    /// All that it ever was.
    states: Vec<Tables>,
    is_fenced: bool,
}

/// Who published last.
struct Owner {
    copy: usize,
    epoch: u64,
    writer: u32,
}

struct Rivals {
    rng: Rng,
    settings: Settings,
    store: Arc<InMemory>,
    /// The one way to it.
    faults: FaultStore,
    has_weather: bool,
    /// That of the backend, and of every machine.
    clock: Arc<FakeClock>,
    copies: Vec<Twin>,
    owner: Option<Owner>,
    /// What the newest document restores.
    newest: Option<Tables>,
    /// Writers that lost the backend.
    lost: BTreeSet<u32>,
    seen: u64,
    versions: u64,
}

/// What one seed met.
#[derive(Clone, Copy, Default)]
pub(crate) struct Met {
    pub(crate) fences: u64,
    pub(crate) claims: u64,
    /// Calls that failed, or seemed to, or were never answered.
    pub(crate) faults: u64,
    /// Documents and files removed because they were old and no longer needed.
    pub(crate) removed: u64,
}

pub(crate) fn run(seed: u64) -> Met {
    let mut rng = Rng::seeded(seed);
    let settings = settings(Scale::Small, &mut rng);
    let mut rivals = Rivals::new(rng, settings);
    let disk = CrashDisk::new(rivals.rng.u64());
    rivals.add(disk, Vec::new());
    let schema = schema(&mut rivals.rng);
    rivals.copies[0].db.create_collection("rows", schema).expect("nothing fails");
    let empty = read(&rivals.copies[0].db, Scale::Small).expect("nothing fails");
    rivals.copies[0].states.push(empty);
    let mut met = Met::default();
    for _ in 0..STEPS {
        let at = rivals.rng.below(rivals.copies.len() as u64) as usize;
        rivals.step(at);
        rivals.look(at, &mut met);
    }
    rivals.finish(&mut met);
    met
}

impl Rivals {
    fn new(mut rng: Rng, settings: Settings) -> Self {
        let dated = Dated::new();
        let has_weather = rng.below(2) == 0;
        Self {
            rng,
            settings,
            store: Arc::clone(&dated.store),
            clock: Arc::clone(&dated.clock),
            faults: FaultStore::new(Arc::new(dated)),
            has_weather,
            copies: Vec::new(),
            owner: None,
            newest: None,
            lost: BTreeSet::new(),
            seen: 0,
            versions: 0,
        }
    }

    fn machine(&mut self, disk: CrashDisk) -> Machine {
        let machine = Machine::plain(disk, &mut self.rng).with_clock(&self.clock);
        machine.with_store(Arc::new(self.faults.clone()))
    }

    fn open(&mut self, machine: &Machine) -> Db {
        machine.open(&self.settings, self.rng.u64()).expect("a copy opens")
    }

    fn add(&mut self, disk: CrashDisk, states: Vec<Tables>) {
        let machine = self.machine(disk);
        let db = self.open(&machine);
        let states = [states, vec![read(&db, Scale::Small).expect("nothing fails")]].concat();
        self.copies.push(Twin { machine, db, states, is_fenced: false });
    }

    fn step(&mut self, at: usize) {
        match self.rng.below(23) {
            20 if self.has_weather => change_weather(&self.faults, &mut self.rng),
            20..22 => self.copies[at].machine.rest(HOUR * (1 + self.rng.below(30) as u32)),
            0..7 => self.write(at),
            7..10 => self.copies[at].db.flush().expect("nothing fails"),
            10..16 => self.copies[at].machine.pass(),
            16..18 => self.reopen(at),
            _ if self.copies.len() == COPIES => self.copies[at].machine.pass(),
            // As it is at this moment, its writer alive.
            18 => self.add(self.copies[at].machine.disk.kill(), self.copies[at].states.clone()),
            _ => self.restore(),
        }
    }

    fn write(&mut self, at: usize) {
        self.versions += 1;
        let copy = &mut self.copies[at];
        let rows = copy.db.collection("rows").expect("it is there");
        let schema = rows.schema().expect("nothing fails");
        let vector = vector(&schema, &mut self.rng);
        let id = id(&schema, self.rng.below(Scale::Small.ids()));
        let Value::Object(payload) = json!({ "version": self.versions }) else { unreachable!("it is one") };
        rows.upsert(id.clone(), &vector, payload.clone()).expect("what is local goes on");
        let row = rows.get(id).expect("nothing fails").expect("it was written");
        assert_eq!(row.payload, payload);
        copy.states.push(read(&copy.db, Scale::Small).expect("nothing fails"));
    }

    /// In the same directory: closed, or the process died.
    fn reopen(&mut self, at: usize) {
        let Twin { machine, db, states, .. } = self.copies.remove(at);
        let disk = if self.rng.below(2) == 0 {
            db.close().expect("nothing fails");
            machine.disk.clone()
        } else {
            machine.disk.kill()
        };
        drop(machine);
        let machine = self.machine(disk);
        let db = self.open(&machine);
        let now = read(&db, Scale::Small).expect("nothing fails");
        let last = states.last().expect("it was something");
        assert_eq!(difference(last, &now), "", "a copy is what it was");
        self.copies.insert(at, Twin { machine, db, states, is_fenced: false });
    }

    /// Another machine, from what is on the backend.
    fn restore(&mut self) {
        let disk = CrashDisk::new(self.rng.u64());
        let there = Arc::new(self.store.fork());
        match restore_on(Arc::new(disk.clone()), there, DIR) {
            Ok(_) => self.add(disk, Vec::new()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
        }
    }

    /// What has come to the backend is of the copy that was at work, which has it for its own.
    fn look(&mut self, at: usize, met: &mut Met) {
        // A copy that was just made has done nothing yet.
        for document in documents(&self.store) {
            if document.number > self.seen {
                self.judge(&document, at, met);
                self.seen = document.number;
            }
        }
        self.look_at_calls(met);
        let copy = &mut self.copies[at];
        let refused = copy.db.stats().expect("it is open").backends[0].refused.is_some();
        met.fences += u64::from(refused && !copy.is_fenced);
        assert!(refused || !copy.is_fenced, "a fence stays");
        copy.is_fenced = refused;
        if refused {
            let error = copy.db.wait_uploaded(Duration::ZERO).expect_err("it is fenced");
            assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        }
    }

    /// Whoever removed something, all that is named is there.
    fn look_at_calls(&mut self, met: &mut Met) {
        let calls = self.faults.calls();
        self.faults.clear_calls();
        met.faults += calls.iter().filter(|call| call.fault.is_some()).count() as u64;
        let is_removed = |call: &&akidb_backends::fault::Call| {
            let is_sent = !matches!(call.fault, Some(Fault::Fail(_) | Fault::Hang));
            call.op == Op::Delete && is_sent && !call.key.starts_with("probe/")
        };
        let removed = calls.iter().filter(is_removed).count() as u64;
        met.removed += removed;
        if removed > 0 {
            check_all(&self.store);
        }
    }

    fn judge(&mut self, document: &Document, at: usize, met: &mut Met) {
        let (number, copy) = (document.number, &self.copies[at]);
        assert!(!copy.is_fenced, "a fenced copy published document {number}");
        assert!(!self.lost.contains(&document.writer), "document {number} is of a writer that lost");
        let is_claim = match &self.owner {
            Some(owner) if owner.writer == document.writer => {
                assert_eq!((owner.copy, owner.epoch), (at, document.epoch), "document {number}");
                false
            }
            Some(owner) => {
                assert!(document.epoch > owner.epoch, "document {number} claims with an older epoch");
                self.lost.insert(owner.writer);
                true
            }
            None => true,
        };
        met.claims += u64::from(is_claim);
        self.owner = Some(Owner { copy: at, epoch: document.epoch, writer: document.writer });
        // A claim carries along what was there.
        let now = self.at(number).expect("it publishes something");
        let is = |state: &Tables| difference(state, &now).is_empty();
        let is_carried = is_claim && self.newest.as_ref().is_some_and(is);
        let is_own = is_carried || self.copies[at].states.iter().any(is);
        assert!(is_own, "document {number} is no state of its writer");
        self.newest = Some(now);
    }

    /// What the backend restored while this document was the newest.
    fn at(&mut self, number: u64) -> Option<Tables> {
        let there = Arc::new(self.store.fork());
        for later in number + 1.. {
            let path = format!("manifest/{later:020}.json").into();
            let removed = async { there.head(&path).await.is_ok() && there.delete(&path).await.is_ok() };
            if !removed.now_or_never().expect("what is in memory is there at once") {
                break;
            }
        }
        restored(&there, Scale::Small, &mut self.rng).map(|found| found.tables)
    }

    /// Whichever copy is opened often enough has the newest epoch, and the backend.
    fn finish(&mut self, met: &mut Met) {
        clear(&self.faults);
        let at = self.rng.below(self.copies.len() as u64) as usize;
        for _ in 0..OPENS {
            self.copies[at].db.flush().expect("nothing fails");
            if self.catches_up(at, met) {
                check_all(&self.store);
                let there = restored(&self.store, Scale::Small, &mut self.rng).expect("all was uploaded");
                return there.is(self.copies[at].states.last().expect("it was something"));
            }
            self.reopen(at);
        }
        panic!("no open of copy {at} had an epoch above the others");
    }

    /// Whether a copy puts everything on the backend, and is not fenced instead.
    fn catches_up(&mut self, at: usize, met: &mut Met) -> bool {
        for _ in 0..PAUSES {
            self.copies[at].machine.pass();
            self.look(at, met);
            if self.copies[at].is_fenced || is_uploaded(&self.copies[at].db) {
                return !self.copies[at].is_fenced;
            }
        }
        panic!("neither uploaded nor fenced after {PAUSES} pauses: {:?}", self.copies[at].db.stats());
    }
}
