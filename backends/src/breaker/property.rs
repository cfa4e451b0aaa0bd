//! The breaker against a plain model of it: lists instead of words, no atomics, no epochs.

use proptest::prelude::*;

use super::*;

const MINIMUM: usize = 4;
const SUCCESSES: usize = 3;
const AT_ONCE: usize = 2;
const WINDOW_SECS: u64 = 60;
const COOLDOWN_MS: u64 = 10_000;
const ROUND_MS: u64 = 5_000;

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask,
    /// Settles one of the permits that are out, by its place among them.
    Settle(prop::sample::Index, End),
    Pass(u64),
    Reset,
    ForceOpen,
    ForceClosed,
    Disable,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Success,
    Failure,
    Denied,
    Ignored,
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Now {
    Closed,
    Open { until_ms: u64, reason: Reason },
    Trying { since_ms: u64, issued: usize, succeeded: usize, single: bool },
    Forced,
    Bypassed { counts: bool },
}

/// What a breaker should do.
struct Model {
    now: Now,
    /// Changes so far: a permit of an earlier one is late.
    life: u64,
    calls: Vec<(u64, bool)>,
    late: u64,
}

impl Model {
    fn turn(&mut self, now: Now) {
        (self.now, self.life) = (now, self.life + 1);
        self.calls.clear();
    }

    fn open(&mut self, now_ms: u64, reason: Reason) {
        // Moments are told in quarter seconds, rounded up.
        self.turn(Now::Open { until_ms: (now_ms + COOLDOWN_MS).div_ceil(250) * 250, reason });
    }

    /// Whether a permit is given, and whether it is a try.
    fn ask(&mut self, now_ms: u64) -> Option<bool> {
        match &mut self.now {
            Now::Closed | Now::Bypassed { .. } => Some(false),
            Now::Forced => None,
            Now::Open { until_ms, reason } => {
                if now_ms < *until_ms {
                    return None;
                }
                let single = *reason == Reason::Auth;
                self.turn(Now::Trying { since_ms: now_ms, issued: 1, succeeded: 0, single });
                Some(true)
            }
            Now::Trying { since_ms, issued, succeeded, single } => {
                let at_once = if *single { 1 } else { AT_ONCE };
                if *issued < SUCCESSES && *issued - *succeeded < at_once {
                    *issued += 1;
                    return Some(true);
                }
                if now_ms / 1_000 - *since_ms / 1_000 >= ROUND_MS / 1_000 {
                    let reason = if *single { Reason::Auth } else { Reason::ErrorRate };
                    self.open(now_ms, reason);
                }
                None
            }
        }
    }

    fn settle(&mut self, (life, is_try): (u64, bool), end: End, now_ms: u64) {
        if life != self.life {
            self.late += 1;
            return;
        }
        match (&mut self.now, end) {
            (Now::Bypassed { counts }, End::Success | End::Failure) if *counts => {
                self.calls.push((now_ms, end == End::Failure));
            }
            (Now::Closed | Now::Trying { .. }, End::Denied) => self.open(now_ms, Reason::Auth),
            (Now::Closed, End::Success | End::Failure) => {
                self.calls.push((now_ms, end == End::Failure));
                let (calls, failed) = self.window(now_ms);
                let this_second = |at_ms: u64| at_ms / 1_000 == now_ms / 1_000;
                let in_bucket = self.calls.iter().filter(|(at_ms, _)| this_second(*at_ms)).count();
                let is_due = end == End::Failure || in_bucket <= MINIMUM;
                if is_due && calls >= MINIMUM && failed * 2 > calls {
                    self.open(now_ms, Reason::ErrorRate);
                }
            }
            (Now::Trying { .. }, End::Failure) => self.open(now_ms, Reason::ErrorRate),
            (Now::Trying { succeeded, .. }, End::Success) => {
                *succeeded += 1;
                if *succeeded == SUCCESSES {
                    self.turn(Now::Closed);
                }
            }
            (Now::Trying { issued, .. }, End::Ignored | End::Dropped) if is_try => *issued -= 1,
            _ => {}
        }
    }

    fn window(&self, now_ms: u64) -> (usize, usize) {
        let in_window = |at_ms: u64| at_ms / 1_000 + WINDOW_SECS > now_ms / 1_000;
        let calls: Vec<_> = self.calls.iter().filter(|(at_ms, _)| in_window(*at_ms)).collect();
        (calls.len(), calls.iter().filter(|(_, failed)| *failed).count())
    }

    fn state(&self) -> State {
        match self.now {
            Now::Closed | Now::Bypassed { .. } => State::Closed,
            Now::Open { .. } | Now::Forced => State::Open,
            Now::Trying { .. } => State::HalfOpen,
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        8 => Just(End::Success),
        8 => Just(End::Failure),
        1 => Just(End::Denied),
        2 => Just(End::Ignored),
        2 => Just(End::Dropped),
    ];
    let step = prop_oneof![
        20 => Just(Step::Ask),
        16 => (any::<prop::sample::Index>(), end).prop_map(|(at, end)| Step::Settle(at, end)),
        6 => (0_u64..4_000).prop_map(Step::Pass),
        2 => (4_000_u64..90_000).prop_map(Step::Pass),
        1 => prop_oneof![Just(Step::Reset), Just(Step::ForceOpen), Just(Step::ForceClosed), Just(Step::Disable)],
    ];
    prop::collection::vec(step, 1..250)
}

fn check(steps: &[Step]) -> Result<(), TestCaseError> {
    let settings = BreakerSettings {
        minimum_calls: 4,
        half_open_successes: 3,
        half_open_max_in_flight: 2,
        half_open_max_duration_secs: ROUND_MS / 1_000,
        cooldown_duration_secs: COOLDOWN_MS / 1_000,
        cooldown_jitter: 0.0,
        ..BreakerSettings::default()
    };
    let breaker = Breaker::new(&settings, 0);
    let mut model = Model { now: Now::Closed, life: 0, calls: Vec::new(), late: 0 };
    let mut out: Vec<(Permit<&Breaker>, (u64, bool))> = Vec::new();
    let (mut now_ms, mut issued) = (0, 0);
    for (at, step) in steps.iter().enumerate() {
        match *step {
            Step::Ask => {
                let expected = model.ask(now_ms);
                let permit = breaker.try_acquire(now_ms).ok();
                prop_assert_eq!(permit.as_ref().map(Permit::is_probe), expected, "step {}", at);
                issued += u64::from(permit.is_some());
                out.extend(permit.map(|permit| (permit, (model.life, expected == Some(true)))));
            }
            Step::Settle(which, end) if !out.is_empty() => {
                let (permit, given) = out.swap_remove(which.index(out.len()));
                model.settle(given, end, now_ms);
                match end {
                    End::Success => {
                        permit.success(now_ms);
                    }
                    End::Failure => {
                        permit.failure(Failure::Fault, now_ms);
                    }
                    End::Denied => {
                        permit.failure(Failure::Auth, now_ms);
                    }
                    End::Ignored => {
                        permit.ignore(now_ms);
                    }
                    End::Dropped => drop(permit),
                }
            }
            Step::Settle(..) => {}
            Step::Pass(ms) => now_ms += ms,
            Step::Reset => (breaker.reset(), model.turn(Now::Closed)).0,
            Step::ForceOpen => (breaker.force_open(), model.turn(Now::Forced)).0,
            Step::ForceClosed => (breaker.force_closed(), model.turn(Now::Bypassed { counts: true })).0,
            Step::Disable => (breaker.disable(), model.turn(Now::Bypassed { counts: false })).0,
        }
        let status = breaker.status(now_ms);
        prop_assert_eq!(status.state, model.state(), "step {} {:?}: {:?}", at, step, model.now);
        prop_assert_eq!(status.totals.late_results, model.late, "step {}", at);
        if status.state == State::Closed {
            let (calls, failed) = model.window(now_ms);
            let rate = if calls == 0 { 0.0 } else { failed as f64 / calls as f64 };
            prop_assert_eq!(status.calls, calls as u64, "step {}", at);
            prop_assert!(
                (status.error_rate - rate).abs() < 1e-5,
                "step {}: {} {}",
                at,
                status.error_rate,
                rate
            );
        }
        let totals = status.totals;
        let settled = totals.successes + totals.failures + totals.ignored + totals.cancelled;
        prop_assert_eq!(settled + out.len() as u64, issued, "step {}", at);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn a_breaker_does_what_its_model_does(steps in steps()) {
        check(&steps)?;
    }
}
