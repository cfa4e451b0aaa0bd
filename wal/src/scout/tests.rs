//! What the scout says of empty ends, against a look at every byte.

use std::path::PathBuf;

use akidb_host::sim::InlineSpawn;
use akidb_host::{RealSpawn, Region, Rng};

use super::*;
use crate::frame::{FrameType, encode_whole};
use crate::header::{Header, Origin};
use crate::loaded::Loaded;
use crate::lsn::Lsn;
use crate::search::search;

const SALT: u64 = 0x1234_5678_9abc_def1;

fn view(origin: Origin, bytes: Vec<u8>) -> View {
    let header =
        Header { log_id: [7; 16], seq: 1, salt: SALT, file_bytes: bytes.len() as u64, epoch: 1, origin };
    View {
        path: PathBuf::from("x.wal"),
        header,
        region: Region::from_vec(bytes),
        loaded: Loaded::default(),
        truncated: false,
    }
}

/// A file of some pages; in a recycled one all that nobody wrote is of its earlier life.
fn random_view(rng: &mut Rng) -> View {
    let len = HEADER_PAGE_BYTES + 8 * usize::try_from(rng.below(300_000)).unwrap();
    let origin = if rng.below(2) == 0 { Origin::Spare } else { Origin::Recycled };
    let mut bytes = vec![if origin == Origin::Recycled { 0xee } else { 0 }; len];
    bytes[..HEADER_PAGE_BYTES].fill(1);
    for _ in 0..rng.below(3) {
        let frame = encode_whole(FrameType::Stamp, Lsn::new(1, 9), Lsn::new(1, 1 + rng.below(8)), b"", SALT);
        let reach = [10, 300_000][usize::try_from(rng.below(2)).unwrap()];
        let at = HEADER_PAGE_BYTES + 8 * usize::try_from(rng.below(reach)).unwrap();
        let Some(place) = bytes.get_mut(at..at + frame.len()) else { continue };
        place.copy_from_slice(&frame);
        if rng.below(3) == 0 {
            place[24 + usize::try_from(rng.below(8)).unwrap()] ^= 1 << rng.below(8);
        }
    }
    view(origin, bytes)
}

#[test]
fn a_search_with_a_scout_finds_what_a_search_of_every_byte_finds() {
    let (mut frames, mut skipped, mut unused) = (0, 0, 0);
    for seed in 0..60 {
        let mut rng = Rng::seeded(seed);
        let views: Vec<View> = (0..1 + rng.below(5)).map(|_| random_view(&mut rng)).collect();
        let at = HEADER_PAGE_BYTES as u64 + 8 * rng.below(1000);
        let whole = |v: &View| Found { empty_from: v.bytes().len(), unused: false };
        let whole: Vec<Found> = views.iter().map(whole).collect();
        let expected = search(&views, at, &whole).unwrap();
        let inline = InlineSpawn::default();
        let spawns: [&dyn Spawn; 2] = [&RealSpawn, &inline];
        for spawn in spawns {
            let mut scout = Scout::send(&views, spawn);
            let ends = scout.ends().unwrap();
            skipped +=
                whole.iter().zip(ends).map(|(whole, end)| whole.empty_from - end.empty_from).sum::<usize>();
            let without_spares: Vec<Found> = ends.iter().map(|end| Found { unused: false, ..*end }).collect();
            let got = search(&views, at, &without_spares).unwrap();
            assert_eq!(
                format!("{got:?}"),
                format!("{expected:?}"),
                "seed {seed}, ends {ends:?} of {whole:?}"
            );
            let got = search(&views, at, ends).unwrap();
            if got.bytes == 0 && expected.bytes > 0 {
                // What is there lies in spares, and nothing lies anywhere else.
                let used = views.iter().zip(ends).enumerate().filter(|(i, (_, end))| *i == 0 || !end.unused);
                let used: Vec<View> = used.map(|(_, (view, _))| view.clone()).collect();
                assert_eq!(search(&used, at, &vec![whole[0]; used.len()]).unwrap().bytes, 0, "seed {seed}");
                unused += 1;
            } else {
                assert_eq!(format!("{got:?}"), format!("{expected:?}"), "seed {seed}");
            }
        }
        frames += expected.frames;
    }
    assert!(frames > 50 && skipped > 50 << 20 && unused > 0, "{frames}, {skipped}, {unused}: too poor");
}

#[test]
fn a_file_ends_behind_its_last_piece_that_is_not_empty_and_a_spare_is_one() {
    let page = HEADER_PAGE_BYTES;
    let len = 3 * PIECE_BYTES + 8;
    let spare = view(Origin::Spare, vec![0; len]);
    let mut bytes = vec![0; len];
    (bytes[page], bytes[len - 1]) = (1, 1);
    let full = view(Origin::Spare, bytes.clone());
    (bytes[len - 1], bytes[PIECE_BYTES]) = (0, 1);
    let half = view(Origin::Spare, bytes);
    // Nothing of this salt, however much there is.
    let stale = view(Origin::Recycled, vec![0xee; len]);
    let mut scout = Scout::send(&[full, half, stale, spare], &InlineSpawn::default());
    let end = |empty_from, unused| Found { empty_from, unused };
    assert_eq!(
        scout.ends().unwrap(),
        [end(len, false), end(2 * PIECE_BYTES, false), end(len, true), end(len, true)]
    );
    assert!(Scout::send(&[], &RealSpawn).ends().unwrap().is_empty());
}

#[test]
fn a_scout_that_nobody_asks_is_called_back_and_lets_the_files_go() {
    let inline = InlineSpawn::default();
    let spawns: [&dyn Spawn; 2] = [&RealSpawn, &inline];
    for spawn in spawns {
        let views: Vec<View> = (0..4).map(|_| view(Origin::Spare, vec![1; 2 << 20])).collect();
        let scout = Scout::send(&views, spawn);
        assert!(scout.job.is_some(), "8 MiB are worth a thread");
        let ground = Arc::downgrade(&scout.ground);
        drop(scout);
        assert_eq!(ground.strong_count(), 0);
    }
}
