//! What is known to be on a backend: files its newest document names, and files verified since.
//!
//! ```text
//! uploads/<backend>.json     (kept by the caller; may be lost or deleted at any time: it only saves work)
//!   {"version":1,"files":[{"key":"…","len":4711,"crc32":"deadbeef","verified_unix_micros":0},…],"published":true}\n
//!   (`published`: a document of this database was there; left out if not)
//!   {"crc32":"<8 hex digits: crc32 of every byte before this line>"}\n
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::numbered::RemoteFile;
use crate::plan::PlanItem;

/// The set of verified files of one backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    files: BTreeMap<String, Entry>,
    /// Whether a document of this database was on the backend.
    is_published: bool,
    /// Whether none was there any more when it was claimed.
    found_empty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    len: u64,
    crc32: u32,
    /// `None`: the newest remote document names it, so no sweep takes it away.
    verified_unix_micros: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    version: u32,
    files: Vec<SavedFile>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    published: bool,
}

#[derive(Serialize, Deserialize)]
struct SavedFile {
    #[serde(flatten)]
    file: RemoteFile,
    verified_unix_micros: i64,
}

/// How far an item can be trusted to be on the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Not known to be there.
    Absent,
    /// Verified, but so long ago that a sweep may have taken it: look again before naming it.
    Stale,
    /// There.
    Present,
}

impl Known {
    /// Reads the saved form; anything unreadable is an empty set, since all of it can be found out again.
    #[must_use]
    pub fn from_json(bytes: &[u8]) -> Self {
        // Nothing was kept yet.
        if bytes.is_empty() {
            return Self::default();
        }
        Self::read(bytes).unwrap_or_else(|| {
            tracing::warn!("the list of uploaded files is unreadable and is built again");
            Self::default()
        })
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.strip_suffix(b"\n")?.iter().rposition(|&b| b == b'\n')? + 1;
        let (body, last) = bytes.split_at(end);
        if last != trailer(body).as_bytes() {
            return None;
        }
        let saved: Saved = serde_json::from_slice(body).ok()?;
        let entry = |saved: SavedFile| {
            let RemoteFile { key, len, crc32 } = saved.file;
            (key, Entry { len, crc32, verified_unix_micros: Some(saved.verified_unix_micros) })
        };
        (saved.version == 1).then(|| Self {
            files: saved.files.into_iter().map(entry).collect(),
            is_published: saved.published,
            found_empty: false,
        })
    }

    /// The saved form: files verified and not yet named by a document. The rest is in that document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let files = self
            .files
            .iter()
            .filter_map(|(key, entry)| {
                let file = RemoteFile { key: key.clone(), len: entry.len, crc32: entry.crc32 };
                Some(SavedFile { file, verified_unix_micros: entry.verified_unix_micros? })
            })
            .collect();
        let mut bytes = serde_json::to_vec(&Saved { version: 1, files, published: self.is_published })
            .expect("only strings and numbers");
        bytes.push(b'\n');
        let last = trailer(&bytes);
        bytes.extend_from_slice(last.as_bytes());
        bytes
    }

    /// Takes in what the newest document names.
    pub(crate) fn named(&mut self, files: &[RemoteFile]) {
        self.is_published = true;
        for file in files {
            let entry = Entry { len: file.len, crc32: file.crc32, verified_unix_micros: None };
            self.files.insert(file.key.clone(), entry);
        }
    }

    /// Takes in that the backend has no document that names anything. Answers whether it had one before.
    pub(crate) fn none_named(&mut self) -> bool {
        self.found_empty = self.is_published;
        self.found_empty
    }

    /// Whether it had no document any more when it was claimed: another disk may stand where its own was.
    pub(crate) fn found_empty(&self) -> bool {
        self.found_empty
    }

    /// Forgets everything but these: the newest document names exactly them.
    pub(crate) fn only_named(&mut self, files: &[RemoteFile]) {
        self.files.clear();
        self.named(files);
    }

    pub(crate) fn verified(&mut self, item: &PlanItem, now_unix_micros: i64) {
        let entry = Entry { len: item.len, crc32: item.crc32, verified_unix_micros: Some(now_unix_micros) };
        self.files.insert(item.key.clone(), entry);
    }

    pub(crate) fn forget(&mut self, key: &str) {
        self.files.remove(key);
    }

    /// `fresh_micros`: how long a verified file that no document names is trusted without a look.
    pub(crate) fn trust(&self, item: &PlanItem, now_unix_micros: i64, fresh_micros: i64) -> Trust {
        match self.files.get(&item.key) {
            Some(entry) if entry.len == item.len && entry.crc32 == item.crc32 => match entry
                .verified_unix_micros
            {
                None => Trust::Present,
                // A clock that went backwards proves nothing: look again.
                Some(at) if (0..fresh_micros).contains(&now_unix_micros.saturating_sub(at)) => Trust::Present,
                Some(_) => Trust::Stale,
            },
            _ => Trust::Absent,
        }
    }

    pub(crate) fn has(&self, item: &PlanItem) -> bool {
        self.files.get(&item.key).is_some_and(|entry| entry.len == item.len && entry.crc32 == item.crc32)
    }
}

fn trailer(body: &[u8]) -> String {
    format!("{{\"crc32\":\"{:08x}\"}}\n", crc32fast::hash(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, crc32: u32) -> PlanItem {
        PlanItem { key: key.into(), local: "x".into(), len: 5, crc32, ..PlanItem::default() }
    }

    #[test]
    fn the_saved_form_has_these_bytes_and_comes_back() {
        let mut known = Known::default();
        known.verified(&item("c/a.parquet", 0xdead_beef), 77);
        let bytes = known.to_json();
        let golden = "{\"version\":1,\"files\":[{\"key\":\"c/a.parquet\",\"len\":5,\"crc32\":\"deadbeef\",\
                      \"verified_unix_micros\":77}]}\n{\"crc32\":\"464143f6\"}\n";
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), golden);
        assert!(Known::from_json(&bytes).has(&item("c/a.parquet", 0xdead_beef)));
        // What a document names is found there again; that there is one is kept.
        known.named(&[RemoteFile { key: "c/b.parquet".into(), len: 1, crc32: 2 }]);
        let bytes = known.to_json();
        let golden = "{\"version\":1,\"files\":[{\"key\":\"c/a.parquet\",\"len\":5,\"crc32\":\"deadbeef\",\
                      \"verified_unix_micros\":77}],\"published\":true}\n{\"crc32\":\"f9362964\"}\n";
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), golden);
        assert!(Known::from_json(&bytes).has(&item("c/a.parquet", 0xdead_beef)));
    }

    #[test]
    fn that_a_backend_had_a_document_is_kept_and_told_when_it_has_none() {
        let mut known = Known::default();
        assert!(!known.none_named() && !known.found_empty(), "a new backend is empty");
        known.named(&[]);
        let bytes = known.to_json();
        assert!(bytes.starts_with(b"{\"version\":1,\"files\":[],\"published\":true}\n"));
        let mut known = Known::from_json(&bytes);
        assert!(!known.found_empty());
        assert!(known.none_named() && known.found_empty());
        // The next open is told, too, until something is published there.
        assert!(Known::from_json(&known.to_json()).none_named());
    }

    #[test]
    fn every_flip_and_every_cut_of_the_saved_form_is_an_empty_set() {
        let mut known = Known::default();
        known.verified(&item("c/a.parquet", 1), 77);
        let bytes = known.to_json();
        for cut in 0..bytes.len() {
            assert_eq!(Known::from_json(&bytes[..cut]), Known::default(), "cut {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Known::from_json(&flipped), Known::default(), "bit {bit}");
        }
    }

    #[test]
    fn a_file_verified_long_ago_or_in_the_future_is_looked_at_again_unless_a_document_names_it() {
        let mut known = Known::default();
        known.verified(&item("a", 1), 100);
        assert_eq!(known.trust(&item("a", 1), 149, 50), Trust::Present);
        assert_eq!(known.trust(&item("a", 1), 150, 50), Trust::Stale);
        assert_eq!(known.trust(&item("a", 1), 99, 50), Trust::Stale);
        assert_eq!(known.trust(&item("a", 2), 100, 50), Trust::Absent);
        known.only_named(&[RemoteFile { key: "a".into(), len: 5, crc32: 1 }]);
        assert_eq!(known.trust(&item("a", 1), 10_000, 50), Trust::Present);
    }
}
