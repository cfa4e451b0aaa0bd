//! A soak as its parent sees it: one writer after another on the same database, watched, killed, and at last settled.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use akidb_host::{Clock, RealClock, Rng};

use super::child::Writer;
use super::judge;
use super::model::{Model, Script};
use super::rows::{Rows, RowsPlan};
use super::said::{Orders, Said};
use super::seen::Seen;
use super::watch::{Files, memory_of, written_by};
use super::{SoakBench, SoakError, SoakSample, SoakWorkload, writer};
use crate::wal::Floor;

/// So often files and memory are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Floor writes of a look: the first pays for having slept.
const FLOOR_WRITES: usize = 5;
/// One look of so many is told.
const TELL_ONE_OF: u64 = 20;
/// Files and bytes have settled when they stood still for so long ...
const STILL: Duration = Duration::from_secs(2);
/// ... where there are so many bytes, for so long beyond the rest after which a database gives back what it can ...
const STILL_AT_REST: Duration = Duration::from_secs(5);
const RESTS_FROM_BYTES: u64 = 8 << 20;
/// ... or when so much time is over.
const SETTLE_WITHIN: Duration = Duration::from_secs(180);
/// Changes of a short run of churn, in fills.
const SHORT_CHURN: u32 = 3;

/// How a soak ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) seen: Seen,
    pub(super) settled: Files,
    pub(super) rows: u32,
    pub(super) dim: u16,
    pub(super) raw_bytes: u64,
    pub(super) changes: u32,
    pub(super) upserts: u32,
    pub(super) kills: u32,
    /// Bytes that all writers had written to storage, if the machine tells.
    pub(super) written: Option<u64>,
    pub(super) settle_seconds: f64,
    pub(super) seconds: f64,
}

/// Where the writer of the moment is.
#[derive(Debug)]
enum Stage {
    Writing,
    /// Told to write no more.
    Stopping,
    /// Everything is flushed since `since`, and the files are as they are since `still`.
    Settling {
        since: Instant,
        still: Instant,
        files: Files,
    },
    /// Told to close.
    Closing,
}

pub(super) struct Run<'a> {
    plan: &'a SoakBench,
    floor: Floor,
    tell: &'a mut dyn FnMut(&SoakSample),
    orders: Orders,
    model: Model,
    /// Shares of the run after which the writer is killed, the next one last.
    kills: Vec<f64>,
    seen: Seen,
    files: Files,
    /// By writers before the one of the moment, and by that one when it was looked at last.
    written: [u64; 2],
    looks: u64,
    next_look: Instant,
    began: Instant,
    /// When the rows to begin with were there.
    filled: Option<Instant>,
    settle: Duration,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        plan: &'a SoakBench,
        rows: RowsPlan,
        floor: Floor,
        tell: &'a mut dyn FnMut(&SoakSample),
    ) -> Self {
        let fill = if plan.workload == SoakWorkload::Insert { 0 } else { plan.rows };
        let script = Script { workload: plan.workload, seed: plan.seed, fill };
        let churn = if fill > 0 { SHORT_CHURN } else { 1 };
        let changes = plan.minutes.is_none().then(|| plan.rows.saturating_mul(churn));
        let orders = Orders {
            db: plan.dir.join("db"),
            script,
            rows,
            acknowledged: 0,
            changes,
            manifest_keep: plan.manifest_keep,
        };
        let began = RealClock.now();
        Self {
            plan,
            floor,
            tell,
            orders,
            model: Model::new(script),
            kills: kills(plan),
            seen: Seen::default(),
            files: Files::default(),
            written: [0; 2],
            looks: 0,
            next_look: began,
            began,
            filled: None,
            settle: Duration::ZERO,
        }
    }

    /// Plays it to its end.
    pub(super) fn play(mut self) -> Result<Ended, SoakError> {
        let mut kills = 0;
        while !self.life()? {
            kills += 1;
        }
        self.judge()?;
        let written = self.written[0];
        Ok(Ended {
            rows: self.model.live_rows(),
            dim: self.orders.rows.dim,
            raw_bytes: self.orders.rows.raw_bytes(),
            changes: self.model.changes(),
            upserts: self.model.upserts(),
            kills,
            written: (written > 0).then_some(written),
            settle_seconds: self.settle.as_secs_f64(),
            seconds: RealClock.now().duration_since(self.began).as_secs_f64(),
            seen: self.seen,
            settled: self.files,
        })
    }

    /// One writer, until it is killed (`false`) or has closed the database.
    fn life(&mut self) -> Result<bool, SoakError> {
        self.orders.acknowledged = self.model.changes();
        let mut writer = Writer::start(self.plan, &self.orders)?;
        let (mut stage, mut closed) = (Stage::Writing, false);
        loop {
            let now = RealClock.now();
            if now >= self.next_look {
                self.look(&writer, now)?;
                stage = self.turn(stage, &mut writer, now);
            }
            match writer.said.recv_timeout(self.next_look.saturating_duration_since(now)) {
                Ok(Said::Flushed) => {
                    stage = Stage::Settling { since: now, still: now, files: Files::default() }
                }
                Ok(Said::Closed) => closed = true,
                Ok(said) => {
                    let may_die = matches!(said, Said::Acknowledged(_)) && matches!(stage, Stage::Writing);
                    self.heard(said, now);
                    if may_die && self.kills.last().is_some_and(|share| self.share_done(now) >= *share) {
                        self.kill(writer, now)?;
                        return Ok(false);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.note_written(writer.id());
        let status = writer.wait().map_err(|cause| self.child_failed("waiting for", cause))?;
        self.written = [self.written[0] + self.written[1], 0];
        if closed && status.success() { Ok(true) } else { Err(SoakError::Writer(status)) }
    }

    fn kill(&mut self, mut writer: Writer, now: Instant) -> Result<(), SoakError> {
        self.kills.pop();
        writer.kill().map_err(|cause| self.child_failed("killing", cause))?;
        // What it said before it died was acknowledged too.
        while let Ok(said) = writer.said.recv() {
            self.heard(said, now);
        }
        self.note_written(writer.id());
        writer.wait().map_err(|cause| self.child_failed("waiting for", cause))?;
        self.written = [self.written[0] + self.written[1], 0];
        Ok(())
    }

    fn child_failed(&self, doing: &'static str, cause: std::io::Error) -> SoakError {
        SoakError::file(&self.plan.program, doing, cause)
    }

    fn heard(&mut self, said: Said, now: Instant) {
        if let Said::Acknowledged(changes) = said {
            self.model.advance_to(changes);
            if changes >= self.orders.script.fill {
                self.filled.get_or_insert(now);
            }
        }
        let at = self.filled.map(|filled| now.duration_since(filled));
        self.seen.said(said, at);
    }

    /// Looks at memory, files and bytes.
    fn look(&mut self, writer: &Writer, now: Instant) -> Result<(), SoakError> {
        self.next_look = now + LOOK_EVERY;
        let memory = memory_of(writer.id()).unwrap_or_default();
        self.note_written(writer.id());
        let db = &self.orders.db;
        self.files = Files::below(db).map_err(|cause| SoakError::file(db, "looking into", cause))?;
        let raw = u64::from(self.model.live_rows()) * self.orders.rows.raw_bytes();
        self.seen.memory(memory);
        self.seen.files(&self.files, raw);
        if self.looks.is_multiple_of(TELL_ONE_OF) {
            let mib = |bytes: u64| (bytes as f64 / 104_857.6).round() / 10.0;
            (self.tell)(&SoakSample {
                seconds: now.duration_since(self.began).as_secs_f64().round(),
                changes: self.model.changes(),
                rows: self.model.live_rows(),
                files: self.files.count,
                disk_mib: mib(self.files.allocated),
                raw_mib: mib(raw),
                rss_anon_mib: memory.anon_mib.round(),
                rss_file_mib: memory.file_mib.round(),
            });
        }
        self.looks += 1;
        self.write_floor()
    }

    /// Some writes in the same minute and beside the same neighbours as the writer's.
    fn write_floor(&mut self) -> Result<(), SoakError> {
        for _ in 0..FLOOR_WRITES {
            let began = RealClock.now();
            let written = self.floor.write();
            written
                .map_err(|cause| SoakError::file(&self.plan.dir, "writing the floor's file below", cause))?;
            self.seen.floor.add(RealClock.now().duration_since(began));
        }
        Ok(())
    }

    fn still(&self) -> Duration {
        let engine = writer::settings(self.plan.manifest_keep).engine;
        let raw = u64::from(self.model.live_rows()) * self.orders.rows.raw_bytes();
        if raw < RESTS_FROM_BYTES {
            STILL
        } else {
            Duration::from_secs(engine.rest_after_secs) + STILL_AT_REST
        }
    }

    /// What the writer is told next.
    fn turn(&mut self, stage: Stage, writer: &mut Writer, now: Instant) -> Stage {
        match stage {
            // However slow the machine, it is killed as often as was asked for.
            Stage::Writing
                if self.plan.minutes.is_some() && self.kills.is_empty() && self.share_done(now) >= 1.0 =>
            {
                writer.stop();
                Stage::Stopping
            }
            Stage::Settling { since, still, files } => {
                // A file under its temporary name is being written, however long its index takes.
                let stands = files == self.files && !self.files.by_kind.contains_key("tmp");
                let still = if stands { still } else { now };
                if now.duration_since(still) < self.still() && now.duration_since(since) < SETTLE_WITHIN {
                    return Stage::Settling { since, still, files: self.files.clone() };
                }
                self.settle = still.duration_since(since);
                writer.close();
                Stage::Closing
            }
            other => other,
        }
    }

    /// How much of the run is done, of 1.
    fn share_done(&self, now: Instant) -> f64 {
        match (self.plan.minutes, self.orders.changes) {
            (Some(minutes), _) => {
                self.filled.map_or(0.0, |filled| now.duration_since(filled).as_secs_f64() / (minutes * 60.0))
            }
            (None, Some(changes)) => f64::from(self.model.changes()) / f64::from(changes),
            (None, None) => 1.0,
        }
    }

    /// The most that was told: of a process that is gone nothing is.
    fn note_written(&mut self, process: u32) {
        self.written[1] = self.written[1].max(written_by(process).unwrap_or(0));
    }

    /// Opens the database once more, after its clean end, and compares every row.
    fn judge(&mut self) -> Result<(), SoakError> {
        let rows = Rows::open(&self.orders.rows)
            .map_err(|cause| SoakError::file(&self.plan.dir, "reading vectors below", cause))?;
        let (db, docs, opened) = writer::open_timed(&self.orders, &rows)?;
        self.seen.opened(opened);
        self.seen.compared(judge::compare(&docs, &self.model, &rows)?);
        Ok(db.close()?)
    }
}

/// Spread over the run, each at a moment of its own.
fn kills(plan: &SoakBench) -> Vec<f64> {
    let mut rng = Rng::seeded(!plan.seed);
    let part = 1.0 / f64::from(plan.kills + 1);
    (0..plan.kills).rev().map(|n| (f64::from(n) + 0.5 + rng.f64()) * part).collect()
}
