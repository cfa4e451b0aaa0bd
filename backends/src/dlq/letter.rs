//! One dead letter: which upload, why it failed, and when it is tried again.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::class::{Class, Op};

/// Longer messages are cut: a letter is a line, not a log.
const MESSAGE_BYTES: usize = 2_048;
/// How many attempts a letter remembers.
const ATTEMPTS: usize = 5;

/// Name of a dead letter: a UUID of version 7 as text, so that ids in order are letters in the order they came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterId(Arc<str>);

impl LetterId {
    /// The text, 36 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LetterId {
    type Err = &'static str;

    /// Takes a UUID in lower-case hex digits with dashes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |(at, byte): (usize, u8)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        };
        if text.len() == 36 && text.bytes().enumerate().all(fits) {
            Ok(Self(text.into()))
        } else {
            Err("not the id of a dead letter: expected 36 lower-case hex digits and dashes")
        }
    }
}

impl Serialize for LetterId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for LetterId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <Cow<'_, str>>::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a letter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// The next redrive.
    Dead,
    /// The verdict of whoever holds its claim. Never on disk: claims end with their process.
    Redriving,
    /// A person: the file is bad, the request is, or three redrives were refused for good.
    Poison,
}

/// One try of the upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempt {
    /// When it ended, milliseconds since the Unix epoch.
    pub unix_ms: i64,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The server's name for the request, if it gave one.
    pub request_id: Option<String>,
    /// How long it took, milliseconds.
    pub millis: u64,
}

/// A dead letter as it is kept. Fields are as the files have them, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// Version of this layout: 1.
    pub v: u32,
    /// Its name.
    pub id: LetterId,
    /// The backend the upload was for.
    pub backend: String,
    /// The collection the file belongs to.
    pub collection_id: String,
    /// The segment the file is, or belongs to.
    pub segment_id: String,
    /// The call that failed.
    pub op: Op,
    /// The object's key on the backend.
    pub key: String,
    /// The local file. Its bytes are nowhere in here.
    #[serde(with = "lossy_path")]
    pub local: PathBuf,
    /// The file's length in bytes.
    pub len: u64,
    /// crc32 of the whole file.
    #[serde(with = "hex32")]
    pub crc32: u32,
    /// Number of the local manifest that was being copied.
    pub local_number: u64,
    /// How the last failure is classed.
    pub class: Class,
    /// What the last failure said, at most 2 KiB of it.
    pub error_message: String,
    /// Attempts before it became a letter.
    pub retry_count: u32,
    /// The last five attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Redriven first if lower; 0 is first.
    pub priority: u8,
    /// When it became a letter, seconds since the Unix epoch.
    pub created_at: i64,
    /// When it leaves the list, seconds since the Unix epoch. The upload stays pending.
    pub expires_at: i64,
    /// What it waits for.
    pub state: LetterState,
    /// Redrives that failed.
    pub redrives: u32,
    /// How many of those the backend refused for good, or the device did not read the file; at three it is poison.
    pub permanent_redrives: u32,
    /// Not redriven before, milliseconds since the Unix epoch.
    pub next_redrive_at: i64,
    /// A person asked for it: due now, even as poison.
    pub asked: bool,
}

impl Letter {
    /// Whether a redrive may take it once its time has come.
    pub(crate) fn is_driven(&self) -> bool {
        self.state == LetterState::Dead || self.asked
    }

    pub(crate) fn remember(&mut self, attempts: impl IntoIterator<Item = Attempt>) {
        self.attempts.extend(attempts);
        let surplus = self.attempts.len().saturating_sub(ATTEMPTS);
        self.attempts.drain(..surplus);
    }

    pub(crate) fn blame(&mut self, class: Class, message: &str) {
        self.class = class;
        let is_kept = |(at, one): &(usize, char)| at + one.len_utf8() <= MESSAGE_BYTES;
        self.error_message = message.char_indices().take_while(is_kept).map(|(_, one)| one).collect();
    }
}

/// What is said of a failed upload; see the fields of [`Letter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLetter {
    /// The backend the upload was for.
    pub backend: String,
    /// The collection the file belongs to.
    pub collection_id: String,
    /// The segment the file is, or belongs to.
    pub segment_id: String,
    /// The call that failed.
    pub op: Op,
    /// The object's key on the backend.
    pub key: String,
    /// The local file.
    pub local: PathBuf,
    /// The file's length in bytes.
    pub len: u64,
    /// crc32 of the whole file.
    pub crc32: u32,
    /// Number of the local manifest that was being copied.
    pub local_number: u64,
    /// How the last failure is classed.
    pub class: Class,
    /// What it said; cut at 2 KiB.
    pub error_message: String,
    /// Attempts made so far.
    pub retry_count: u32,
    /// What is known of them; the last five are kept.
    pub attempts: Vec<Attempt>,
    /// Redriven first if lower; 0 is first.
    pub priority: u8,
    /// Whether no redrive can help, so that it waits for a person: a file of ours that is bad, a request that is.
    pub poison: bool,
}

impl NewLetter {
    /// The letter, created now.
    pub(crate) fn into_letter(
        self,
        id: LetterId,
        now_unix_ms: i64,
        ttl_secs: i64,
        first_redrive_ms: i64,
    ) -> Letter {
        let created_at = now_unix_ms.div_euclid(1_000);
        let mut letter = Letter {
            v: 1,
            id,
            backend: self.backend,
            collection_id: self.collection_id,
            segment_id: self.segment_id,
            op: self.op,
            key: self.key,
            local: self.local,
            len: self.len,
            crc32: self.crc32,
            local_number: self.local_number,
            class: self.class,
            error_message: String::new(),
            retry_count: self.retry_count,
            attempts: Vec::new(),
            priority: self.priority,
            created_at,
            expires_at: created_at.saturating_add(ttl_secs),
            state: if self.poison { LetterState::Poison } else { LetterState::Dead },
            redrives: 0,
            permanent_redrives: 0,
            next_redrive_at: first_redrive_ms,
            asked: false,
        };
        letter.blame(self.class, &self.error_message);
        letter.remember(self.attempts);
        letter
    }
}

/// crc32 as 8 lower-case hex digits.
pub(super) mod hex32 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(crc32: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{crc32:08x}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 8 || !text.bytes().all(digits) {
            return Err(D::Error::custom("expected 8 lower-case hex digits"));
        }
        u32::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

/// A path as text; what is not UTF-8 is replaced, since this is for people and the pending set is not read here.
mod lossy_path {
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&path.to_string_lossy())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
        String::deserialize(from).map(PathBuf::from)
    }
}
