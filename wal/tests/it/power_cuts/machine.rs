//! A machine with a disk that forgets, one log on it, and copies of the disk taken before calls that change it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use akidb_host::sim::{Act, Call, CrashDisk, FakeClock, HookFs, InlineSpawn, Op};
use akidb_host::{Clock, Fs as _, Rng};
use akidb_wal::{Config, Error, Fate, FrameFacts, Log, Lsn, Options, inspect};

use super::truth::Truth;

/// The disk and the truth at one moment.
pub(crate) struct Moment {
    pub(crate) disk: CrashDisk,
    pub(crate) truth: Truth,
    /// Between two calls of the log, none of which failed.
    pub(crate) quiet: bool,
}

/// What the hook needs: nothing of it is locked while the log runs.
struct Watch {
    truth: Truth,
    rng: Rng,
    moments: Vec<Moment>,
    /// Of so many calls that change the disk one is looked at.
    one_in: u64,
    /// The call that fails, counted down, and how.
    fault: Option<(u64, i32)>,
    faults: u64,
}

pub(crate) struct Machine {
    pub(crate) disk: CrashDisk,
    pub(crate) config: Config,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) spawn: InlineSpawn,
    /// Of a hundred steps so many end the process.
    pub(crate) restless: u64,
    fs: Arc<HookFs>,
    watch: Arc<Mutex<Watch>>,
}

pub(crate) const DIR: &str = "/db/wal";

impl Machine {
    pub(crate) fn new(disk: CrashDisk, truth: Truth, config: Config, one_in: u64, rng: &mut Rng) -> Self {
        let watch =
            Watch { truth, rng: Rng::seeded(rng.u64()), moments: Vec::new(), one_in, fault: None, faults: 0 };
        let watch = Arc::new(Mutex::new(watch));
        let fs = hooked(&disk, &watch);
        let spawn = InlineSpawn::shuffled(rng.u64());
        Self { disk, config, clock: Arc::new(FakeClock::default()), spawn, restless: 8, fs, watch }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().expect("no test goes on after a panic")
    }

    /// Goes on with another disk, after a crash.
    pub(crate) fn reboot(&mut self, disk: CrashDisk) {
        self.fs = hooked(&disk, &self.watch);
        self.disk = disk;
    }

    pub(crate) fn truth<T>(&self, look: impl FnOnce(&mut Truth) -> T) -> T {
        look(&mut self.watch().truth)
    }

    pub(crate) fn moments(&self) -> Vec<Moment> {
        std::mem::take(&mut self.watch().moments)
    }

    /// Looks at the machine as it is now, between two calls.
    pub(crate) fn look(&self) {
        let mut watch = self.watch();
        let quiet = !watch.truth.faulty;
        watch.look(&self.disk, quiet);
    }

    /// Lets the `n`-th call from now that changes the disk fail.
    pub(crate) fn fail(&self, fault: Option<(u64, i32)>) {
        self.watch().fault = fault;
    }

    /// How many calls failed.
    pub(crate) fn faults(&self) -> u64 {
        self.watch().faults
    }

    /// Opens the log and checks what it finds.
    pub(crate) fn open(&mut self) -> Result<Log, Error> {
        // A salt never comes twice, also not after an open that a crash undid.
        let salt_seed = self.watch().rng.u64();
        self.config.salt_seed = Some(salt_seed);
        let options = Options {
            dir: DIR.into(),
            fs: self.fs.clone(),
            clock: self.clock.clone(),
            spawn: Arc::new(self.spawn.clone()),
            config: self.config.clone(),
            min_epoch: 0,
            floor: self.truth(|truth| truth.floor),
            read_only: false,
        };
        let (log, recovered) = Log::open(options)?;
        self.truth(|truth| truth.found(&recovered));
        Ok(log)
    }

    /// Appends a batch and keeps book of it.
    pub(crate) fn append(&self, log: &Log, batch: Vec<Arc<[u8]>>) -> Result<Lsn, Error> {
        let records: Vec<&[u8]> = batch.iter().map(|record| &**record).collect();
        self.truth(|truth| truth.in_flight = Some(batch.clone()));
        let appended = log.append(&records).inspect_err(|e| {
            // When the write of staged frames failed the batch may be there, whole.
            if e.fate() != Fate::Unknown {
                assert_eq!(e.fate(), Fate::NotWritten, "{e}");
                self.truth(|truth| truth.in_flight = None);
            }
        })?;
        self.truth(|truth| truth.appended(appended));
        Ok(appended.last)
    }

    /// Waits for a record; then it is promised.
    pub(crate) fn wait(&self, log: &Log, lsn: Lsn) -> Result<(), Error> {
        log.wait(lsn)?;
        self.truth(|truth| truth.promise(lsn));
        Ok(())
    }

    /// Lets the log's threads do what is due, then time pass.
    pub(crate) fn rest(&self, by: Duration) {
        self.spawn.run_until_idle(self.clock.now());
        self.clock.advance(by);
        self.spawn.run_until_idle(self.clock.now());
    }
}

impl Watch {
    fn look(&mut self, disk: &CrashDisk, quiet: bool) {
        self.moments.push(Moment { disk: disk.kill(), truth: self.truth.clone(), quiet });
    }

    fn call(&mut self, disk: &CrashDisk, call: &Call<'_>) -> Act {
        if !call.op.changes() || call.op == Op::LogPublish {
            return Act::Go;
        }
        if self.rng.below(self.one_in) == 0 {
            self.look(disk, false);
        }
        let Some((left, errno)) = self.fault.as_mut().filter(|_| call.op.can_fail()) else { return Act::Go };
        *left -= 1;
        if *left > 0 {
            return Act::Go;
        }
        let errno = *errno;
        self.fault = None;
        self.faults += 1;
        self.truth.faulty = true;
        match call.op {
            Op::SyncData | Op::SyncAll => {
                disk.fail_next_sync(errno);
                Act::Go
            }
            _ if self.rng.below(2) == 0 => Act::FailMidway(errno),
            _ => Act::Fail(errno),
        }
    }
}

fn hooked(disk: &CrashDisk, watch: &Arc<Mutex<Watch>>) -> Arc<HookFs> {
    let (watch, seen) = (watch.clone(), disk.clone());
    let hook = move |call: &Call<'_>| watch.lock().expect("no test goes on after a panic").call(&seen, call);
    Arc::new(HookFs::new(Arc::new(disk.clone()), Arc::new(hook)))
}

/// What a process leaves that died while it made the log's directory.
pub(crate) fn half_made(disk: &CrashDisk) {
    disk.create_dir_all(Path::new("/db")).expect("an empty disk");
    disk.make_dir_unsynced(Path::new(DIR)).expect("an empty disk");
}

/// The log files of a disk, a line each, for whoever has to find out why a history failed.
pub(crate) fn picture(disk: &CrashDisk) -> String {
    let mut text = String::new();
    for entry in disk.list(Path::new(DIR)).unwrap_or_default() {
        let path = Path::new(DIR).join(&entry.name);
        let _ = match inspect(disk, &path) {
            Ok(seen) if entry.name.ends_with(".wal") => {
                let (header, end) = (seen.header, seen.end_offset);
                let made = if header.made_at_open { "open" } else { "spare" };
                let frame = |f: &FrameFacts| {
                    format!(
                        "{}@{} {}+{} stamp {}{}",
                        f.kind,
                        f.offset,
                        f.lsn,
                        f.count,
                        f.durable,
                        if f.ok { "" } else { " TORN" }
                    )
                };
                let frames: Vec<_> = seen.frames.iter().map(frame).collect();
                writeln!(
                    text,
                    "  {} epoch {} {made} end {end}: {}",
                    entry.name,
                    header.epoch,
                    frames.join(", ")
                )
            }
            Err(e) if entry.name.ends_with(".wal") => writeln!(text, "  {}: {e}", entry.name),
            _ => writeln!(text, "  {}", entry.name),
        };
    }
    text
}
