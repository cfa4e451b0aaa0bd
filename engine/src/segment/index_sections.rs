//! The vector index of an open segment: its head and its codes, where they lie.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::format::{CRC_LEN, HEAD_LEN, Kind, check_head, decode_section};
use super::reader::Segment;
use crate::error::{Error, Result};
use crate::segment_meta::Place;

impl Segment {
    /// The whole head of the vector index, as it was given to the writer; `None` for a segment without one. The first
    /// call reads and checks all of it, later ones test its blocks' bits.
    ///
    /// # Errors
    /// `Corrupt` with file and offset, `Unavailable`: the segment can still be searched exactly.
    pub(crate) fn index_head(&self) -> Result<Option<&[u8]>> {
        let (Some(head), Some(codes)) = (self.meta().head, self.meta().codes) else { return Ok(None) };
        let section = self.shared.get(head.offset..head.offset + head.len)?;
        // Relaxed: whoever does not see it yet checks once more.
        if !self.index_checked.load(Ordering::Relaxed) {
            decode_section(section, Kind::Head, self.name).map_err(|what| self.bad_index(head, what))?;
            // Of an object that head would be a request of its own before any list is known; each block of the codes is
            // checked when it is read, as everywhere.
            if !self.is_cold() {
                let head_of_codes = self.shared.get(codes.offset..codes.offset + HEAD_LEN as u64)?;
                check_head(head_of_codes, Kind::Codes, self.name, codes.len)
                    .map_err(|what| self.bad_index(codes, what))?;
            }
            self.index_checked.store(true, Ordering::Relaxed);
        }
        Ok(Some(&section[HEAD_LEN..section.len() - CRC_LEN]))
    }

    /// The bytes of `range`, counted from the first code. Each 16 KiB block is checked at its first touch; where all
    /// of `range` was, a call costs a few nanoseconds and allocates nothing.
    ///
    /// # Errors
    /// As [`Segment::index_head`]; `Corrupt` also for a range that does not lie in the codes.
    #[inline]
    pub(crate) fn codes(&self, range: Range<u64>) -> Result<&[u8]> {
        if range.start > range.end || range.end > self.codes_len() {
            return Err(self.outside_codes(&range));
        }
        self.shared.get(self.codes.start + range.start..self.codes.start + range.end)
    }

    /// Bytes of all codes; 0 without an index.
    #[inline]
    pub(crate) fn codes_len(&self) -> u64 {
        self.codes.end - self.codes.start
    }

    #[cold]
    fn outside_codes(&self, range: &Range<u64>) -> Error {
        let (Range { start, end }, len) = (range, self.codes_len());
        let message = format!("the vector index names bytes {start} to {end} of {len} bytes of codes");
        Error::corrupt("AKI-0508", self.path(), self.codes.start, message)
    }

    fn bad_index(&self, place: Place, what: &str) -> Error {
        let message = format!("a section of the vector index {what}, and its blocks match their checksums");
        Error::corrupt("AKI-0508", self.path(), place.offset, message)
    }
}
