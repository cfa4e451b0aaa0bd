//! Payloads changed without sending the vector again.

use serde_json::Value;
use serde_json::map::Entry;

use super::encode::{self, RowRef};
use super::write::{self, Differing};
use super::{Collection, Receipt, as_payload, check_id};
use crate::error::{Error, ErrorKind, Result};
use crate::expiry::Expiry;
use crate::id::Id;
use crate::lsn::Lsn;
use crate::ops::{Expect, newest_row};
use crate::row::{self, Payload};

/// How often a change begins anew because another write of the row came between. Each time one of them got through, so
/// this many writers of one row may be at it at the same instant, again and again.
const TRIES: usize = 256;

impl Collection {
    /// Changes the payload of a row and keeps its vector. `patch` is a JSON object; a key in it is set, and one that is
    /// `null` is removed; objects are merged key by key, anything else is replaced (JSON merge patch, RFC 7386). The
    /// patch meets the newest version of the row, so that no change of another writer is lost. Blocks as
    /// [`Collection::upsert`] does; returns the row's new version.
    ///
    /// # Errors
    /// As [`Collection::upsert`]; `NotFound` (AKI-0217) if there is no such row; `Conflict` if 256 times in a row
    /// another writer was faster.
    pub fn update_payload(&self, id: impl Into<Id>, patch: impl Into<Value>) -> Result<Lsn> {
        let patch = as_payload(patch.into())?;
        self.submit_change(&id.into(), true, |payload| merge(payload, patch.clone()))?.acknowledged()
    }

    /// Replaces the whole payload of a row and keeps its vector; otherwise as [`Collection::update_payload`].
    ///
    /// # Errors
    /// As [`Collection::update_payload`].
    pub fn replace_payload(&self, id: impl Into<Id>, payload: impl Into<Value>) -> Result<Lsn> {
        let new = as_payload(payload.into())?;
        self.submit_change(&id.into(), true, |payload| replace(payload, &new))?.acknowledged()
    }

    /// Puts the change into the log's order; `to_pace` says whether it is slowed while flushes are behind.
    pub(super) fn submit_change(
        &self,
        id: &Id,
        mut to_pace: bool,
        change: impl Fn(&mut Payload),
    ) -> Result<Receipt> {
        let engine = &self.handle.engine;
        let applier = engine.writer()?.sequencer.applier();
        let mut tries = 1;
        loop {
            let (state, span) = self.begin(1)?;
            let _entered = span.clone().entered();
            check_id(&state.schema, id)?;
            state.check_takes_writes()?;
            let expiry = Expiry::at(engine.place.clock.unix_micros(), &state);
            let newest = newest_row(applier, self.id, id)?.filter(|(_, row)| !expiry.hides(row));
            let Some((version, row)) = newest else {
                return Err(Error::new(ErrorKind::NotFound, "AKI-0217", format!("there is no row {id}")));
            };
            let mut payload = row::join_payload(&state.schema, &row.fields, row.rest.as_deref())?;
            change(&mut payload);
            let row = RowRef::of(id, &row.vector, &payload);
            let encoded = encode::one_row(&state, row, Some(Expect::Version(version)))?;
            if std::mem::take(&mut to_pace) && engine.keep_pace(&encoded.ops) {
                // Others may have changed the row meanwhile.
                continue;
            }
            let differing = Differing::default();
            match write::append_unless(engine, &[state], &encoded, true, span, &differing) {
                Err(_) if !differing.borrow().is_empty() && tries < TRIES => tries += 1,
                receipt => return receipt,
            }
        }
    }
}

/// Puts a payload in the place of another.
pub(super) fn replace(payload: &mut Payload, new: &Payload) {
    new.clone_into(payload);
}

/// Merges a patch into an object, as RFC 7386 says.
pub(super) fn merge(into: &mut Payload, patch: Payload) {
    for (key, value) in patch {
        match (value, into.entry(key)) {
            (Value::Null, Entry::Occupied(there)) => drop(there.remove()),
            (Value::Null, Entry::Vacant(_)) => {}
            (Value::Object(patch), entry) => {
                let there = entry.or_insert(Value::Null);
                if !there.is_object() {
                    *there = Value::Object(Payload::new());
                }
                if let Value::Object(there) = there {
                    merge(there, patch);
                }
            }
            (value, Entry::Occupied(mut there)) => drop(there.insert(value)),
            (value, Entry::Vacant(place)) => drop(place.insert(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(target: Value, patch: Value) -> Value {
        let (Value::Object(mut target), Value::Object(patch)) = (target, patch) else {
            panic!("not objects")
        };
        merge(&mut target, patch);
        Value::Object(target)
    }

    /// The test cases of RFC 7386, appendix A, whose targets and patches are objects.
    #[test]
    fn patches_merge_as_the_rfc_says() {
        let cases = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ];
        for (target, patch, expected) in cases {
            assert_eq!(merged(target.clone(), patch.clone()), expected, "{target} and {patch}");
        }
    }
}
