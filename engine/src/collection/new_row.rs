//! A row to write, and when it expires.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::as_payload;
use crate::catalog::CollectionState;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::row::{self, Payload};

/// A row to write.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRow {
    /// Id: text of 1 to 512 bytes, or an integer where the schema says so.
    pub id: Id,
    /// As many finite numbers as the schema's dimension.
    pub vector: Vec<f32>,
    /// Declared fields and anything else.
    pub payload: Payload,
    /// When it expires, where the payload does not say it; see [`NewRow::expires_in`].
    pub expires: Option<Expires>,
}

/// When a row expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expires {
    /// At this time: microseconds since the Unix epoch, UTC.
    At(i64),
    /// So long after it is written.
    In(Duration),
}

impl NewRow {
    /// A row of these parts. `payload` is a JSON object or null.
    ///
    /// # Errors
    /// `Invalid` for a payload that is neither.
    pub fn new(id: impl Into<Id>, vector: impl Into<Vec<f32>>, payload: impl Into<Value>) -> Result<Self> {
        let payload = as_payload(payload.into())?;
        Ok(Self { id: id.into(), vector: vector.into(), payload, expires: None })
    }

    /// The same row, which expires so long after it is written, by the wall clock of the machine that writes it. It is a short
    /// word for a payload with that time in the field by which rows of its collection expire
    /// ([`Schema::expires_by`](crate::Schema::expires_by)): that is what is stored, what reads give back, what filters see, and
    /// what a later write or patch of that field changes. All rows of one call count from one moment; a batch that is sent
    /// again under its [key](crate::Batch::idempotency_key) keeps the times of the first.
    ///
    /// A collection whose rows do not expire refuses the row, and so does one whose field the payload gives another time
    /// (AKI-0279); `null` there says nothing.
    ///
    /// ```
    /// use std::time::Duration;
    /// use akidb::{Db, Metric, NewRow, Schema};
    /// # let directory = tempfile::tempdir()?;
    /// # let db = Db::open(directory.path().join("data"))?;
    /// let schema = Schema::new(2, Metric::L2).timestamp("until").expires_by("until");
    /// let sessions = db.create_collection("sessions", schema)?;
    /// let row = NewRow::new("a", [0.1, 0.2], serde_json::json!({"who": "ada"}))?;
    /// sessions.upsert_batch(&[row.expires_in(Duration::from_secs(3_600))])?;
    /// assert!(sessions.get("a")?.expect("for an hour").payload.contains_key("until"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn expires_in(self, after: Duration) -> Self {
        Self { expires: Some(Expires::In(after)), ..self }
    }

    /// The same row, which expires at this time, to the microsecond; otherwise as [`NewRow::expires_in`].
    #[must_use]
    pub fn expires_at(self, at: SystemTime) -> Self {
        Self { expires: Some(at.into()), ..self }
    }
}

/// Rounded down to microseconds.
impl From<SystemTime> for Expires {
    fn from(at: SystemTime) -> Self {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Self::At(match at.duration_since(UNIX_EPOCH) {
            Ok(since) => micros(since),
            Err(before) => {
                let before = before.duration();
                // What is left of a microsecond reaches back into the one before.
                let more = i64::from(before.subsec_nanos() % 1_000 != 0);
                (-micros(before)).saturating_sub(more)
            }
        })
    }
}

impl Expires {
    /// The time, for a row that is written at `now_micros`.
    pub(super) fn at_micros(self, now_micros: i64) -> i64 {
        match self {
            Self::At(micros) => micros,
            Self::In(after) => {
                now_micros.saturating_add(i64::try_from(after.as_micros()).unwrap_or(i64::MAX))
            }
        }
    }
}

/// The payload with this time in the field by which rows of the collection expire.
///
/// # Errors
/// `Invalid`: they do not expire, or the payload has another time there.
pub(super) fn expiring(state: &CollectionState, payload: &Payload, at_micros: i64) -> Result<Payload> {
    let Some(field) = state.schema.expiry() else {
        let message = format!("the row is to expire, and rows of \"{}\" do not", state.name);
        return Err(Error::invalid("AKI-0279", message).help_is(
            "name the timestamp by which they shall: `akidb alter COLLECTION --expires-by FIELD`, Collection::expire_by; or leave the time out",
        ));
    };
    let name = &state.schema.fields[field].name;
    let mut payload = payload.clone();
    match payload.insert(name.clone(), Value::from(at_micros)) {
        None | Some(Value::Null) => Ok(payload),
        Some(said) if row::timestamp_of(&said) == Some(at_micros) => Ok(payload),
        Some(said) => {
            let at = row::timestamp_text(at_micros);
            let message =
                format!("the row is to expire at {at}, and field \"{name}\" of its payload says {said}");
            Err(Error::invalid("AKI-0279", message).help_is("say it in one of the two places"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_down_to_microseconds_on_both_sides_of_the_epoch() {
        let nanos = Duration::from_nanos;
        for (at, micros) in [
            (UNIX_EPOCH, 0),
            (UNIX_EPOCH + nanos(1_999), 1),
            (UNIX_EPOCH - nanos(1), -1),
            (UNIX_EPOCH - nanos(2_000), -2),
            (UNIX_EPOCH - nanos(2_001), -3),
        ] {
            assert_eq!(Expires::from(at), Expires::At(micros));
        }
    }

    #[test]
    fn a_time_too_far_off_for_a_number_is_the_last_one() {
        assert_eq!(Expires::In(Duration::MAX).at_micros(5), i64::MAX);
        assert_eq!(Expires::In(Duration::from_nanos(2_999)).at_micros(-3), -1);
        assert_eq!(Expires::At(7).at_micros(100), 7);
    }
}
