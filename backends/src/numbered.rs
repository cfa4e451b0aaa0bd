//! The claimed, numbered remote document: one JSON line, and a second line with its checksum.
//!
//! ```text
//! manifest/<number, 20 digits>.json
//!   {"version":1,"compatible":0,"incompatible":0,
//!    "number":7,"parent":{"number":6,"crc32":"0a1b2c3d"},      parent: null for number 1
//!    "db_id":"…","epoch":3,"writer":"9f00aa17","commit":"<32 hex digits>",
//!    "content":{"local_number":12,                              content: null until something was published
//!               "files":[{"key":"collections/…","len":4711,"crc32":"deadbeef"},…],
//!               "text":"…"}}\n                                  text: opaque, comes back byte for byte
//!   {"crc32":"<8 hex digits: crc32 of every byte before this line>"}\n
//! ```
//! (Shown wrapped; the first line is one line.) Numbers are dense from 1. A document is stored by conditional
//! create and never changed. `files` are the objects that the text names: all verified before the document
//! was created.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::class::Class;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::check_key;

mod chain;
#[cfg(test)]
mod tests;

pub use chain::{Chain, Identity};

const VERSION: u32 = 1;
pub(crate) const PREFIX: &str = "manifest";

/// A file as a remote document names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    /// Its key below the backend's prefix.
    pub key: String,
    /// Its length in bytes.
    pub len: u64,
    /// crc32 of all of it.
    #[serde(with = "hex32")]
    pub crc32: u32,
}

/// What a document publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The local manifest it is a copy of.
    pub local_number: u64,
    /// Every file the text names.
    pub files: Vec<RemoteFile>,
    /// The local manifest, byte for byte.
    pub text: String,
}

/// The document before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// Its number.
    pub number: u64,
    /// The checksum in its last line.
    #[serde(with = "hex32")]
    pub crc32: u32,
}

/// One remote document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    version: u32,
    compatible: u64,
    incompatible: u64,
    /// Its place in the chain, from 1.
    pub number: u64,
    /// The one before; none for number 1.
    pub parent: Option<Parent>,
    /// The database it belongs to.
    pub db_id: String,
    /// The epoch of the open that wrote it.
    pub epoch: u64,
    /// The random id of the open that wrote it.
    #[serde(with = "hex32")]
    pub writer: u32,
    /// Random; tells our own document from another's under the same number.
    pub commit: String,
    /// What it publishes; none where a writer claimed a backend on which nothing was published yet.
    pub content: Option<Content>,
}

#[derive(Serialize, Deserialize)]
struct Trailer {
    #[serde(with = "hex32")]
    crc32: u32,
}

/// A document and the checksum in its last line.
#[derive(Clone, Debug)]
pub(crate) struct Sealed {
    pub(crate) document: Document,
    pub(crate) crc32: u32,
}

pub(crate) fn key_of(number: u64) -> String {
    format!("{PREFIX}/{number:020}.json")
}

/// The number in a key's last part, if it is one of ours.
pub(crate) fn number_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".json")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

pub(crate) fn encode(document: &Document) -> (Bytes, u32) {
    let mut bytes = serde_json::to_vec(document).expect("a document has only strings and numbers");
    bytes.push(b'\n');
    let crc32 = crc32fast::hash(&bytes);
    bytes.extend_from_slice(format!("{{\"crc32\":\"{crc32:08x}\"}}\n").as_bytes());
    (Bytes::from(bytes), crc32)
}

/// Reads a document back; the checksum is checked before anything else is believed.
pub(crate) fn decode(backend: &str, number: u64, bytes: &[u8]) -> Result<Sealed> {
    let key = key_of(number);
    let damaged = |offset: usize, what: &str| {
        Err(Error::corrupt(backend, &key, format!("damaged remote document: {what}"))
            .at_offset(offset as u64))
    };
    let body_len = match bytes.strip_suffix(b"\n").and_then(|b| b.iter().rposition(|&c| c == b'\n')) {
        Some(end) => end + 1,
        None => return damaged(0, "no checksum line"),
    };
    let (body, last) = bytes.split_at(body_len);
    let Ok(Trailer { crc32 }) = serde_json::from_slice(last) else {
        return damaged(body_len, "no checksum line");
    };
    if crc32fast::hash(body) != crc32 {
        return damaged(0, "checksum mismatch");
    }
    check_version(backend, &key, body)?;
    let document: Document = match serde_json::from_slice(body) {
        Ok(document) => document,
        Err(e) => return damaged(e.column(), "not of the expected form"),
    };
    let dense = match document.parent {
        None => number == 1,
        Some(parent) => parent.number.checked_add(1) == Some(number),
    };
    if document.number != number || !dense {
        return damaged(0, "its number is not the one in its name, or not its parent's successor");
    }
    for file in document.content.iter().flat_map(|content| &content.files) {
        if check_key(backend, &file.key).is_err() {
            return damaged(0, "it names a key that no file of ours can have");
        }
    }
    Ok(Sealed { document, crc32 })
}

fn check_version(backend: &str, key: &str, body: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
        incompatible: u64,
    }
    match serde_json::from_slice::<Head>(body) {
        Ok(head) if head.version == VERSION && head.incompatible == 0 => Ok(()),
        Ok(head) if head.version >= VERSION => {
            let what =
                format!("remote document of version {}, features {:#x}", head.version, head.incompatible);
            Err(Error::new(ErrorKind::NewerFormat, Class::Permanent, backend, what).at(key))
        }
        _ => Err(Error::corrupt(backend, key, "damaged remote document: no known version")),
    }
}

/// See [`crate::fault::fuzz_document`].
#[cfg(any(test, feature = "test-util"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    // Its number is what its name would say.
    #[derive(Deserialize)]
    struct Named {
        number: u64,
    }
    let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let number = serde_json::from_slice::<Named>(line).map_or(1, |named| named.number);
    let sealed = match decode("fuzz", number, bytes) {
        Ok(sealed) => sealed,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat), "{error}");
            return;
        }
    };
    let (encoded, crc32) = encode(&sealed.document);
    let again = decode("fuzz", number, &encoded).expect("what was encoded decodes");
    assert_eq!((again.crc32, &again.document), (crc32, &sealed.document), "a document comes back as it was");
    assert_eq!(encode(&again.document).0, encoded, "and always by the same bytes");
}

/// The document of this number, or `None` if there is none.
pub(crate) async fn read(client: &Client, number: u64) -> Result<Option<Sealed>> {
    match client.get(&key_of(number)).await? {
        Some(bytes) => decode(client.name(), number, &bytes).map(Some),
        None => Ok(None),
    }
}

/// The numbers of the documents there are, unordered.
pub(crate) async fn numbers(client: &Client) -> Result<Vec<u64>> {
    let listed = client.list(PREFIX).await?;
    Ok(listed.iter().filter_map(|meta| number_of(meta.location.filename()?)).collect())
}

/// The newest document, or `None` on a backend without any.
pub(crate) async fn newest(client: &Client) -> Result<Option<Sealed>> {
    let Some(number) = numbers(client).await?.into_iter().max() else { return Ok(None) };
    match read(client, number).await? {
        Some(sealed) => Ok(Some(sealed)),
        None => Err(Error::corrupt(client.name(), &key_of(number), "the newest document is listed but gone")),
    }
}

/// crc32 as 8 hex digits.
mod hex32 {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(value: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:08x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(D::Error::custom("expected 8 hex digits"));
        }
        u32::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}
