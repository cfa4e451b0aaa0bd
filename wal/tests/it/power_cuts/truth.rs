//! What a log has promised so far, and the check of what an open finds against it.

use std::sync::Arc;

use akidb_wal::{Appended, Config, Durability, Lsn, Recovered};

/// One record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) lsn: Lsn,
    pub(crate) frame_last: Lsn,
    pub(crate) bytes: Arc<[u8]>,
}

/// Along one line of crashes and opens of one directory.
#[derive(Clone, Default)]
pub(crate) struct Truth {
    /// Every record that may be found, in order; since the last open.
    pub(crate) rows: Vec<Row>,
    /// Records up to here were acknowledged, or shown by an open: they must be found.
    pub(crate) promised: Lsn,
    /// Records up to here survive the death of the process.
    cached: Lsn,
    /// The power failed since the last open.
    cache_lost: bool,
    /// Records below need not be there.
    pub(crate) floor: Lsn,
    /// The highest LSN ever given out, also to records that are lost.
    pub(crate) highest: Lsn,
    /// A batch whose append has not returned.
    pub(crate) in_flight: Option<Vec<Arc<[u8]>>>,
    /// A call failed since the last open: what a killed process leaves may be torn.
    pub(crate) faulty: bool,
    /// The last open found a torn tail.
    pub(crate) cut: bool,
    /// Intact frames behind it.
    pub(crate) torn_frames: u64,
}

impl Truth {
    pub(crate) fn last(&self) -> Lsn {
        self.rows.last().map_or(Lsn::ZERO, |row| row.lsn)
    }

    /// The append of the batch in flight has returned.
    pub(crate) fn appended(&mut self, at: Appended) {
        let batch = self.in_flight.take().expect("a batch was in flight");
        assert!(at.first > self.highest, "{} was given out twice: {} was before it", at.first, self.highest);
        assert_eq!(at.last, at.first.plus(batch.len() as u64 - 1));
        for (i, bytes) in batch.into_iter().enumerate() {
            self.rows.push(Row { lsn: at.first.plus(i as u64), frame_last: at.last, bytes });
        }
        self.highest = at.last;
    }

    pub(crate) fn promise(&mut self, synced: Lsn) {
        self.promised = self.promised.max(synced);
    }

    /// A crash: if the process died and not the machine, in memory durability everything appended is in the page
    /// cache. That promise lasts until the power fails.
    pub(crate) fn crashed(&mut self, killed: bool, config: &Config) {
        if !killed {
            (self.cached, self.cache_lost) = (Lsn::ZERO, true);
        } else if config.durability == Durability::Memory && !self.faulty && !self.cache_lost {
            self.cached = self.last();
        }
    }

    /// Checks what an open found, which is the truth from then on.
    pub(crate) fn found(&mut self, recovered: &Recovered) {
        let found: Vec<Row> = recovered
            .records
            .iter()
            .map(|record| record.expect("records that were recovered can be read"))
            .map(|r| Row { lsn: r.lsn, frame_last: r.frame_last, bytes: r.bytes.into() })
            .collect();
        let expected: Vec<Row> = self.rows.iter().filter(|row| row.lsn >= self.floor).cloned().collect();
        let must = self.promised.max(self.cached);
        let promised = expected.iter().filter(|row| row.lsn <= must).count();
        let lost: Vec<_> =
            expected[..promised].iter().filter(|row| !found.contains(row)).map(brief).collect();
        assert!(lost.is_empty(), "lost {lost:?}; promised up to {must}, {}", recovered_as(recovered));
        let known = found.len().min(expected.len());
        if let Some(at) = (0..known).find(|at| found[*at] != expected[*at]) {
            panic!("found {} where {} was appended", brief(&found[at]), brief(&expected[at]));
        }
        self.check_more(&found[known..]);
        let end = found.last();
        assert!(
            end.is_none_or(|row| row.lsn == row.frame_last),
            "half a batch: {}",
            brief(end.expect("some"))
        );
        assert_eq!(recovered.first, found.first().map_or(Lsn::ZERO, |row| row.lsn));
        assert!(end.is_none_or(|row| row.lsn == recovered.last), "{}", recovered_as(recovered));
        assert!(recovered.cut.as_ref().is_none_or(|cut| !cut.by_order));
        self.rows = found;
        self.in_flight = None;
        self.faulty = false;
        (self.cached, self.cache_lost) = (Lsn::ZERO, false);
        self.cut = recovered.cut.is_some();
        self.torn_frames = recovered.cut.as_ref().map_or(0, |cut| cut.frames);
        self.promised = self.promised.max(self.last());
        self.highest = self.highest.max(self.last());
    }

    /// Beyond all that was appended only the batch in flight may be found.
    fn check_more(&self, more: &[Row]) {
        let Some(first) = more.first() else { return };
        let ghosts: Vec<_> = more.iter().map(brief).collect();
        let batch = self.in_flight.as_ref().unwrap_or_else(|| panic!("ghosts: {ghosts:?}"));
        let bytes: Vec<_> = more.iter().map(|row| row.bytes.clone()).collect();
        assert_eq!((&bytes, first.lsn > self.highest), (batch, true), "ghosts: {ghosts:?}");
    }
}

fn brief(row: &Row) -> String {
    format!("{}..{} ({} bytes, {:?})", row.lsn, row.frame_last, row.bytes.len(), row.bytes.first())
}

fn recovered_as(recovered: &Recovered) -> String {
    let Recovered { first, last, proven, cut, .. } = recovered;
    format!("found {first}..{last}, proven {proven}, cut {cut:?}")
}
