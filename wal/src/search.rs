//! Evidence behind the intact part of a log: headers whose stamps say what was durable.

use crate::frame::{read_head, u64_at};
use crate::header::HEADER_PAGE_BYTES;
use crate::log_file::View;
use crate::lsn::Lsn;

/// An intact header whose stamp says what was durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Witness {
    pub(crate) view: usize,
    pub(crate) offset: u64,
    pub(crate) durable: Lsn,
}

/// What lies behind the intact part.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) witness: Option<Witness>,
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

/// Searches the rest of the first view from `at`, and all of the others, for intact headers.
pub(crate) fn search(views: &[View], at: u64) -> Rest {
    let mut rest = Rest::default();
    for (i, view) in views.iter().enumerate() {
        let bytes = view.bytes();
        let from = if i == 0 { usize::try_from(at).unwrap_or(usize::MAX) } else { HEADER_PAGE_BYTES };
        let Some(tail) = bytes.get(from..) else { continue };
        let used = tail.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        rest.bytes += used as u64;
        for offset in (from..from + used).step_by(8) {
            if bytes.len() - offset < 40 || u64_at(bytes, offset + 24) != view.header.salt {
                continue;
            }
            let Ok(head) = read_head(bytes, offset, view.header.salt) else { continue };
            rest.frames += 1;
            if rest.witness.is_none_or(|w| w.durable < head.durable) {
                rest.witness = Some(Witness { view: i, offset: offset as u64, durable: head.durable });
            }
        }
    }
    rest
}
