//! Row ids: text of 1 to 512 bytes, or 64-bit integers when the schema says so.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// Longest text id in bytes.
pub const MAX_ID_BYTES: usize = 512;

/// A row's id. Ids of one collection are all of one kind; their order is the order of their key bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Id {
    /// UTF-8 text, ordered by bytes.
    Text(Arc<str>),
    /// A signed integer, ordered as a number.
    Int(i64),
}

impl Id {
    /// The bytes this id has in a record: the text itself, or 8 bytes big endian with the sign bit flipped, so
    /// that byte order is the order of the ids.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.as_bytes().to_vec(),
            Self::Int(n) => (n.cast_unsigned() ^ 1 << 63).to_be_bytes().to_vec(),
        }
    }

    /// The id with these key bytes; `None` if they are not one of that kind.
    #[must_use]
    pub fn from_key(key: &[u8], is_int: bool) -> Option<Self> {
        if is_int {
            let bits = u64::from_be_bytes(key.try_into().ok()?);
            return Some(Self::Int((bits ^ 1 << 63).cast_signed()));
        }
        let text = std::str::from_utf8(key).ok()?;
        (!text.is_empty() && text.len() <= MAX_ID_BYTES).then(|| Self::Text(text.into()))
    }

    /// Refuses an id that cannot be stored.
    ///
    /// # Errors
    /// `Invalid` if a text id is empty or over 512 bytes.
    pub fn check(&self) -> Result<()> {
        let Self::Text(text) = self else { return Ok(()) };
        match text.len() {
            0 => Err(Error::invalid("AKI-0101", "an id is empty; ids are text of 1 to 512 bytes")),
            1..=MAX_ID_BYTES => Ok(()),
            n => Err(Error::invalid(
                "AKI-0102",
                format!("an id has {n} bytes; ids are text of 1 to 512 bytes"),
            )),
        }
    }

    /// A number that equal ids share, and two ids of one kind hardly ever; another one in each process, so that nobody can
    /// choose ids whose marks agree.
    pub(crate) fn mark(&self) -> u64 {
        static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let mut hasher = KEYS.build_hasher();
        match self {
            Self::Text(text) => hasher.write(text.as_bytes()),
            Self::Int(n) => hasher.write_i64(*n),
        }
        hasher.finish()
    }

    /// Bytes it takes beside itself, or as a key.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Int(_) => 8,
        }
    }

    /// Whether this is an integer id.
    #[must_use]
    pub fn is_int(&self) -> bool {
        matches!(self, Self::Int(_))
    }
}

/// An id with its mark, for those who look it up in several places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked<'a> {
    /// The id.
    pub(crate) id: &'a Id,
    /// What [`Id::mark`] answers.
    pub(crate) mark: u64,
}

impl<'a> From<&'a Id> for Marked<'a> {
    fn from(id: &'a Id) -> Self {
        Self { id, mark: id.mark() }
    }
}

/// Text, or a number.
impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Int(n) => serializer.serialize_i64(*n),
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Int(n) => write!(f, "{n}"),
        }
    }
}

impl From<&str> for Id {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Id {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&String> for Id {
    fn from(text: &String) -> Self {
        Self::Text(text.as_str().into())
    }
}

impl From<i64> for Id {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<&Self> for Id {
    fn from(id: &Self) -> Self {
        id.clone()
    }
}
