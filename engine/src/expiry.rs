//! Rows that expire: whether a view still shows a row at its moment, in memory and in segments.
//!
//! A row whose time has come is hidden like a dead one, from that moment on, until it is deleted (`driver/purge.rs`).
//! Where the statistics of a segment say that none of its rows can have expired, nothing is read and nothing asked.

use std::sync::Arc;

use crate::catalog::{Catalog, CollectionState, LiveSegment};
use crate::error::Result;
use crate::filter::{Coded, Source};
use crate::filter_cache::{FilterCache, Matches};
use crate::lsn::Lsn;
use crate::row::Row;
use crate::segment::{Round, Segment};
use crate::version::View;

/// Rows looked at to tell how many have expired, about.
const SAMPLE_ROWS: u32 = 1_024;
/// 2^32 times the golden ratio: its multiples lie evenly, and beat with no rhythm of the rows.
const GOLDEN: u32 = 0x9E37_79B9;

/// Which rows have expired at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    /// Position of the field that says when; `None` where rows never expire.
    field: Option<usize>,
    now_micros: i64,
}

impl Expiry {
    /// At the moment of a view.
    pub(crate) fn of(view: &View<Catalog>, state: &CollectionState) -> Self {
        Self::at(view.now_micros(), state)
    }

    pub(crate) fn at(now_micros: i64, state: &CollectionState) -> Self {
        Self { field: state.schema.expiry(), now_micros }
    }

    /// Whether a row has expired.
    #[inline]
    pub(crate) fn hides(&self, row: &Row) -> bool {
        self.field.is_some_and(|field| row.expires_at(field).is_some_and(|at| at <= self.now_micros))
    }

    /// The field, if a row of the segment may have expired.
    fn may_hide(&self, state: &CollectionState, segment: &Segment) -> Option<usize> {
        let field = self.field?;
        segment.earliest(&state.schema, field).is_some_and(|at| at <= self.now_micros).then_some(field)
    }
}

/// The rows of a segment that a view shows.
#[derive(Debug)]
pub(crate) struct Alive<'a> {
    live: &'a LiveSegment,
    lsn: Lsn,
    /// Whether any row may be dead or expired.
    any_hidden: bool,
    /// When each row expires, where one may have.
    times: Option<Arc<Coded>>,
    now_micros: i64,
}

impl<'a> Alive<'a> {
    /// Reads the times of a segment where a row may have expired.
    ///
    /// # Errors
    /// `Corrupt` or `Unavailable` when they cannot be read.
    pub(crate) fn of(view: &View<Catalog>, state: &CollectionState, live: &'a LiveSegment) -> Result<Self> {
        let (filters, segment) = (&view.content().filters, &live.segment);
        let field = Expiry::of(view, state).may_hide(state, segment);
        let times =
            field.map(|field| filters.column(segment, &state.schema, Source::Field(field))).transpose()?;
        Ok(Self {
            live,
            lsn: view.lsn(),
            any_hidden: times.is_some() || live.has_dead_rows(),
            times,
            now_micros: view.now_micros(),
        })
    }

    /// The same of every segment; of those on a backend the times are fetched together.
    ///
    /// # Errors
    /// As [`Alive::of`].
    pub(crate) fn of_all(view: &View<Catalog>, state: &'a CollectionState) -> Result<Vec<Self>> {
        let expiry = Expiry::of(view, state);
        if expiry.field.is_some() {
            let mut round = Round::default();
            for live in state.segments.iter().filter(|live| live.segment.is_cold()) {
                if let Some(field) = expiry.may_hide(state, &live.segment) {
                    round.filter_columns(&live.segment, &state.schema, &[Source::Field(field)]);
                }
            }
            round.fetch()?;
        }
        state.segments.iter().map(|live| Self::of(view, state, live)).collect()
    }

    pub(crate) fn segment(&self) -> &'a Segment {
        &self.live.segment
    }

    /// How many rows no deletion vector names.
    pub(crate) fn living(&self) -> u32 {
        let dead = u32::try_from(self.live.deletion_vector.len()).unwrap_or(u32::MAX);
        self.live.segment.rows().saturating_sub(dead)
    }

    /// Whether any row may be dead or expired.
    pub(crate) fn hides_any(&self) -> bool {
        self.any_hidden
    }

    /// How many of the rows a filter takes are not known to be dead, about: rows hidden in memory count.
    pub(crate) fn matching(&self, matches: &Matches) -> u32 {
        matches.alive(&self.live.deletion_vector)
    }

    /// Whether the view shows `row`.
    #[inline]
    pub(crate) fn shows(&self, row: u32) -> bool {
        !self.any_hidden || self.live.lives_at(row, self.lsn) && !self.has_expired(row)
    }

    fn has_expired(&self, row: u32) -> bool {
        let time = self.times.as_ref().and_then(|times| times.time(row));
        time.is_some_and(|at| at <= self.now_micros)
    }

    /// The share of the living rows that have not expired, of those a filter takes if there is one, as about a thousand of
    /// them show; never 0.
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    #[expect(clippy::cast_possible_truncation, reason = "a place among rows, which are u32")]
    pub(crate) fn share_shown(&self, matches: Option<&Matches>) -> f32 {
        if self.times.is_none() {
            return 1.0;
        }
        let mut of = (0u32, 0u32);
        let mut look = |row: u32| {
            if self.live.lives_at(row, self.lsn) {
                of.0 += u32::from(!self.has_expired(row));
                of.1 += 1;
            }
        };
        match matches {
            None => {
                let rows = u64::from(self.live.segment.rows());
                let place = |n: u32| (u64::from(n.wrapping_mul(GOLDEN)) * rows) >> 32;
                (0..SAMPLE_ROWS).for_each(|n| look(place(n) as u32));
            }
            Some(matches) => {
                let most = u32::MAX / (matches.count / SAMPLE_ROWS).max(1);
                matches.rows.iter().filter(|row| row.wrapping_mul(GOLDEN) <= most).for_each(&mut look);
            }
        }
        of.0.max(1) as f32 / of.1.max(1) as f32
    }

    /// Rows it shows.
    pub(crate) fn count(&self) -> u64 {
        match self.times {
            None => self.live.live_rows(self.lsn),
            Some(_) => (0..self.live.segment.rows()).filter(|row| self.shows(*row)).count() as u64,
        }
    }

    /// Rows it shows of those that a filter takes.
    pub(crate) fn count_of(&self, matches: &Matches) -> u64 {
        match self.times {
            None => self.live.live_matches(matches, self.lsn),
            Some(_) => matches.rows.iter().filter(|row| self.shows(*row)).count() as u64,
        }
    }

    /// Rows that live and have expired, ascending.
    pub(crate) fn expired(&self) -> impl Iterator<Item = u32> + '_ {
        let rows = if self.times.is_some() { self.live.segment.rows() } else { 0 };
        (0..rows).filter(|row| self.has_expired(*row) && self.live.lives_at(*row, self.lsn))
    }
}

/// Whether rows of the segment expired before that time, and all of those are in its deletion vector: what is rewritten now
/// is without them.
pub(crate) fn is_ripe(
    filters: &FilterCache,
    state: &CollectionState,
    live: &LiveSegment,
    before_micros: i64,
) -> bool {
    if live.deletion_vector.is_empty() || !is_overdue(state, &live.segment, before_micros) {
        return false;
    }
    let Some(field) = state.schema.expiry() else { return false };
    let Ok(times) = filters.column(&live.segment, &state.schema, Source::Field(field)) else {
        // To be told by whoever reads the rest of it.
        return true;
    };
    let overdue =
        (0..live.segment.rows()).filter(|row| times.time(*row).is_some_and(|at| at <= before_micros));
    let (mut any, mut dead) = (false, true);
    for row in overdue {
        any = true;
        dead &= live.deletion_vector.contains(row);
    }
    any && dead
}

/// Whether a row of the segment expired before that time.
pub(crate) fn is_overdue(state: &CollectionState, segment: &Segment, before_micros: i64) -> bool {
    let earliest = state.schema.expiry().and_then(|field| segment.earliest(&state.schema, field));
    // What has no statistics says nothing, here.
    earliest.is_some_and(|at| at != i64::MIN && at <= before_micros)
}
