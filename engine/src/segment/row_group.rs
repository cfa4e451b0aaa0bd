//! How many rows a row group has, and what rows take in memory while segments are written and merged.

use super::arrow_schema::group_bits;
use super::reader::Segment;

/// Row groups a segment of few columns has at most for the sake of long rows: each column of each costs some hundred bytes
/// in the tail.
const MOST_GROUPS: u64 = 4_096;
/// Few columns are so many; where there are more, row groups are fewer.
const FEW_COLUMNS: u64 = 8;
/// A row in memory while it is read, beside its values: its slot, its allocations.
const ROW_OVERHEAD_BYTES: u64 = 128;
/// What is needed for a segment that is written, however small it is: the sink's buffer, the state of the compressor, the
/// pages of each column under way.
const FILE_BYTES: u64 = 2 << 20;

/// Bytes in memory to write rows that take so many beside their vectors, one row group of them at a time: as columns, and
/// encoded. The rows themselves are not counted.
pub(crate) fn encoding_bytes(beside_vectors: u64) -> u64 {
    FILE_BYTES + 2 * beside_vectors
}

/// Rows of a row group where rows are short.
pub(crate) fn usual_group_rows(dim: u16) -> u64 {
    1 << group_bits(dim)
}

/// Rows of a row group, as a power of two, of a segment of `rows` rows in which no more than `fitting` rows took what a row
/// group may. Never so few that there are more than 4,096 row groups, or fewer where there are more than 8 columns.
pub(super) fn narrower(fitting: usize, rows: u64, columns: usize) -> u8 {
    let bits = fitting.max(1).ilog2();
    u8::try_from(bits).expect("an ilog2").max(fewest(rows, columns))
}

/// The least [`narrower`] answers.
pub(super) fn fewest(rows: u64, columns: usize) -> u8 {
    let most_groups = (MOST_GROUPS * FEW_COLUMNS / (columns as u64).max(FEW_COLUMNS)).max(1);
    let rows_of_group = rows.div_ceil(most_groups).max(1).next_power_of_two();
    u8::try_from(rows_of_group.ilog2()).expect("an ilog2")
}

impl Segment {
    /// Bytes in memory of a whole column, decoded, about.
    pub(super) fn column_bytes(&self, column: usize) -> u64 {
        let groups = self.table.metadata().row_groups().iter();
        let values = groups.filter_map(|group| group.columns().get(column)).map(|column| {
            let texts = column.unencoded_byte_array_data_bytes().unwrap_or(0);
            column.uncompressed_size().max(texts).cast_unsigned()
        });
        values.sum::<u64>() + 8 * u64::from(self.rows())
    }

    /// How many rows of a row group can be read at once, with their vectors, in so many bytes; at least one.
    pub(crate) fn rows_within(&self, group: u32, bytes: u64) -> usize {
        let row_group = self.table.metadata().row_group(group as usize);
        let rows = row_group.num_rows().cast_unsigned().max(1);
        let columns = row_group.columns().split_last().map_or(&[][..], |(_vector, others)| others);
        let values = columns.iter().map(|column| {
            // What a dictionary holds once is in memory for each row.
            let texts = column.unencoded_byte_array_data_bytes().unwrap_or(0);
            column.uncompressed_size().max(texts).cast_unsigned()
        });
        let row_bytes = values.sum::<u64>() / rows + 4 * u64::from(self.schema().dim) + ROW_OVERHEAD_BYTES;
        usize::try_from(bytes / row_bytes).unwrap_or(usize::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_rows_make_row_groups_of_few_but_not_too_many_of_them() {
        assert_eq!([1, 2, 3, 8, 9, 16_383].map(|fitting| narrower(fitting, 4_096, 5)), [0, 1, 1, 3, 3, 13]);
        assert_eq!([1, 2, 900].map(|fitting| narrower(fitting, 4_097, 8)), [1, 1, 9]);
        assert_eq!(narrower(1, 380_000, 8), 7);
        assert_eq!([9, 16, 1_000].map(|columns| fewest(4_096, columns)), [1, 1, 7]);
        assert_eq!([0, 1_000_000].map(|columns| fewest(0, columns)), [0, 0]);
    }
}
