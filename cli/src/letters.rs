//! Dead letters as JSON and the wishes about them, the same for the command and for `akidb serve`.

use akidb::{CallKind, Class, DlqStats, Letter, LetterId, LetterState, Which};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::failure::{Failure, Result};

/// Letters listed, unless more or fewer are asked for.
pub(crate) const LISTED: usize = 100;
/// Letters listed, at most.
pub(crate) const MAX_LISTED: usize = 100_000;

/// The four figures that `dlq stats` has always had.
pub(crate) fn stats(stats: &DlqStats) -> Value {
    json!({
        "size": stats.size,
        "oldest_entry_age_seconds": stats.oldest_entry_age_seconds,
        "total_evictions": stats.total_evictions,
        "total_expired": stats.total_expired,
    })
}

/// A list, with the figures that say what is not in it.
pub(crate) fn listing(letters: &[Letter], stats: &DlqStats) -> Value {
    json!({
        "letters": letters,
        "size": stats.size,
        "poison": stats.poison,
        "redriving": stats.redriving,
        "parked": stats.parked,
        "rejected": stats.rejected,
        "corrupt_lines": stats.corrupt_lines,
        "degraded": stats.degraded,
    })
}

/// The letters that fit these words.
pub(crate) fn which(backend: Option<String>, class: Option<&str>, state: Option<&str>) -> Result<Which> {
    let mut which = Which { backend, ..Which::all() };
    if let Some(class) = class {
        which.class = Some(word::<Class>("class", class)?);
    }
    if let Some(state) = state {
        which.state = Some(word::<LetterState>("state", state)?);
    }
    Ok(which)
}

/// The id in this text.
pub(crate) fn id(text: &str) -> Result<LetterId> {
    text.parse().map_err(|why| Failure::request(format!("{text:?} is {why}")))
}

/// The kind of calls in this text.
pub(crate) fn kind(text: &str) -> Result<CallKind> {
    let kinds = CallKind::ALL.map(|kind| kind.to_string());
    CallKind::ALL
        .into_iter()
        .find(|kind| kind.to_string() == text)
        .ok_or_else(|| Failure::request(format!("kind: {text:?} is none of {}", kinds.join(", "))))
}

/// One of the words of a closed set; serde lists them in its refusal.
fn word<T: DeserializeOwned>(key: &str, text: &str) -> Result<T> {
    serde_json::from_value(Value::String(text.to_owned()))
        .map_err(|error| Failure::request(format!("{key}: {error}")))
}

/// The failure for a letter that is not there.
pub(crate) fn gone(id: &LetterId) -> Failure {
    Failure::not_found(format!("there is no dead letter {id}; it may have been uploaded since"))
        .help("list them with `akidb dlq ls`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_not_known_is_answered_with_those_that_are() {
        let error = which(None, Some("poison"), None).unwrap_err().to_string();
        assert!(error.contains("poison") && error.contains("permanent") && error.contains("auth"), "{error}");
        let error = which(None, None, Some("alive")).unwrap_err().to_string();
        assert!(error.contains("dead") && error.contains("redriving"), "{error}");
        assert_eq!(kind("list_delete").unwrap(), CallKind::ListDelete);
        assert!(kind("lists").unwrap_err().to_string().contains("download"));
        assert!(id("../../etc").unwrap_err().to_string().contains("36"));
    }
}
