//! A simulated file's bytes, twice: as the page cache has them, and as the disk does.

use std::io;
use std::sync::Arc;

use super::space::Space;
use crate::rng::Rng;

pub(super) const PAGE_BYTES: usize = 4096;
/// What a power cut writes whole or not at all.
const SECTOR_BYTES: usize = 512;

type Page = Arc<[u8; PAGE_BYTES]>;

/// A page of the cache. `None` is a hole: no block was ever given to it.
#[derive(Clone, Default)]
struct Cached {
    page: Option<Page>,
    /// A sync has to write it. A page whose write failed is clean all the same.
    dirty: bool,
}

/// Both images of a file.
#[derive(Clone, Default)]
pub(super) struct Content {
    cached: Vec<Cached>,
    len: u64,
    disk: Vec<Option<Page>>,
    disk_len: u64,
    /// How often a sync has failed.
    pub(super) errors: u64,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Pages with a block of their own.
    pub(super) fn pages(&self) -> u64 {
        self.cached.iter().filter(|c| c.page.is_some()).count() as u64
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let left = self.len.saturating_sub(offset);
        let len = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
        for (index, within, range) in pieces(offset, len) {
            let page = self.cached.get(index).and_then(|c| c.page.as_ref());
            match page {
                Some(page) => buf[range.clone()].copy_from_slice(&page[within..within + range.len()]),
                None => buf[range].fill(0),
            }
        }
        len
    }

    /// The first `len` bytes; zeros behind the end.
    pub(super) fn bytes(&self, len: u64) -> Vec<u8> {
        let mut out = vec![0; index(len)];
        self.read(&mut out, 0);
        out
    }

    /// Up to the page for which no block is left.
    pub(super) fn write(&mut self, bytes: &[u8], offset: u64, space: &mut Space) -> io::Result<()> {
        for (index, within, range) in pieces(offset, bytes.len()) {
            let end = offset + range.end as u64;
            let cached = self.page_at(index, space)?;
            let page = cached.page.get_or_insert_with(zero_page);
            Arc::make_mut(page)[within..within + range.len()].copy_from_slice(&bytes[range]);
            self.len = self.len.max(end);
        }
        Ok(())
    }

    pub(super) fn zero_fill(&mut self, from: u64, to: u64, space: &mut Space) -> io::Result<()> {
        let zeros = zero_page();
        for (index, within, range) in pieces(from, index(to.saturating_sub(from))) {
            let end = from + range.end as u64;
            let cached = self.page_at(index, space)?;
            if range.len() == PAGE_BYTES {
                cached.page = Some(zeros.clone());
            } else {
                let page = cached.page.get_or_insert_with(zero_page);
                Arc::make_mut(page)[within..within + range.len()].fill(0);
            }
            self.len = self.len.max(end);
        }
        Ok(())
    }

    /// A store through a map.
    ///
    /// # Panics
    /// Into a hole: on a full disk that is a SIGBUS.
    pub(super) fn store(&mut self, bytes: &[u8], offset: u64) {
        for (index, within, range) in pieces(offset, bytes.len()) {
            let cached = self.cached.get_mut(index).expect("a store past the end of the file: SIGBUS");
            let page = cached.page.as_mut().expect("a store into a hole: SIGBUS when the disk is full");
            Arc::make_mut(page)[within..within + range.len()].copy_from_slice(&bytes[range]);
            cached.dirty = true;
        }
    }

    pub(super) fn set_len(&mut self, len: u64, space: &mut Space) {
        let pages = page_count(len);
        for gone in self.cached.drain(pages.min(self.cached.len())..) {
            space.give_back(u64::from(gone.page.is_some()));
        }
        let within = index(len % PAGE_BYTES as u64);
        if let Some(page) = self.cached.get_mut(pages.wrapping_sub(1)).filter(|_| within > 0)
            && let Some(bytes) = &mut page.page
        {
            Arc::make_mut(bytes)[within..].fill(0);
            page.dirty = true;
        }
        self.len = len;
    }

    /// The page, dirty, with a block reserved for it.
    fn page_at(&mut self, index: usize, space: &mut Space) -> io::Result<&mut Cached> {
        if index >= self.cached.len() {
            self.cached.resize_with(index + 1, Cached::default);
        }
        let cached = &mut self.cached[index];
        if cached.page.is_none() {
            space.take(1)?;
        }
        cached.dirty = true;
        Ok(cached)
    }

    pub(super) fn sync(&mut self) {
        self.disk.resize(page_count(self.len), None);
        for (cached, disk) in self.cached.iter_mut().zip(&mut self.disk) {
            if std::mem::take(&mut cached.dirty) {
                disk.clone_from(&cached.page);
            }
        }
        self.disk_len = self.len;
    }

    /// A sync that fails: some of the pages reached the disk, and all of them count as clean from now on.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        let percent = percent(rng);
        self.disk.resize(page_count(self.len).max(self.disk.len()), None);
        for (cached, disk) in self.cached.iter_mut().zip(&mut self.disk) {
            if std::mem::take(&mut cached.dirty) && rng.below(100) < percent {
                disk.clone_from(&cached.page);
            }
        }
        self.errors += 1;
    }

    /// The kernel writes a dirty page back when it likes: the one at `offset` or any other, some sectors of it.
    pub(super) fn write_back_early(&mut self, offset: u64, rng: &mut Rng) {
        let at = if rng.below(2) == 0 {
            index(offset / PAGE_BYTES as u64)
        } else {
            index(rng.below(self.cached.len() as u64))
        };
        let Some(Cached { page: Some(page), dirty: true }) = self.cached.get(at) else { return };
        if self.disk.len() <= at {
            self.disk.resize(at + 1, None);
        }
        let percent = percent(rng);
        self.disk[at] = Some(mixed(self.disk[at].as_ref(), page, percent, rng));
    }

    /// The kernel forgets clean pages, those whose write had failed among them.
    pub(super) fn forget_clean(&mut self, mut which: impl FnMut() -> bool) {
        for (at, cached) in self.cached.iter_mut().enumerate() {
            let disk = self.disk.get(at).cloned().flatten();
            if cached.page.is_some() && !cached.dirty && !same(cached.page.as_ref(), disk.as_ref()) && which()
            {
                cached.page = Some(disk.unwrap_or_else(zero_page));
            }
        }
    }

    /// What a power cut leaves: of each dirty sector the new bytes, with this probability, or the old.
    pub(super) fn after_power_cut(&self, percent: u64, rng: &mut Rng) -> Self {
        let len = if rng.below(100) < percent { self.len } else { self.disk_len };
        let disk: Vec<_> = (0..page_count(len))
            .map(|at| {
                let old = self.disk.get(at).and_then(Option::as_ref);
                match self.cached.get(at) {
                    Some(Cached { page: Some(page), dirty: true }) if !same(old, Some(page)) => {
                        Some(mixed(old, page, percent, rng))
                    }
                    _ => old.cloned(),
                }
            })
            .collect();
        let cached = disk.iter().map(|page| Cached { page: page.clone(), dirty: false }).collect();
        Self { cached, len, disk, disk_len: len, errors: 0 }
    }

    /// Changes the bytes in both images, as rot does.
    pub(super) fn rot(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes(self.len);
        change(&mut bytes);
        let mut unlimited = Space::default();
        self.set_len(0, &mut unlimited);
        self.write(&bytes, 0, &mut unlimited).expect("there is room without a limit");
        self.sync();
    }
}

/// A probability for one crash: often nothing or everything.
pub(super) fn percent(rng: &mut Rng) -> u64 {
    match rng.below(6) {
        0 => 0,
        1 => 100,
        _ => rng.below(101),
    }
}

fn mixed(old: Option<&Page>, new: &Page, percent: u64, rng: &mut Rng) -> Page {
    if percent >= 100 {
        return new.clone();
    }
    let mut page = old.map_or_else(zero_page, Clone::clone);
    for at in (0..PAGE_BYTES).step_by(SECTOR_BYTES) {
        let sector = at..at + SECTOR_BYTES;
        if rng.below(100) < percent && page[sector.clone()] != new[sector.clone()] {
            Arc::make_mut(&mut page)[sector.clone()].copy_from_slice(&new[sector]);
        }
    }
    page
}

fn same(a: Option<&Page>, b: Option<&Page>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn zero_page() -> Page {
    static ZEROS: std::sync::LazyLock<Page> = std::sync::LazyLock::new(|| Arc::new([0; PAGE_BYTES]));
    ZEROS.clone()
}

/// (page, offset within it, range of the buffer) of so many bytes at `offset`.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = index(offset) + done;
        let (page, within) = (at / PAGE_BYTES, at % PAGE_BYTES);
        let part = (PAGE_BYTES - within).min(len - done);
        done += part;
        (part > 0).then(|| (page, within, done - part..done))
    })
}

fn page_count(len: u64) -> usize {
    index(len.div_ceil(PAGE_BYTES as u64))
}

fn index(n: u64) -> usize {
    usize::try_from(n).expect("a simulated file fits in memory")
}
