//! What the scout says of empty ends, against a look at every byte.

use std::path::PathBuf;

use akidb_host::sim::InlineSpawn;
use akidb_host::{RealSpawn, Region, Rng};

use super::*;
use crate::frame::{FrameType, encode_whole};
use crate::header::{Header, Origin};
use crate::lsn::Lsn;
use crate::search::search;

const SALT: u64 = 0x1234_5678_9abc_def1;

fn view(origin: Origin, bytes: Vec<u8>) -> View {
    let header =
        Header { log_id: [7; 16], seq: 1, salt: SALT, file_bytes: bytes.len() as u64, epoch: 1, origin };
    View { path: PathBuf::from("x.wal"), header, region: Region::from_vec(bytes), truncated: false }
}

/// A file of some pages; in a recycled one all that nobody wrote is of its earlier life.
fn random_view(rng: &mut Rng) -> View {
    let len = HEADER_PAGE_BYTES + 8 * usize::try_from(rng.below(300_000)).unwrap();
    let origin = if rng.below(2) == 0 { Origin::Spare } else { Origin::Recycled };
    let mut bytes = vec![if origin == Origin::Recycled { 0xee } else { 0 }; len];
    bytes[..HEADER_PAGE_BYTES].fill(1);
    for _ in 0..rng.below(3) {
        let frame = encode_whole(FrameType::Stamp, Lsn::new(1, 9), Lsn::new(1, 1 + rng.below(8)), b"", SALT);
        let at = HEADER_PAGE_BYTES + 8 * usize::try_from(rng.below(300_000)).unwrap();
        let Some(place) = bytes.get_mut(at..at + frame.len()) else { continue };
        place.copy_from_slice(&frame);
        if rng.below(3) == 0 {
            place[24 + usize::try_from(rng.below(8)).unwrap()] ^= 1 << rng.below(8);
        }
    }
    view(origin, bytes)
}

#[test]
fn a_search_up_to_the_empty_ends_finds_what_a_search_of_everything_finds() {
    let (mut found, mut skipped) = (0, 0);
    for seed in 0..60 {
        let mut rng = Rng::seeded(seed);
        let views: Vec<View> = (0..1 + rng.below(5)).map(|_| random_view(&mut rng)).collect();
        let at = HEADER_PAGE_BYTES as u64 + 8 * rng.below(1000);
        let whole: Vec<usize> = views.iter().map(|v| v.bytes().len()).collect();
        let expected = search(&views, at, &whole);
        let inline = InlineSpawn::default();
        let spawns: [&dyn Spawn; 2] = [&RealSpawn, &inline];
        for spawn in spawns {
            let ends = Scout::send(&views, spawn).ends();
            skipped += whole.iter().zip(&ends).map(|(whole, end)| whole - end).sum::<usize>();
            let got = search(&views, at, &ends);
            assert_eq!(format!("{got:?}"), format!("{expected:?}"), "seed {seed}, ends {ends:?} of {whole:?}");
        }
        found += expected.frames;
    }
    assert!(found > 50 && skipped > 100 << 20, "{found} frames, {skipped} bytes: the cases are too poor");
}

#[test]
fn a_file_that_is_empty_ends_at_its_start_and_one_written_to_its_end_at_its_end() {
    let len = 3 * PIECE_BYTES + 8;
    let empty = view(Origin::Spare, vec![0; len]);
    let mut bytes = vec![0; len];
    bytes[len - 1] = 1;
    let full = view(Origin::Spare, bytes);
    // Nothing of this salt, however much there is.
    let stale = view(Origin::Recycled, vec![0xee; len]);
    let ends = Scout::send(&[empty, full, stale], &InlineSpawn::default()).ends();
    assert_eq!(ends, [0, len, 0]);
    assert!(Scout::send(&[], &RealSpawn).ends().is_empty());
}

#[test]
fn a_scout_that_nobody_asks_is_called_back_and_lets_the_files_go() {
    let inline = InlineSpawn::default();
    let spawns: [&dyn Spawn; 2] = [&RealSpawn, &inline];
    for spawn in spawns {
        let views: Vec<View> = (0..4).map(|_| view(Origin::Spare, vec![0; 2 << 20])).collect();
        let scout = Scout::send(&views, spawn);
        assert!(scout.job.is_some(), "8 MiB are worth a thread");
        let ground = Arc::downgrade(&scout.ground);
        drop(scout);
        assert_eq!(ground.strong_count(), 0);
    }
}
