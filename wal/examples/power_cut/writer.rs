//! The writing half: sessions of several threads on one log, each acknowledging in its own way, with truncations
//! between; a session ends by a close, by dropping the log with records in flight, or by dropping it stamped.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use akidb_host::{Clock, Job, RealClock, RealSpawn, Rng, Spawn};
use akidb_wal::{Appended, Durability, Error, ErrorKind, Log, Lsn, Recovered};

use crate::journal::{Journal, Known};
use crate::record::{Batch, Id};
use crate::{Failure, WRITER_MAX_BYTES, number, options, value, ways};

const SESSIONS: u32 = 5;
/// Several times what a log waits before it stamps its last group.
const IDLE: Duration = Duration::from_millis(25);
/// Acknowledged batches of one thread that a truncation leaves alone, by seed: a short log that recycles its files, a
/// longer one, or one that is truncated only when it is full.
const KEPT: [usize; 5] = [8, 8, 16, 16, 60];

/// What the threads of a session share.
struct Session {
    log: Log,
    journal: Arc<Journal>,
    floor: Mutex<Lsn>,
    seed: u64,
    run: u16,
    session: u32,
    batches: u32,
    deadline: Instant,
    failures: Mutex<Vec<String>>,
}

pub(crate) fn main(words: &[String]) -> Result<bool, Failure> {
    let (seed, run): (u64, u16) = (number(words, "--seed")?, number(words, "--run")?);
    let threads: u16 = number(words, "--threads")?;
    let journal_path = Path::new(value(words, "--journal")?);
    let journal = Arc::new(Journal::append_to(journal_path, PathBuf::from(value(words, "--write-log")?))?);
    let deadline = RealClock.now() + Duration::from_secs(number(words, "--seconds")?);
    let mut rng = Rng::seeded(seed ^ u64::from(run) << 32);
    let mut floor = Known::at(journal_path, u64::MAX)?.floor;
    let (write_path, durability) = ways(words)?;
    let mut kept = Lsn::ZERO;
    for session in 0..SESSIONS {
        let mut options = options(words, floor, WRITER_MAX_BYTES)?;
        (options.config.write_path, options.config.durability) = (write_path, durability);
        let (log, recovered) = Log::open(options)?;
        if durability == Durability::Memory && recovered.last < kept {
            return Err(
                format!("{kept} was in the page cache, {} is the last one now", recovered.last).into()
            );
        }
        journal.acked(&shown(&recovered, seed)?)?;
        journal.opened(log.epoch())?;
        let session = Arc::new(Session {
            log,
            journal: journal.clone(),
            floor: Mutex::new(floor),
            seed,
            run,
            session,
            batches: number(words, "--batches")?,
            deadline,
            failures: Mutex::default(),
        });
        floor = work(&session, threads)?;
        kept = session.log.watermarks().appended;
        match rng.below(3) {
            0 => session.log.close()?,
            1 => stay_idle(&session),
            _ => {}
        }
    }
    Ok(true)
}

/// Runs the threads of one session to their end; gives the floor they reached.
fn work(session: &Arc<Session>, threads: u16) -> Result<Lsn, Failure> {
    let start = |thread| {
        let mine = session.clone();
        let job = move || {
            if let Err(e) = Worker::new(&mine, thread).run() {
                mine.failures.lock().unwrap_or_else(PoisonError::into_inner).push(e.to_string());
            }
        };
        RealSpawn.job("writer", Box::new(job))
    };
    let jobs: Vec<Box<dyn Job>> = (0..threads).map(start).collect::<Result<_, _>>()?;
    let well = jobs.iter().all(|job| job.join());
    let failures = session.failures.lock().unwrap_or_else(PoisonError::into_inner).join("; ");
    if !well || !failures.is_empty() {
        return Err(format!("a writing thread failed: {failures}").into());
    }
    Ok(*session.floor.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Leaves the log alone for so long that its last group is synced and stamped.
fn stay_idle(session: &Session) {
    let failures = session.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = Condvar::new().wait_timeout(failures, IDLE);
}

/// What an open handed out: it promises all of it.
fn shown(recovered: &Recovered, seed: u64) -> Result<Vec<(Lsn, Id)>, Failure> {
    let ids = recovered.records.iter().map(|record| {
        let record = record?;
        let id =
            Id::of(record.bytes, seed).ok_or_else(|| format!("record {} was never written", record.lsn))?;
        Ok((record.lsn, id))
    });
    ids.collect()
}

/// How a thread learns that its records are safe.
#[derive(Clone, Copy)]
enum Manner {
    /// Blocks after every batch.
    Each,
    /// Blocks after several.
    Several,
    /// Awaits the future: the commit thread syncs.
    Async,
    /// Mostly does not ask.
    Rarely,
}

struct Worker<'a> {
    session: &'a Session,
    thread: u16,
    manner: Manner,
    rng: Rng,
    /// Appended, and not known to be safe.
    pending: Vec<(Appended, Batch)>,
    safe: VecDeque<Lsn>,
    kept: usize,
}

impl<'a> Worker<'a> {
    fn new(session: &'a Session, thread: u16) -> Self {
        let manners = [Manner::Each, Manner::Several, Manner::Async, Manner::Rarely];
        let manner = manners[usize::from(thread.wrapping_add(session.run) % 4)];
        let who = u64::from(session.run) << 40 | u64::from(session.session) << 20 | u64::from(thread);
        let rng = Rng::seeded(session.seed.wrapping_add(who << 8));
        let kept = KEPT[usize::try_from(session.seed % 5).expect("below 5")];
        Self { session, thread, manner, rng, pending: Vec::new(), safe: VecDeque::new(), kept }
    }

    fn run(mut self) -> Result<(), Failure> {
        let first = self.session.session * self.session.batches;
        for number in first..first + self.session.batches {
            if RealClock.now() >= self.session.deadline {
                return Err("the time is over".into());
            }
            let count = if self.rng.below(4) == 0 { 1 + self.rng.below(6) } else { 1 };
            let count = u16::try_from(count).unwrap_or(1);
            let batch = Batch { run: self.session.run, thread: self.thread, number, count };
            let appended = self.append(batch)?;
            self.pending.push((appended, batch));
            let ask = match self.manner {
                Manner::Each | Manner::Async => true,
                Manner::Several => self.rng.below(6) == 0,
                Manner::Rarely => self.rng.below(24) == 0,
            };
            if ask {
                self.acknowledge(appended.last)?;
            }
            if self.safe.len() > 2 * self.kept {
                self.safe.drain(..self.kept);
                self.truncate(self.safe[0])?;
            }
        }
        Ok(())
    }

    /// Appends; a full log is truncated below everything that is safe and asked again.
    fn append(&mut self, batch: Batch) -> Result<Appended, Failure> {
        let records: Vec<_> = batch.ids().map(|id| id.record(self.session.seed)).collect();
        let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
        self.session.journal.intent(batch)?;
        let log = &self.session.log;
        let patient = self.rng.below(2) == 0;
        loop {
            match if patient { log.append(&records) } else { log.append_nowait(&records) } {
                Err(e) if matches!(e.kind(), ErrorKind::NoRoomYet) => self.await_room(&records)?,
                Err(e) if is_full(&e) => {
                    self.truncate(log.watermarks().synced)?;
                    log.wait(log.watermarks().appended)?;
                }
                done => return Ok(done?),
            }
        }
    }

    /// Waits for the next file, in one of the two ways; `Full` is the next append's to answer.
    fn await_room(&self, records: &[&[u8]]) -> Result<(), Failure> {
        let log = &self.session.log;
        let waited = match self.manner {
            Manner::Async => block_on(poll_fn(|cx| log.poll_room(records, cx))),
            _ => log.wait_for_room(records),
        };
        match waited {
            Err(e) if !is_full(&e) => Err(e.into()),
            _ => Ok(()),
        }
    }

    fn acknowledge(&mut self, last: Lsn) -> Result<(), Failure> {
        let log = &self.session.log;
        match self.manner {
            Manner::Async => block_on(log.synced(last))?,
            _ => log.wait(last)?,
        }
        let synced = log.watermarks().synced;
        let mut records = Vec::new();
        for (appended, batch) in self.pending.drain(..) {
            self.safe.push_back(appended.last);
            records.extend(batch.ids().map(|id| (appended.first.plus(u64::from(id.index)), id)));
        }
        self.session.journal.acked(&records)?;
        self.session.journal.synced(synced)
    }

    /// The floor goes into the journal first, as an engine makes its manifest durable first.
    fn truncate(&self, floor: Lsn) -> Result<(), Failure> {
        let mut highest = self.session.floor.lock().unwrap_or_else(PoisonError::into_inner);
        if floor > *highest {
            *highest = floor;
            self.session.journal.floor(floor)?;
            self.session.log.truncate_below(floor)?;
        }
        Ok(())
    }
}

fn is_full(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Full { .. })
}

/// Wakes the thread that waits in [`block_on`].
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}

/// The smallest runtime: the thread sleeps until the future is ready.
fn block_on<F: Future>(future: F) -> F::Output {
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let rung = bell.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rung = bell.changed.wait_while(rung, |rung| !*rung).unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}
