//! Damage of every kind to both files: what is whole is read, what is not is never taken for something else.

use super::*;
use crate::dlq::letters::Change;
use crate::dlq::test_letters::{changes, letters};

const LETTERS: u32 = 50;

fn journal_of(changes: &[Change]) -> Vec<u8> {
    let mut bytes = Vec::new();
    changes.iter().for_each(|change| line::write(change, &mut bytes));
    bytes
}

/// Letters missing from `left`; panics if one of `left` never was.
fn lost(all: &[Letter], left: &[Letter], place: &str) -> usize {
    let mut kept = 0;
    for letter in left {
        assert!(all.contains(letter), "{place}: a letter that never was: {letter:?}");
        kept += 1;
    }
    all.len() - kept
}

/// As [`lost`] for sorted lists without a change in between, which is quick.
fn lost_of(all: &[Letter], left: &[Letter], place: &str) -> usize {
    let mut rest = left.iter().peekable();
    let lost = all.iter().filter(|letter| rest.next_if(|next| next == letter).is_none()).count();
    assert!(rest.peek().is_none(), "{place}: a letter that never was: {:?}", rest.peek());
    lost
}

/// Flips every bit of these bytes in turn.
fn every_flip(bytes: &[u8], places: impl Iterator<Item = usize>, check: impl Fn(&[u8], &str)) {
    let mut flipped = bytes.to_vec();
    for at in places {
        for bit in 0..8 {
            flipped[at] ^= 1 << bit;
            check(&flipped, &format!("byte {at}, bit {bit}"));
            flipped[at] ^= 1 << bit;
        }
    }
}

/// Every byte of the files of 50 letters with `AKIDB_ALL_FLIPS=1`, which takes a minute; else one of 31. The files of
/// three, which have every byte of them too, are always flipped through.
fn stride() -> usize {
    if std::env::var_os("AKIDB_ALL_FLIPS").is_some() { 1 } else { 31 }
}

fn journal_loses_little(all: &[Letter], stride: usize) {
    let adds: Vec<_> = changes(all).into_iter().take(all.len()).collect();
    let bytes = journal_of(&adds);
    assert_eq!(of_bytes(None, Some(&bytes)).letters, all);
    every_flip(&bytes, (0..bytes.len()).step_by(stride), |flipped, place| {
        let found = of_bytes(None, Some(flipped));
        let lost = lost_of(all, &found.letters, place);
        assert!(lost <= 2, "{place}: {lost} lost");
        assert!(found.is_journal_bad, "{place}: not noticed");
        assert!(found.loaded.is_torn || found.loaded.corrupt_lines > 0, "{place}: not told");
    });
}

fn snapshot_loses_little(all: &[Letter], stride: usize) {
    let bytes = snapshot::write(all, 50);
    assert_eq!(of_bytes(Some(&bytes), None).letters, all);
    every_flip(&bytes, (0..bytes.len()).step_by(stride), |flipped, place| {
        let found = of_bytes(Some(flipped), None);
        let lost = lost_of(all, &found.letters, place);
        assert!(lost <= 2, "{place}: {lost} lost");
        assert!(found.is_snapshot_bad && found.loaded.corrupt_lines > 0, "{place}: not noticed");
    });
}

#[test]
fn a_flipped_bit_of_the_journal_loses_two_letters_at_most_and_changes_none() {
    let all = letters(LETTERS);
    journal_loses_little(&all, stride());
    all.windows(3).step_by(3).for_each(|three| journal_loses_little(three, 1));
}

#[test]
fn a_flipped_bit_of_the_snapshot_loses_two_letters_at_most_and_changes_none() {
    let all = letters(LETTERS);
    snapshot_loses_little(&all, stride());
    all.windows(3).step_by(3).for_each(|three| snapshot_loses_little(three, 1));
}

/// A frame is lost with its letters; what it is made of is not told apart, so a bit that means nothing may flip unseen.
#[test]
fn a_flipped_bit_or_a_cut_of_a_packed_snapshot_loses_a_frame_at_most_and_changes_none() {
    let all = letters(2 * LETTERS);
    let plain = snapshot::write(&all, 50);
    let bytes = packed::pack(&plain);
    let in_a_frame = (16 << 10) / (plain.len() / all.len()) + 2;
    assert_eq!(of_bytes(Some(&bytes), None).letters, all);
    assert!(all.len() > 2 * in_a_frame, "several frames");
    every_flip(&bytes, (0..bytes.len()).step_by(stride()), |flipped, place| {
        let found = of_bytes(Some(flipped), None);
        let lost = lost_of(&all, &found.letters, place);
        assert!(lost <= in_a_frame, "{place}: {lost} lost");
        assert!(found.is_snapshot_bad || lost == 0, "{place}: not noticed");
        assert_eq!(found.is_snapshot_bad, found.loaded.corrupt_lines > 0, "{place}: not told");
    });
    for len in (0..bytes.len()).step_by(stride()) {
        let found = of_bytes(Some(&bytes[..len]), None);
        let kept = found.letters.len();
        assert_eq!(found.letters, all[..kept], "{len}");
        assert!(found.is_snapshot_bad, "{len}");
        assert!(kept + in_a_frame >= all.len() * len / bytes.len(), "{len}: {kept} left");
    }
}

#[test]
fn every_truncation_keeps_every_whole_line() {
    let all = letters(LETTERS);
    let adds: Vec<_> = changes(&all).into_iter().take(all.len()).collect();
    let bytes = journal_of(&adds);
    for len in (0..bytes.len()).step_by(stride().div_ceil(8)) {
        let cut = &bytes[..len];
        let found = of_bytes(None, Some(cut));
        // A line that lacks nothing but its newline is whole.
        let whole = bytes[..=len].iter().filter(|&&byte| byte == b'\n').count();
        assert_eq!(found.letters, all[..whole], "{len}");
        assert_eq!(found.loaded.corrupt_lines, 0, "{len}");
    }
    let bytes = snapshot::write(&all, 50);
    for len in (0..bytes.len()).step_by(stride().div_ceil(8)) {
        let found = of_bytes(Some(&bytes[..len]), None);
        let lines = bytes[..=len].split(|&byte| byte == b'\n');
        let whole = lines.filter(|line| line.starts_with(b"    {") && line.ends_with(b"},")).count();
        let kept = found.letters.len();
        assert!(kept >= whole.saturating_sub(1), "{len}: {kept} of {whole}");
        assert_eq!(found.letters, all[..kept], "{len}");
        assert!(found.is_snapshot_bad, "{len}");
    }
}

#[test]
fn a_flip_anywhere_in_a_life_of_changes_accepts_no_state_that_never_was() {
    let all = letters(6);
    let changes = changes(&all);
    let (early, late) = changes.split_at(8);
    let found = of_bytes(None, Some(&journal_of(early)));
    let (snapshot, journal) = (snapshot::write(&found.letters, found.last), journal_of(late));
    let end = of_bytes(Some(&snapshot), Some(&journal));
    let mut states = all.clone();
    states.extend(found.letters);
    states.extend(end.letters.iter().cloned());
    every_flip(&journal, 0..journal.len(), |flipped, place| {
        let found = of_bytes(Some(&snapshot), Some(flipped));
        lost(&states, &found.letters, place);
        assert!(found.letters.len() >= end.letters.len(), "{place}: an end that was lost loses no letter");
    });
}

#[test]
fn a_journal_that_a_snapshot_has_overtaken_changes_nothing() {
    let all = letters(20);
    let changes = changes(&all);
    let whole = of_bytes(None, Some(&journal_of(&changes)));
    for covered in 0..=changes.len() {
        let before = of_bytes(None, Some(&journal_of(&changes[..covered])));
        let snapshot = snapshot::write(&before.letters, before.last);
        let found = of_bytes(Some(&snapshot), Some(&journal_of(&changes)));
        assert_eq!((found.letters, found.last), (whole.letters.clone(), whole.last), "{covered}");
    }
}

#[test]
fn what_a_snapshot_saw_go_does_not_come_back_from_the_journal() {
    let all = letters(3);
    let changes = changes(&all);
    let snapshot = snapshot::write(&all[1..], 9);
    let found = of_bytes(Some(&snapshot), Some(&journal_of(&changes[..3])));
    assert_eq!((found.letters, found.last), (all[1..].to_vec(), 9));
}

#[test]
fn a_snapshot_of_a_newer_version_is_left_alone() {
    let text = String::from_utf8(snapshot::write(&letters(2), 9)).unwrap();
    let body = &text[..text.rfind("  \"crc32\"").unwrap()].replace("\"version\": 1", "\"version\": 2");
    let newer = format!("{body}  \"crc32\": \"{:08x}\"\n}}\n", crc32fast::hash(body.as_bytes()));
    let found = of_bytes(Some(newer.as_bytes()), None);
    assert!(found.loaded.is_newer && found.is_snapshot_bad && found.letters.is_empty());
}

#[test]
fn the_snapshot_is_one_json_document() {
    for count in [0, 1, 3] {
        let all = letters(count);
        let value: serde_json::Value = serde_json::from_slice(&snapshot::write(&all, 9)).unwrap();
        assert_eq!(value["count"], count);
        let entries = value["entries"].as_array().unwrap();
        let ids: Vec<_> = entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
        assert_eq!(ids, all.iter().map(|letter| letter.id.as_str()).collect::<Vec<_>>());
    }
}

/// The bytes stay readable, and stay these bytes.
#[test]
fn golden_files() {
    const SNAPSHOT: &[u8] = include_bytes!("../../../tests/golden/dlq.json");
    const JOURNAL: &[u8] = include_bytes!("../../../tests/golden/dlq.journal.jsonl");
    let all = letters(3);
    let changes = changes(&all);
    let (early, late) = changes.split_at(3);
    let found = of_bytes(None, Some(&journal_of(early)));
    let bytes = (snapshot::write(&found.letters, found.last), journal_of(late));
    if let Some(dir) = std::env::var_os("AKIDB_WRITE_GOLDEN") {
        let dir = Path::new(&dir);
        std::fs::write(dir.join("dlq.json"), &bytes.0).unwrap();
        std::fs::write(dir.join("dlq.journal.jsonl"), &bytes.1).unwrap();
        std::fs::write(dir.join("dlq.packed.json"), packed::pack(&bytes.0)).unwrap();
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(text(&bytes.0), text(SNAPSHOT));
    assert_eq!(text(&bytes.1), text(JOURNAL));
    let golden = of_bytes(Some(SNAPSHOT), Some(JOURNAL));
    assert_eq!((golden.letters.as_slice(), golden.last), (&all[1..], 5));
    assert!(!golden.is_snapshot_bad && !golden.is_journal_bad);
    // A newer zstd may compress otherwise: that these bytes are read is what counts.
    const PACKED: &[u8] = include_bytes!("../../../tests/golden/dlq.packed.json");
    assert_eq!(text(&packed::unpack(PACKED)), text(SNAPSHOT));
}
