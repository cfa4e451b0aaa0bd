//! Thinned lists hold the wanted slots as the index has them, and nothing else.

use akidb_host::Rng;

use super::{clustered, slices};
use crate::distance::codes::{BLOCK_ROWS, FACTORS_LEN, POSITION_LEN, factors_of};
use crate::index::block::block_len;
use crate::index::build::build_from;
use crate::index::lists::{List, Lists};
use crate::index::rotation::Rotation;
use crate::index::scan::NO_ROW;
use crate::index::thinned::Thinned;
use crate::schema::Metric;

/// Row number, code and factors of every slot of a list, empty ones too.
fn slots(index: &Lists, list: &List, bytes: &[u8]) -> Vec<(u32, Vec<u8>, (i16, i16))> {
    let len = block_len(index.nibbles());
    let numbers = index.row_numbers(list, bytes).unwrap().as_chunks::<4>().0;
    (0..list.blocks as usize * BLOCK_ROWS)
        .map(|slot| {
            let (codes, factors) =
                bytes[slot / BLOCK_ROWS * len..][..len].split_at(index.nibbles() * POSITION_LEN);
            let row = slot % BLOCK_ROWS;
            let nibble =
                |position: &[u8; POSITION_LEN]| position[row % POSITION_LEN] >> (row / POSITION_LEN * 4) & 15;
            let code = codes.as_chunks().0.iter().map(nibble).collect();
            assert_eq!(factors.len(), FACTORS_LEN);
            (u32::from_le_bytes(numbers[slot]), code, factors_of(factors, row))
        })
        .collect()
}

#[test]
fn thinned_lists_hold_what_is_wanted_as_it_was() {
    let seed = 0x7411;
    println!("seed {seed:#x}");
    let mut random = Rng::seeded(seed);
    for dim in [64, 200] {
        let rows = clustered(1_500, dim, 9, 5);
        let rotation = Rotation::new(dim, 3);
        let built = build_from(500, Metric::L2, &rotation, &slices(&rows), 1, &|| true).unwrap();
        let index = &built.lists;
        let bytes_of = |list: &List| {
            let first = usize::try_from(list.offset).unwrap();
            Ok::<_, ()>(&built.codes[first..first + index.list_len(list)])
        };
        for percent in [0, 3, 50, 97, 100] {
            let takes: Vec<bool> = (0..rows.len()).map(|_| random.below(100) < percent).collect();
            let is_wanted = |row: u32| row != NO_ROW && takes[row as usize];
            let wanted = |n: usize, block: usize| {
                let list = &index.lists[n];
                let slots = slots(index, list, bytes_of(list).unwrap());
                let block = slots[block * BLOCK_ROWS..][..BLOCK_ROWS].iter().enumerate();
                block.fold(0, |mask, (at, (row, ..))| mask | u32::from(is_wanted(*row)) << at)
            };
            let thinned = Thinned::new(index, wanted, bytes_of).unwrap();
            assert_eq!(thinned.bytes(), Thinned::bytes_for(index, wanted), "as many bytes as it says before");
            for (n, list) in index.lists.iter().enumerate() {
                let mut expected = slots(index, list, bytes_of(list).unwrap());
                expected.retain(|(row, ..)| is_wanted(*row));
                let (kept, bytes) = thinned.list(index, n);
                let mut found = slots(index, kept, bytes);
                for (row, _, factors) in found.split_off(expected.len()) {
                    assert_eq!((row, factors), (NO_ROW, (i16::MAX, 0)), "empty slots are as any");
                }
                assert_eq!(
                    (found.len(), kept.blocks as usize),
                    (kept.len() as usize, found.len().div_ceil(32))
                );
                assert_eq!(found, expected, "{percent} in a hundred of list {n}");
            }
        }
    }
}
