//! Names that keep a manifest: what `akidb snapshot create` and `rm` change in it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Manifest;
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;

/// Most names at a time: each keeps a manifest and its files, and an open reads all that are kept.
pub(super) const MAX_NAMED: usize = 256;
/// Longest name.
const MAX_NAME_BYTES: usize = 128;

/// The incompatible feature of a manifest that names others: a version that does not know it would remove their files.
pub(super) const NAMED_SNAPSHOTS: &str = "named-snapshots";

/// A manifest that is kept under a name, for as long as newer ones say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedManifest {
    /// 1 to 128 letters, digits, dots, dashes and underscores; unique whatever its case.
    pub name: String,
    /// Its number; the commit that makes a name names itself.
    pub manifest: u64,
    /// What it shows is the database at this LSN, whatever the collection.
    #[serde(with = "crate::lsn::text")]
    pub flushed_lsn: Lsn,
    /// Wall time of that commit, UTC.
    #[serde(with = "super::hex::display_text")]
    pub created_at: Timestamp,
}

/// Refuses a name that a snapshot cannot have.
///
/// # Errors
/// `Invalid`.
pub(crate) fn check_snapshot_name(name: &str) -> Result<()> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if plain && (1..=MAX_NAME_BYTES).contains(&name.len()) {
        return Ok(());
    }
    let message = format!("a snapshot cannot be named {name:?}");
    let help = format!("1 to {MAX_NAME_BYTES} letters, digits, dots, dashes and underscores");
    Err(Error::invalid("AKI-0272", message).help_is(help))
}

impl Manifest {
    /// The manifest kept under exactly this name.
    ///
    /// # Errors
    /// `NotFound`, listing the names there are.
    pub fn snapshot(&self, name: &str) -> Result<&NamedManifest> {
        self.snapshots.iter().find(|named| named.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.snapshots.iter().map(|named| named.name.as_str()).collect();
            let there = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
            Error::new(ErrorKind::NotFound, "AKI-0273", format!("no snapshot \"{name}\" ({there})"))
                .help_is("list them with `akidb snapshot ls`")
        })
    }

    /// Whether this manifest can be kept under this name.
    ///
    /// # Errors
    /// `Invalid`: not a name. `Conflict`: taken, in whatever case. `Full`: 256 are there.
    pub(crate) fn check_new_snapshot(&self, name: &str) -> Result<()> {
        check_snapshot_name(name)?;
        if let Some(taken) = self.snapshots.iter().find(|named| named.name.eq_ignore_ascii_case(name)) {
            let message = format!("snapshot \"{}\" exists (case does not tell names apart)", taken.name);
            return Err(Error::new(ErrorKind::Conflict, "AKI-0274", message)
                .help_is("take another name, or let it go with `akidb snapshot rm`"));
        }
        if self.snapshots.len() >= MAX_NAMED {
            let kind =
                ErrorKind::Full { which: "named snapshots", retry_after: std::time::Duration::from_secs(60) };
            let message = format!("{MAX_NAMED} snapshots are kept already");
            return Err(Error::new(kind, "AKI-0275", message).help_is("let some go with `akidb snapshot rm`"));
        }
        Ok(())
    }

    /// Keeps this very manifest under a name: it is the database at `flushed_lsn`.
    ///
    /// # Errors
    /// As [`Manifest::check_new_snapshot`].
    pub(crate) fn name_snapshot(&mut self, name: &str, flushed_lsn: Lsn) -> Result<()> {
        self.check_new_snapshot(name)?;
        let (manifest, created_at) = (self.number, self.created_at);
        self.snapshots.push(NamedManifest { name: name.to_owned(), manifest, flushed_lsn, created_at });
        self.note_features();
        Ok(())
    }

    /// Lets a name go.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn forget_snapshot(&mut self, name: &str) -> Result<()> {
        self.snapshot(name)?;
        self.snapshots.retain(|named| named.name != name);
        self.note_features();
        Ok(())
    }

    /// Lets all names go, and returns them: their manifests are not here.
    pub(crate) fn forget_snapshots(&mut self) -> Vec<String> {
        let names = std::mem::take(&mut self.snapshots);
        self.note_features();
        names.into_iter().map(|named| named.name).collect()
    }

    /// The highest LSN of which it may show anything, and the highest up to which it shows everything.
    #[must_use]
    pub(crate) fn shown(&self) -> (Lsn, Lsn) {
        if let Some(named) = self.snapshots.iter().find(|named| named.manifest == self.number) {
            return (named.flushed_lsn, named.flushed_lsn);
        }
        let flushed = || self.collections.iter().map(|c| c.flushed_lsn);
        let floor = self.floor.pred();
        (flushed().max().unwrap_or(floor), flushed().min().unwrap_or(floor))
    }
}
