//! What an operator says about the circuit breakers.

use serde::Deserialize;

/// Settings of the breakers of every backend. Each backend has one for uploads, one for downloads and one for lists
/// and deletes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct BreakerSettings {
    /// The breaker opens when the share of failed calls is strictly above. Default 0.5.
    pub failure_threshold: f64,
    /// Length of the sliding window of calls, in seconds. Default 60.
    pub window_duration_secs: u64,
    /// How long an open breaker refuses every call before it tries some, in seconds. Default 300.
    pub cooldown_duration_secs: u64,
    /// Successes in a row after a cooldown until it closes; also the most calls it tries. Default 10.
    pub half_open_successes: u32,
    /// Calls in the window below which it never opens: one failure of one call is no outage. Default 10.
    pub minimum_calls: u32,
    /// Calls tried at the same time after a cooldown. Default 10; 2 spares a server that is just coming up.
    pub half_open_max_in_flight: u32,
    /// How long the tried calls may stay without an answer until it opens again, in seconds. Default 60.
    pub half_open_max_duration_secs: u64,
    /// A call that took longer is slow, in seconds. Absent by default: no call is.
    pub slow_call_duration_secs: Option<f64>,
    /// It also opens when the share of slow calls is strictly above. Default 1.0: never.
    pub slow_call_threshold: f64,
    /// Each cooldown that follows on another without a success is longer by this factor. Default 1.0: it is not.
    pub cooldown_multiplier: f64,
    /// No cooldown grows beyond this, in seconds. Default 3,600.
    pub cooldown_max_secs: u64,
    /// Cooldowns differ by at most this share, so that many clients do not come back at once. Default 0.1.
    pub cooldown_jitter: f64,
    /// Wait as long as a throttling server asks for (`Retry-After`, at most a minute). Default true.
    pub honor_retry_after: bool,
    /// Raise the threshold to the usual share of failures plus four standard deviations, for a backend that always
    /// fails a little too much. Default false.
    pub adaptive: bool,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failure_threshold: 0.5,
            window_duration_secs: 60,
            cooldown_duration_secs: 300,
            half_open_successes: 10,
            minimum_calls: 10,
            half_open_max_in_flight: 10,
            half_open_max_duration_secs: 60,
            slow_call_duration_secs: None,
            slow_call_threshold: 1.0,
            cooldown_multiplier: 1.0,
            cooldown_max_secs: 3_600,
            cooldown_jitter: 0.1,
            honor_retry_after: true,
            adaptive: false,
        }
    }
}

/// The longest cooldown in seconds: a week.
const MAX_COOLDOWN_SECS: u64 = 7 * 24 * 3_600;

impl BreakerSettings {
    /// The first setting that cannot be used, and why.
    #[must_use]
    pub fn refusal(&self) -> Option<(&'static str, String)> {
        let shares = [
            ("failure_threshold", self.failure_threshold, 0.0, 1.0),
            ("slow_call_threshold", self.slow_call_threshold, 0.0, 1.0),
            ("slow_call_duration_secs", self.slow_call_duration_secs.unwrap_or(1.0), 0.001, 86_400.0),
            ("cooldown_multiplier", self.cooldown_multiplier, 1.0, 100.0),
            ("cooldown_jitter", self.cooldown_jitter, 0.0, 0.5),
        ];
        let wrong = shares.iter().find(|(_, value, low, high)| !(low..=high).contains(&value));
        if let Some((key, value, low, high)) = wrong {
            return Some((key, format!("{value} is not {low} to {high}")));
        }
        let numbers = [
            ("window_duration_secs", self.window_duration_secs, 1, 86_400),
            ("cooldown_duration_secs", self.cooldown_duration_secs, 1, MAX_COOLDOWN_SECS),
            ("half_open_successes", self.half_open_successes.into(), 1, 255),
            ("minimum_calls", self.minimum_calls.into(), 1, 1_000_000),
            ("half_open_max_in_flight", self.half_open_max_in_flight.into(), 1, 255),
            ("half_open_max_duration_secs", self.half_open_max_duration_secs, 1, 3_600),
            ("cooldown_max_secs", self.cooldown_max_secs, 1, MAX_COOLDOWN_SECS),
        ];
        let wrong = numbers.iter().find(|(_, value, low, high)| value < low || value > high);
        wrong.map(|(key, value, low, high)| (*key, format!("{value} is not {low} to {high}")))
    }
}

#[cfg(not(any(akidb_loom, akidb_shuttle)))]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used_and_the_four_old_ones_are_as_they_were() {
        let settings = BreakerSettings::default();
        assert_eq!(settings.refusal(), None);
        let old = (settings.failure_threshold, settings.window_duration_secs);
        assert_eq!(old, (0.5, 60));
        assert_eq!((settings.cooldown_duration_secs, settings.half_open_successes), (300, 10));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (json, key) in [
            (r#"{"failure_threshold": 1.5}"#, "failure_threshold"),
            (r#"{"failure_threshold": -0.1}"#, "failure_threshold"),
            (r#"{"window_duration_secs": 0}"#, "window_duration_secs"),
            (r#"{"cooldown_duration_secs": 0}"#, "cooldown_duration_secs"),
            (r#"{"half_open_successes": 0}"#, "half_open_successes"),
            (r#"{"half_open_successes": 256}"#, "half_open_successes"),
            (r#"{"minimum_calls": 0}"#, "minimum_calls"),
            (r#"{"slow_call_duration_secs": 0.0}"#, "slow_call_duration_secs"),
            (r#"{"cooldown_multiplier": 0.5}"#, "cooldown_multiplier"),
        ] {
            let settings: BreakerSettings = serde_json::from_str(json).unwrap();
            assert_eq!(settings.refusal().unwrap().0, key, "{json}");
        }
        assert!(serde_json::from_str::<BreakerSettings>(r#"{"treshold": 0.5}"#).is_err());
        let nan = BreakerSettings { failure_threshold: f64::NAN, ..BreakerSettings::default() };
        assert_eq!(nan.refusal().unwrap().0, "failure_threshold");
    }
}
