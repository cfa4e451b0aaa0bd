//! The rows that a damaged place touches, by their ids as far as those can be read.

use std::ops::Range;

use serde::Serialize;

use crate::deletion_vector::DeletionVector;
use crate::id::Id;
use crate::segment::Segment;
use crate::segment_meta::SegmentMeta;

/// So many ids and stretches of rows are named for one damaged place; the count tells of the others.
const NAMED: usize = 20;

/// Rows that a damage touches: they cannot be read, or not be found, until it is mended. Dead ones do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TouchedRows {
    /// Name of their collection.
    pub collection: String,
    /// How many.
    pub rows: u64,
    /// Their ids, the first 20.
    pub ids: Vec<Id>,
    /// Their numbers in the segment, first and last of each stretch, dead ones included; the first 20 stretches.
    pub stretches: Vec<[u32; 2]>,
    /// Stretches whose ids the damage touches as well; the first 20.
    pub unread: Vec<UnreadIds>,
}

/// Rows whose ids cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnreadIds {
    /// Number of the first and the last row.
    pub rows: [u32; 2],
    /// An id before and an id behind them that can be read, or the smallest and the largest of the segment. Rows lie in
    /// the order of their ids.
    pub between: [String; 2],
}

impl TouchedRows {
    /// Those of `ranges`, without the rows that are dead.
    pub(super) fn of(
        collection: &str,
        segment: &Segment,
        dead: Option<&DeletionVector>,
        ranges: &[Range<u32>],
    ) -> Self {
        let mut found = Self { collection: collection.to_owned(), ..Self::default() };
        for range in ranges {
            let dead_rows = dead.map_or(0, |dead| dead.count_in(range.clone()));
            found.rows += u64::from(range.end - range.start) - dead_rows;
            if found.stretches.len() < NAMED {
                found.stretches.push([range.start, range.end - 1]);
            }
            let mut unread: Option<Range<u32>> = None;
            segment.show_ids(range.clone(), &mut |row, id| match (id, &mut unread) {
                (Some(id), run) => {
                    if let Some(run) = run.take() {
                        found.note_unread(segment, run);
                    }
                    if found.ids.len() < NAMED && dead.is_none_or(|dead| !dead.contains(row)) {
                        found.ids.push(id);
                    }
                }
                (None, Some(run)) => run.end = row + 1,
                (None, run @ None) => *run = Some(row..row + 1),
            });
            if let Some(run) = unread {
                found.note_unread(segment, run);
            }
        }
        found
    }

    /// All live rows of a segment that cannot even be opened: what the manifest knows of it.
    pub(super) fn all(collection: &str, meta: &SegmentMeta, dead: Option<&DeletionVector>) -> Self {
        let dead_rows = dead.map_or(0, DeletionVector::len);
        let rows = [0, meta.rows.saturating_sub(1)];
        Self {
            collection: collection.to_owned(),
            rows: u64::from(meta.rows).saturating_sub(dead_rows),
            ids: Vec::new(),
            stretches: vec![rows],
            unread: vec![UnreadIds { rows, between: meta.ids.clone() }],
        }
    }

    fn note_unread(&mut self, segment: &Segment, run: Range<u32>) {
        if self.unread.len() < NAMED {
            let between = segment.ids_around(&run);
            self.unread.push(UnreadIds { rows: [run.start, run.end - 1], between });
        }
    }

    /// In words, for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        if self.rows == 0 {
            return format!("no live row of {} is touched", self.collection);
        }
        let mut text = format!("rows of {} it touches: {}", self.collection, self.rows);
        let ids: Vec<String> = self.ids.iter().map(Id::to_string).collect();
        if !ids.is_empty() {
            text += &format!("; their ids: {}", ids.join(", "));
            if self.rows > ids.len() as u64 {
                text += ", ...";
            }
        }
        for unread in &self.unread {
            let ([first, last], [low, high]) = (unread.rows, &unread.between);
            text +=
                &format!("; the ids of rows {first} to {last} cannot be read, they lie from {low} to {high}");
        }
        text
    }
}
