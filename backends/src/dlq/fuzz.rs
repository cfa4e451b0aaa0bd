//! For the fuzzer: whatever the files hold, they are read without a panic, nothing is read whose checksum is wrong, and
//! what was read is written and read again as the same.

use akidb_host::Rng;

use super::id::Ids;
use super::letter::{Attempt, Letter, LetterState};
use super::letters::{Change, Letters, What};
use super::line::{self, hex};
use super::load::{Found, of_bytes};
use super::settings::DlqSettings;
use super::{packed, snapshot};
use crate::class::Class;

/// Any bytes as `dlq.journal.jsonl`.
///
/// # Panics
/// If what must hold does not.
pub fn fuzz_dlq_journal(bytes: &[u8]) {
    let found = of_bytes(None, Some(bytes));
    let sealed: Vec<_> = bytes.split(|&byte| byte == b'\n').filter_map(sealed_letter_of_line).collect();
    came_from(&found, &sealed);
    comes_back(&found);
}

/// Any bytes as `dlq.json`, in either form.
///
/// # Panics
/// If what must hold does not.
pub fn fuzz_dlq_snapshot(bytes: &[u8]) {
    let found = of_bytes(Some(bytes), None);
    let plain = packed::unpack(bytes);
    let sealed: Vec<_> = plain.split(|&byte| byte == b'\n').filter_map(sealed_letter_of_entry).collect();
    came_from(&found, &sealed);
    comes_back(&found);
}

fn came_from(found: &Found, sealed: &[Letter]) {
    for letter in &found.letters {
        assert!(sealed.contains(letter), "a letter without a right checksum: {letter:?}");
    }
}

/// By other means than the readers': a value first.
fn letter_of(json: &[u8], member: Option<&str>) -> Option<Letter> {
    let mut value: serde_json::Value = serde_json::from_slice(json).ok()?;
    let letter = match member {
        Some(member) => value.get_mut(member)?.take(),
        None => value,
    };
    serde_json::from_value(letter).ok()
}

fn sealed_letter_of_line(line: &[u8]) -> Option<Letter> {
    let body = line.get(20..line.len().checked_sub(1)?)?;
    (line[6..14] == hex(crc32fast::hash(body))).then(|| letter_of(body, Some("letter")))?
}

fn sealed_letter_of_entry(line: &[u8]) -> Option<Letter> {
    let members = line.get(20..)?;
    let json = [b"{", members.strip_suffix(b",").unwrap_or(members)].concat();
    (line[10..18] == hex(crc32fast::hash(&json))).then(|| letter_of(&json, None))?
}

fn comes_back(found: &Found) {
    let saved = snapshot::write(&found.letters, found.last);
    for saved in [packed::pack(&saved), saved] {
        let again = of_bytes(Some(&saved), None);
        assert!(!again.is_snapshot_bad && again.loaded.corrupt_lines == 0, "what was written is whole");
        assert_eq!((&again.letters, again.last), (&found.letters, found.last));
    }
    let mut lines = Vec::new();
    for (n, letter) in (1..).zip(&found.letters) {
        let change = Change { n, what: What::Updated(letter.clone().into()) };
        line::write(&change, &mut lines);
    }
    assert_eq!(of_bytes(None, Some(&lines)).letters, found.letters);
    lives(found);
}

/// Whatever times and counts the letters bear, the queue can be used.
fn lives(found: &Found) {
    let now_unix_ms = 1_767_225_600_000;
    let mut letters =
        Letters::loaded(&DlqSettings::default(), found.letters.clone(), found.last, now_unix_ms);
    for backend in found.letters.iter().map(|letter| &letter.backend) {
        let _ = (letters.next_due(backend), letters.keys(backend));
        for claimed in letters.claim_due(backend, now_unix_ms, 2) {
            let attempt = Attempt { unix_ms: i64::MIN, status: None, request_id: None, millis: u64::MAX };
            letters.failed(&claimed.id, Class::Permanent, "refused", attempt, now_unix_ms);
        }
    }
    let _ = letters.stats(None, now_unix_ms);
    letters.expire(now_unix_ms / 1_000, now_unix_ms);
    let newest = found.letters.iter().map(|letter| &letter.id).max();
    let _ = Ids::after(newest, Rng::seeded(1)).next(now_unix_ms);
    assert!(letters.all().iter().all(|letter| letter.state != LetterState::Redriving));
}
