//! Names of segment files: who wrote them and in which order.

use std::fmt;
use std::str::FromStr;

/// The name of a segment, the same at rest and on every backend: `{epoch:08}-{seq:08}-{writer:08x}.parquet`.
/// `writer` is drawn anew at each open for writing and `seq` counts from 1 in each epoch, so no two segments of
/// any copy of a database share a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SegmentName {
    /// Epoch of the open that wrote it.
    pub(crate) epoch: u32,
    /// Counter inside that epoch.
    pub(crate) seq: u64,
    /// Random id of that open.
    pub(crate) writer: u32,
}

/// What every segment file name ends in.
const SUFFIX: &str = ".parquet";

impl SegmentName {
    /// The name without its ending, as the footer holds it.
    pub(crate) fn stem(self) -> String {
        format!("{:08}-{:08}-{:08x}", self.epoch, self.seq, self.writer)
    }

    /// The name with this stem; `None` if it is not one as we write it.
    pub(crate) fn from_stem(stem: &str) -> Option<Self> {
        let mut parts = stem.split('-');
        let (epoch, seq, writer) = (parts.next()?, parts.next()?, parts.next()?);
        let name = Self {
            epoch: epoch.parse().ok()?,
            seq: seq.parse().ok()?,
            writer: u32::from_str_radix(writer, 16).ok()?,
        };
        (name.stem() == stem).then_some(name)
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{SUFFIX}", self.stem())
    }
}

/// The text was not a segment's file name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a segment name: expected \"<epoch>-<seq>-<writer>.parquet\"")]
pub(crate) struct ParseSegmentNameError;

impl FromStr for SegmentName {
    type Err = ParseSegmentNameError;

    fn from_str(text: &str) -> Result<Self, ParseSegmentNameError> {
        let stem = text.strip_suffix(SUFFIX).ok_or(ParseSegmentNameError)?;
        Self::from_stem(stem).ok_or(ParseSegmentNameError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_from_its_text_and_nothing_else_is_a_name() {
        let name = SegmentName { epoch: 3, seq: 17, writer: 0xab_cdef };
        assert_eq!(name.to_string(), "00000003-00000017-00abcdef.parquet");
        assert_eq!("00000003-00000017-00abcdef.parquet".parse(), Ok(name));
        let wide = SegmentName { epoch: 8_388_607, seq: 1_234_567_890, writer: u32::MAX };
        assert_eq!(wide.to_string().parse(), Ok(wide));
        for text in [
            "",
            ".parquet",
            "3-17-abcdef.parquet",
            "00000003-00000017-00ABCDEF.parquet",
            "00000003-00000017.parquet",
            "00000003-00000017-00abcdef.parquet.tmp",
            "00000003-00000017-00abcdef-1.parquet",
        ] {
            assert_eq!(text.parse::<SegmentName>(), Err(ParseSegmentNameError), "{text}");
        }
    }
}
