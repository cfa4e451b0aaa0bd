//! Codes that prove which rows of a filter are not among the best: looked up, and made within the bound of the cache.

use std::sync::Arc;

use super::{ENTRY_BYTES, FilterCache, Kept, Key, Matches, Thing, What, key};
use crate::filter::Bound;
use crate::index::ByteCodes;
use crate::schema::Schema;
use crate::segment::Segment;

/// One in so many of the bound is the most that such codes of one filter and segment take.
const SHARE: u64 = 4;
/// Of a row whose codes are made: the place of its vector.
const ROW_BYTES: u64 = 16;

impl FilterCache {
    /// Codes of a byte a number of the rows that `bound` takes of `segment`, if they are kept.
    pub(crate) fn byte_codes(
        &self,
        segment: &Arc<Segment>,
        schema: &Schema,
        bound: &Bound,
    ) -> Option<Arc<ByteCodes>> {
        match self.kept.get(&byte_codes_key(segment, schema, bound)) {
            Some(Kept { thing: Thing::ByteCodes(codes), .. }) => Some(codes),
            _ => None,
        }
    }

    /// Makes and keeps such codes of the rows in `matches`, which [`FilterCache::matching`] gave for the same. The memory is taken
    /// before. `None` where there is none, or a vector cannot be read: a search that needs it will say so.
    pub(crate) fn make_byte_codes(
        &self,
        segment: &Arc<Segment>,
        schema: &Schema,
        bound: &Bound,
        matches: &Matches,
    ) -> Option<Arc<ByteCodes>> {
        let bytes = ByteCodes::bytes_for(matches.count, schema.dim.into());
        if bytes > self.max_bytes / SHARE {
            return None;
        }
        let key = byte_codes_key(segment, schema, bound);
        let charge = self.room(ENTRY_BYTES + bound.key().len() as u64 + bytes)?;
        let held = segment.reading(ROW_BYTES * u64::from(matches.count));
        let mut rows = Vec::with_capacity(matches.count as usize);
        rows.extend(matches.rows.iter());
        let mut vectors = Vec::with_capacity(rows.len());
        for row in &rows {
            vectors.push(segment.vector(*row).ok()?);
        }
        let codes = Arc::new(ByteCodes::new(schema.metric, rows, &vectors));
        debug_assert_eq!(codes.bytes(), bytes, "what was taken is what they need");
        drop(held);
        let thing = Thing::ByteCodes(Arc::clone(&codes));
        self.kept.insert(key, Kept { thing, _charge: Arc::new(charge), _thinned: None });
        Some(codes)
    }
}

fn byte_codes_key(segment: &Arc<Segment>, schema: &Schema, bound: &Bound) -> Key {
    key(segment, What::ByteCodes(schema.version, Arc::clone(bound.key())))
}
