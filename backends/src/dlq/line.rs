//! One line of the journal, and its checksum.
//!
//! ```text
//! {"c":"8c736521","e":{"n":17,"op":"add","letter":{…}}}\n
//!       ^ crc32 of the bytes of e's value, braces included, 8 lower-case hex digits
//! ```
//! `op` is `add` or `update`, with `letter`, or `resolve`, with `id` and `why`. Everything around `e` is fixed to
//! the byte: a line that differs there is bad.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::letter::{Letter, LetterId};
use super::letters::{Change, What, Why};

/// Numbers above are bad: no JSON reader keeps them exactly.
pub(crate) const MOST: u64 = 1 << 53;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Add,
    Update,
    Resolve,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Event<'a> {
    n: u64,
    op: Op,
    #[serde(skip_serializing_if = "Option::is_none")]
    letter: Option<Cow<'a, Letter>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cow<'a, LetterId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Why>,
}

/// What a line of the journal tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// The letter is as it stands here.
    Is(Box<Letter>),
    /// It is gone.
    Gone(LetterId),
}

/// Appends the line of a change.
pub(crate) fn write(change: &Change, to: &mut Vec<u8>) {
    let mut event = Event { n: change.n, op: Op::Add, letter: None, id: None, why: None };
    match &change.what {
        What::Added(letter) => event.letter = Some(Cow::Borrowed(letter)),
        What::Updated(letter) => {
            event.op = Op::Update;
            event.letter = Some(Cow::Borrowed(letter));
        }
        What::Gone(letter, why) => {
            event.op = Op::Resolve;
            event.id = Some(Cow::Borrowed(&letter.id));
            event.why = Some(*why);
        }
    }
    seal(&event, to);
}

/// Appends a letter that was evicted, for the file that people read.
pub(crate) fn write_evicted(letter: &Letter, to: &mut Vec<u8>) {
    seal(letter, to);
}

fn seal(value: &impl Serialize, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(b"{\"c\":\"00000000\",\"e\":");
    let body = to.len();
    serde_json::to_writer(&mut *to, value).expect("strings and numbers into memory");
    let crc32 = hex(crc32fast::hash(&to[body..]));
    to[start + 6..start + 14].copy_from_slice(&crc32);
    to.extend_from_slice(b"}\n");
}

/// Reads a line without its newline: its number and what it tells. `None`: it is bad.
pub(crate) fn read(line: &[u8]) -> Option<(u64, Told)> {
    let rest = line.strip_prefix(b"{\"c\":\"")?;
    let (crc32, rest) = rest.split_at_checked(8)?;
    let body = rest.strip_prefix(b"\",\"e\":")?.strip_suffix(b"}")?;
    if *crc32 != hex(crc32fast::hash(body)) {
        return None;
    }
    let event: Event<'_> = serde_json::from_slice(body).ok()?;
    let told = match (event.op, event.letter, event.id, event.why) {
        (Op::Add | Op::Update, Some(letter), None, None) => {
            Told::Is(Box::new(letter.into_owned())).of_this_version()?
        }
        (Op::Resolve, None, Some(id), Some(_)) => Told::Gone(id.into_owned()),
        _ => return None,
    };
    (event.n <= MOST).then_some((event.n, told))
}

impl Told {
    fn of_this_version(self) -> Option<Self> {
        match &self {
            Self::Is(letter) if letter.v != 1 => None,
            _ => Some(self),
        }
    }
}

/// 8 lower-case hex digits.
pub(crate) fn hex(crc32: u32) -> [u8; 8] {
    let digit = |shift: u32| b"0123456789abcdef"[(crc32 >> shift & 0xf) as usize];
    [28, 24, 20, 16, 12, 8, 4, 0].map(digit)
}
