//! Free space of a simulated disk, in pages.

use std::io;

use super::content::PAGE_BYTES;
use crate::sim::hook::ENOSPC;

const NO_LIMIT: u64 = 1 << 28;

#[derive(Clone, Debug)]
pub(super) struct Space {
    used: u64,
    limit: u64,
}

impl Default for Space {
    fn default() -> Self {
        Self { used: 0, limit: NO_LIMIT }
    }
}

impl Space {
    pub(super) fn take(&mut self, pages: u64) -> io::Result<()> {
        if self.used + pages > self.limit {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.used += pages;
        Ok(())
    }

    pub(super) fn give_back(&mut self, pages: u64) {
        self.used = self.used.saturating_sub(pages);
    }

    /// Counts anew what is in use.
    pub(super) fn set_used(&mut self, pages: u64) {
        self.used = pages;
    }

    pub(super) fn set_free_bytes(&mut self, free: Option<u64>) {
        self.limit = free.map_or(NO_LIMIT, |free| self.used + free / PAGE_BYTES as u64);
    }

    pub(super) fn total_bytes(&self) -> u64 {
        self.limit * PAGE_BYTES as u64
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.limit.saturating_sub(self.used) * PAGE_BYTES as u64
    }
}
