//! How many calls may be under way on a backend, and how many bytes: a limit that follows what the backend can bear.
//!
//! The limit rises by about one for every limit's worth of calls that go well while it is in use, and falls to 7/10
//! when the backend throttles or its answers become slow; once for calls sent at the same time. Whoever finds no room
//! waits in order. Work in the background (sweeps, redrives) has at most a quarter of the places.

mod latency;
mod place;

use std::collections::VecDeque;
use std::fmt;
use std::task::Waker;
use std::time::Duration;

use akidb_host::seeded_bug;

use crate::sync::Mutex;
use latency::Latency;
pub use place::{Entry, Place};

/// Bounds of a limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimiterSettings {
    /// The limit never falls below. Default 4.
    pub min_in_flight: u32,
    /// The limit never rises above. Default 128.
    pub max_in_flight: u32,
    /// Where it starts. Default 16.
    pub start_in_flight: u32,
    /// Bytes under way at the same time; one call that is larger goes alone. Default 256 MiB.
    pub max_bytes_in_flight: u64,
    /// Share of the places that background work may have, in percent; at least one place. Default 25.
    pub background_percent: u32,
}

impl Default for LimiterSettings {
    fn default() -> Self {
        Self {
            min_in_flight: 4,
            max_in_flight: 128,
            start_in_flight: 16,
            max_bytes_in_flight: 256 << 20,
            background_percent: 25,
        }
    }
}

/// Who asks for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// What somebody waits for.
    Foreground,
    /// What can wait: sweeps, redrives.
    Background,
}

/// How a call that had a place went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// It went well, in the time from its start until now.
    Well,
    /// The backend asked for less, and perhaps for how long to be left alone.
    Throttled(Option<Duration>),
    /// It says nothing about the pace.
    Unknown,
}

/// The limiter of one backend. Its lock is held for a few instructions, never across a call.
pub struct Limiter {
    state: Mutex<Queues>,
    settings: LimiterSettings,
}

/// What is under way and who waits.
#[derive(Debug)]
struct Queues {
    limit: f64,
    in_flight: u32,
    in_background: u32,
    bytes: u64,
    foreground: VecDeque<Waiting>,
    background: VecDeque<Waiting>,
    /// Places given to those who wait and have not looked yet.
    granted: Vec<u64>,
    next_id: u64,
    /// Calls sent before this have been answered for by the last cut.
    cut_ms: u64,
    quiet_until_ms: u64,
    latency: Latency,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    bytes: u64,
    waker: Waker,
}

/// What a limiter has under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The limit now.
    pub limit: u32,
    /// Calls under way.
    pub calls: u32,
    /// Their bytes.
    pub bytes: u64,
    /// Calls that wait for a place.
    pub waiting: usize,
}

impl Limiter {
    /// A limiter with nothing under way. Settings that contradict each other are brought in order.
    #[must_use]
    pub fn new(settings: LimiterSettings) -> Self {
        let min = settings.min_in_flight.max(1);
        let max = settings.max_in_flight.max(min);
        let settings = LimiterSettings {
            min_in_flight: min,
            max_in_flight: max,
            max_bytes_in_flight: settings.max_bytes_in_flight.max(1),
            ..settings
        };
        let state = Queues {
            limit: f64::from(settings.start_in_flight.clamp(min, max)),
            in_flight: 0,
            in_background: 0,
            bytes: 0,
            foreground: VecDeque::new(),
            background: VecDeque::new(),
            granted: Vec::new(),
            next_id: 0,
            cut_ms: 0,
            quiet_until_ms: 0,
            latency: Latency::default(),
        };
        Self { state: Mutex::new(state), settings }
    }

    /// How long the backend asked to be left alone; zero if it did not.
    #[must_use]
    pub fn quiet_for(&self, now_ms: u64) -> Duration {
        Duration::from_millis(self.state.lock().quiet_until_ms.saturating_sub(now_ms))
    }

    /// What is under way.
    #[must_use]
    pub fn in_flight(&self) -> InFlight {
        let queues = self.state.lock();
        InFlight {
            limit: queues.whole_limit(),
            calls: queues.in_flight,
            bytes: queues.bytes,
            waiting: queues.foreground.len() + queues.background.len(),
        }
    }

    /// What a call took more than all bytes together counts as all of them.
    fn clamped(&self, bytes: u64) -> u64 {
        bytes.min(self.settings.max_bytes_in_flight)
    }

    fn judge(&self, pace: Pace, bytes: u64, started_ms: u64, now_ms: u64) {
        let mut queues = self.state.lock();
        match pace {
            Pace::Unknown => {}
            Pace::Well => {
                let is_first = started_ms >= queues.cut_ms;
                if queues.latency.is_slow(bytes, now_ms.saturating_sub(started_ms), is_first) {
                    queues.cut(&self.settings, started_ms, now_ms);
                } else {
                    queues.grow(&self.settings);
                }
            }
            Pace::Throttled(quiet) => {
                queues.cut(&self.settings, started_ms, now_ms);
                let quiet_ms = quiet.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                queues.quiet_until_ms = queues.quiet_until_ms.max(now_ms.saturating_add(quiet_ms));
            }
        }
    }

    /// Takes a place back and gives what is free to those who wait.
    fn give_back(&self, bytes: u64, share: Share) {
        let mut wakers = Vec::new();
        let mut queues = self.state.lock();
        queues.in_flight -= 1;
        queues.in_background -= u32::from(share == Share::Background);
        queues.bytes -= bytes;
        if !seeded_bug("limiter_wakes_nobody") {
            queues.serve(&self.settings, &mut wakers);
        }
        drop(queues);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Queues {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the two bounds")]
    fn whole_limit(&self) -> u32 {
        self.limit as u32
    }

    fn has_room(&self, settings: &LimiterSettings, bytes: u64, share: Share) -> bool {
        let limit = self.whole_limit();
        let background = (limit * settings.background_percent / 100).max(1);
        // Nothing in the background passes by a large call that waits until there is room for it.
        let may =
            share == Share::Foreground || (self.foreground.is_empty() && self.in_background < background);
        let limit = limit + u32::from(seeded_bug("limiter_one_too_many"));
        may && self.in_flight < limit && self.bytes + bytes <= settings.max_bytes_in_flight
    }

    fn take(&mut self, bytes: u64, share: Share) {
        self.in_flight += 1;
        self.in_background += u32::from(share == Share::Background);
        self.bytes += bytes;
    }

    fn queue(&mut self, share: Share) -> &mut VecDeque<Waiting> {
        match share {
            Share::Foreground => &mut self.foreground,
            Share::Background => &mut self.background,
        }
    }

    /// Gives free places to those who wait, in order, those in the foreground first.
    fn serve(&mut self, settings: &LimiterSettings, wakers: &mut Vec<Waker>) {
        for share in [Share::Foreground, Share::Background] {
            while let Some(bytes) = self.queue(share).front().map(|first| first.bytes) {
                if !self.has_room(settings, bytes, share) {
                    break;
                }
                let Some(first) = self.queue(share).pop_front() else { break };
                self.take(bytes, share);
                self.granted.push(first.id);
                wakers.push(first.waker);
            }
        }
    }

    fn grow(&mut self, settings: &LimiterSettings) {
        // A limit that is not in use has not been tested.
        if self.in_flight * 2 >= self.whole_limit() {
            self.limit = (self.limit + 1.0 / self.limit).min(f64::from(settings.max_in_flight));
        }
    }

    fn cut(&mut self, settings: &LimiterSettings, started_ms: u64, now_ms: u64) {
        if started_ms >= self.cut_ms {
            self.limit = (self.limit * 0.7).max(f64::from(settings.min_in_flight));
            self.cut_ms = now_ms + 1;
        }
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

#[cfg(akidb_loom)]
#[cfg(test)]
mod model;
#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests;
