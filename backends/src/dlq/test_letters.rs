//! Letters for the tests of the queue.

use std::sync::Arc;

use akidb_host::Rng;

use super::id::Ids;
use super::letter::{Attempt, Letter, NewLetter};
use super::letters::{Change, What, Why};
use crate::class::{Class, Op};

pub(crate) fn new_letter(key: &str) -> NewLetter {
    NewLetter {
        backend: "s3".into(),
        collection_id: "1".into(),
        segment_id: "00000001-00000002-9f00aa17".into(),
        op: Op::Put,
        key: key.into(),
        local: std::path::Path::new("/db/collections/1-docs").join(key),
        len: 4_711,
        crc32: 0xdead_beef,
        local_number: 42,
        class: Class::Transient,
        error_message: "put failed: 500".into(),
        retry_count: 3,
        attempts: vec![],
        priority: 2,
        poison: false,
    }
}

pub(crate) fn attempt() -> Attempt {
    Attempt {
        unix_ms: 1_767_225_600_000,
        status: Some(400),
        request_id: Some("4442587FB7D0A2F9".into()),
        millis: 12,
    }
}

/// So many letters that differ, oldest first.
pub(crate) fn letters(count: u32) -> Vec<Letter> {
    let mut ids = Ids::after(None, Rng::seeded(7));
    let one = |n: u32| {
        let mut new = new_letter(&format!("docs/{n:08}.parquet"));
        new.attempts = vec![attempt(); n as usize % 3];
        new.poison = n.is_multiple_of(5);
        new.error_message = format!("\"{n}\" \u{fc}ber\n\\");
        let now = 1_767_225_600_000 + i64::from(n);
        new.into_letter(ids.next(now), now, 604_800, now + 60_000)
    };
    (0..count).map(one).collect()
}

/// Adds of these, then an update of every third and the end of every seventh.
pub(crate) fn changes(letters: &[Letter]) -> Vec<Change> {
    let shared: Vec<_> = letters.iter().cloned().map(Arc::new).collect();
    let mut what: Vec<_> = shared.iter().map(|letter| What::Added(Arc::clone(letter))).collect();
    what.extend(shared.iter().step_by(3).map(|letter| {
        let mut letter = Letter::clone(letter);
        letter.redrives += 1;
        What::Updated(Arc::new(letter))
    }));
    what.extend(shared.iter().step_by(7).map(|letter| What::Gone(Arc::clone(letter), Why::Resolved)));
    (1..).zip(what).map(|(n, what)| Change { n, what }).collect()
}
