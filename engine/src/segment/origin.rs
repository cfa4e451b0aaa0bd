//! Where the bytes of an open segment come from: a file here, or an object of which parts are here.

use std::io;
use std::sync::Arc;

use akidb_host::{File, Region};

use super::cold_file::ColdFile;
use crate::error::Result;

/// A segment's file or object.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Local(Arc<dyn File>),
    Cold(Arc<ColdFile>),
}

impl Origin {
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Local(file) => file.len(),
            Self::Cold(cold) => Ok(cold.len()),
        }
    }

    /// Fills `buffer` from `offset` on, or fails with `UnexpectedEof`. An error of a backend is an engine's error inside
    /// that of the call.
    pub(super) fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Local(file) => file.read_exact_at(buffer, offset),
            Self::Cold(cold) => cold.read_exact_at(buffer, offset),
        }
    }

    /// All bytes; those of an object only where they were read before.
    pub(super) fn map(&self) -> io::Result<Region> {
        match self {
            Self::Local(file) => file.map(),
            Self::Cold(cold) => cold.here().map(),
        }
    }

    /// The object, if it is one.
    #[inline]
    pub(super) fn cold(&self) -> Option<&Arc<ColdFile>> {
        match self {
            Self::Local(_) => None,
            Self::Cold(cold) => Some(cold),
        }
    }

    /// Has a damaged block once more, if there is another place to have it from; whether it is right now.
    ///
    /// # Errors
    /// The backend's.
    pub(super) fn fetch_again(&self, block: u32, crc32: u32, covered: u64) -> Result<bool> {
        match self {
            Self::Local(_) => Ok(false),
            Self::Cold(cold) => cold.fetch_again(block, crc32, covered),
        }
    }
}
