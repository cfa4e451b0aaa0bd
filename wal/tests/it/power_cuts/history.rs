//! Random lives of a log: what it is asked for, how it ends, and the crashes tried at each moment of it.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use akidb_host::Rng;
use akidb_host::sim::{CrashDisk, EIO, ENOSPC};
use akidb_wal::{Config, Durability, Error, ErrorKind, Fate, Log, Lsn, State, WritePath};

use super::machine::{Machine, Moment, half_made, picture};
use super::truth::Truth;

/// What was tried.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) histories: u64,
    /// Crashed disks opened and checked.
    pub(super) states: u64,
    pub(super) kills: u64,
    pub(super) records_checked: u64,
    pub(super) torn_tails: u64,
    pub(super) faults: u64,
    pub(super) poisoned: u64,
    pub(super) refused: u64,
    pub(super) rotations: u64,
    pub(super) recycled: u64,
    /// Logs that gave back what they do not need.
    pub(super) rests: u64,
    pub(super) closes: u64,
}

impl Drop for Tally {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seen after {} states", self.states);
        }
    }
}

/// Crashes tried at one moment.
const IMAGES: u64 = 4;
/// A crash after a crash after a crash.
const DEPTH: u32 = 2;

/// One life with all of its crashes; the seed says everything.
pub(super) fn history(seed: u64, tally: &mut Tally) {
    let _note = Note(seed);
    let mut rng = Rng::seeded(seed);
    let disk = CrashDisk::new(rng.u64());
    if rng.below(4) == 0 {
        half_made(&disk);
    }
    let mut config = config(&mut rng);
    // Every third process lives long, with files of one size, so that they are made from older ones.
    let (restless, steps, one_in) = match rng.below(3) {
        0 => (0, 60 + rng.below(60), 40),
        _ => (1 + rng.below(12), 10 + rng.below(50), 15),
    };
    if restless == 0 {
        config.max_file_bytes = config.first_file_bytes;
    }
    let mut machine = Machine::new(disk, Truth::default(), config, one_in, &mut rng);
    machine.restless = restless;
    live(&mut machine, steps, 0, &mut rng, tally);
    tally.histories += 1;
}

fn config(rng: &mut Rng) -> Config {
    let mut config = Config::default();
    config.first_file_bytes = 8192 + 4096 * rng.below(2);
    config.max_file_bytes = 8192 << rng.below(3);
    config.max_bytes = 1 << (16 + rng.below(3));
    config.reserve_bytes = 8192 * rng.below(2);
    config.linger_max = Duration::ZERO;
    config.write_path = if rng.below(2) == 0 { WritePath::Mapped } else { WritePath::Positioned };
    config.durability = if rng.below(4) == 0 { Durability::Memory } else { Durability::LocalSynced };
    config
}

fn live(machine: &mut Machine, steps: u64, depth: u32, rng: &mut Rng, tally: &mut Tally) {
    let _began = Began(depth, machine.disk.kill());
    let mut log = machine.open().unwrap_or_else(|e| panic!("a crash looks like damage: {e}"));
    for _ in 0..steps {
        log = step(machine, log, rng, tally);
        if rng.below(8) == 0 {
            machine.look();
        }
        crash_everywhere(machine, depth, rng, tally);
    }
    machine.look();
    crash_everywhere(machine, depth, rng, tally);
    tally.faults += machine.faults();
}

fn crash_everywhere(machine: &Machine, depth: u32, rng: &mut Rng, tally: &mut Tally) {
    for moment in machine.moments() {
        for _ in 0..if depth == 0 { IMAGES } else { 1 + rng.below(2) } {
            crash(&moment, &machine.config, depth, rng, tally);
        }
    }
}

fn crash(moment: &Moment, config: &Config, depth: u32, rng: &mut Rng, tally: &mut Tally) {
    let killed = rng.below(8) == 0;
    let disk = if killed { moment.disk.kill() } else { moment.disk.power_cut(rng) };
    tally.kills += u64::from(killed);
    disk.set_free_bytes(None);
    tally.states += 1;
    let mut machine = Machine::new(disk, moment.truth.clone(), config.clone(), 8, rng);
    machine.truth(|truth| truth.crashed(killed, config));
    if depth < DEPTH && rng.below(6) == 0 {
        let steps = rng.below(4);
        return live(&mut machine, steps, depth + 1, rng, tally);
    }
    let _began = Began(depth + 1, machine.disk.kill());
    drop(machine.open().unwrap_or_else(|e| panic!("a crash looks like damage: {e}")));
    tally.records_checked += machine.truth(|truth| truth.rows.len() as u64);
    assert!(!(killed && moment.quiet && machine.truth(|truth| truth.cut)), "a cut that nothing tore");
    tally.torn_tails += u64::from(machine.truth(|truth| truth.cut));
}

fn step(machine: &mut Machine, log: Log, rng: &mut Rng, tally: &mut Tally) -> Log {
    if rng.below(100) < machine.restless {
        if rng.below(3) == 0 {
            tally.closes += u64::from(log.close().is_ok());
            acknowledge(machine, &log);
        }
        return reopen(machine, log, rng, tally);
    }
    match rng.below(92) {
        0..45 => append(machine, &log, rng, tally),
        45..60 => wait(machine, &log, rng, tally),
        60..65 => wait_without_blocking(machine, &log),
        65..77 => machine.rest(Duration::from_micros(rng.below(7_000))),
        77..84 => truncate(machine, &log, rng, tally),
        84..88 => machine.fail(Some((1 + rng.below(5), if rng.below(3) == 0 { ENOSPC } else { EIO }))),
        88..90 => machine.disk.set_free_bytes(Some(4096 * rng.below(8))),
        90 => machine.disk.set_free_bytes(None),
        _ => machine.clock.jump_wall(-3_600_000_000),
    }
    acknowledge(machine, &log);
    match log.watermarks().state {
        State::Open | State::NoSpace => log,
        State::Poisoned | State::Closed => reopen(machine, log, rng, tally),
    }
}

/// What the log says is synced is promised.
fn acknowledge(machine: &Machine, log: &Log) {
    let synced = log.watermarks().synced;
    machine.truth(|truth| truth.promise(synced));
}

fn append(machine: &Machine, log: &Log, rng: &mut Rng, tally: &mut Tally) {
    let batch: Vec<Arc<[u8]>> = (0..1 + rng.below(4)).map(|_| record(rng)).collect();
    match machine.append(log, batch) {
        Ok(_) => {}
        Err(e) if e.fate() == Fate::Unknown => poisoned(&e, tally),
        Err(e) => {
            tally.refused += 1;
            if matches!(e.kind(), ErrorKind::NoSpace { .. }) {
                machine.disk.set_free_bytes(None);
            }
        }
    }
}

/// Often of one length: what a crash leaves of one frame then lines up with the next.
fn record(rng: &mut Rng) -> Arc<[u8]> {
    let len = match rng.below(20) {
        0 => rng.below(20_000),
        1..5 => rng.below(2_000),
        5..8 => rng.below(40),
        _ => 600,
    };
    let fill = rng.u64();
    let byte = |i: u64| u8::try_from((fill >> (i % 8 * 8)) & 0x7f).expect("7 bits") + 1;
    (0..len).map(byte).collect()
}

fn wait(machine: &Machine, log: &Log, rng: &mut Rng, tally: &mut Tally) {
    let lsns: Vec<Lsn> = machine.truth(|truth| truth.rows.iter().rev().take(5).map(|row| row.lsn).collect());
    let Some(lsn) = lsns.get(usize::try_from(rng.below(lsns.len() as u64)).expect("small")) else { return };
    if let Err(e) = machine.wait(log, *lsn) {
        poisoned(&e, tally);
    }
}

fn wait_without_blocking(machine: &Machine, log: &Log) {
    let lsn = machine.truth(|truth| truth.last());
    if lsn == Lsn::ZERO {
        return;
    }
    let mut synced = pin!(log.synced(lsn));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..2 {
        match synced.as_mut().poll(&mut context) {
            Poll::Ready(Ok(())) => return machine.truth(|truth| truth.promise(lsn)),
            Poll::Ready(Err(_)) => return,
            Poll::Pending => machine.rest(Duration::ZERO),
        }
    }
}

fn poisoned(e: &Error, tally: &mut Tally) {
    assert!(matches!(e.kind(), ErrorKind::Poisoned { .. }), "{e}");
    assert_eq!(e.fate(), Fate::Unknown, "{e}");
    tally.poisoned += 1;
}

/// The caller made everything up to a synced record durable elsewhere.
fn truncate(machine: &Machine, log: &Log, rng: &mut Rng, tally: &mut Tally) {
    let synced = log.watermarks().synced;
    machine.truth(|truth| {
        let below: Vec<Lsn> = truth.rows.iter().map(|row| row.lsn).filter(|lsn| *lsn <= synced).collect();
        let Some(lsn) = below.get(usize::try_from(rng.below(below.len() as u64)).expect("small")) else {
            return;
        };
        truth.floor = truth.floor.max(if rng.below(3) == 0 { *lsn } else { below[below.len() - 1] });
    });
    let floor = machine.truth(|truth| truth.floor);
    let _ = log.truncate_below(floor);
    if rng.below(3) == 0 {
        tally.rests += u64::from(log.rest().is_ok());
    }
}

/// The process ends, or the machine does, or only the log; then it is opened again.
fn reopen(machine: &mut Machine, log: Log, rng: &mut Rng, tally: &mut Tally) -> Log {
    let counters = log.counters();
    tally.rotations += counters.rotations;
    tally.recycled += counters.recycled;
    drop(log);
    let way = rng.below(4);
    machine.truth(|truth| truth.crashed(way < 2, &machine.config));
    match way {
        0 => {}
        1 => machine.reboot(machine.disk.kill()),
        2 => machine.reboot(machine.disk.power_cut(rng)),
        _ => machine.reboot(machine.disk.kill().power_cut(rng)),
    }
    tally.states += 1;
    match machine.open() {
        Ok(log) => log,
        Err(e) => {
            assert!(matches!(e.kind(), ErrorKind::Io { .. } | ErrorKind::NoSpace { .. }), "{e}");
            machine.fail(None);
            machine.disk.set_free_bytes(None);
            machine.open().unwrap_or_else(|e| panic!("a disk that is well again does not open: {e}"))
        }
    }
}

/// Shows where a life began that found something wrong.
struct Began(u32, CrashDisk);

impl Drop for Began {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("at depth {} from\n{}", self.0, picture(&self.1));
        }
    }
}

/// Says how to repeat a history that failed.
struct Note(u64);

impl Drop for Note {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("repeat it with AKIDB_SEED={} AKIDB_POWER_CUTS=1", self.0);
        }
    }
}
