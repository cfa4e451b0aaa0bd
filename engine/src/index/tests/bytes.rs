//! HEAD reads back as it was written, and nothing that is not HEAD reads at all.

use std::path::{Path, PathBuf};

use akidb_host::Rng;

use super::{clustered, slices};
use crate::index::build::{Built, build_from};
use crate::index::head::{self, RotationKey};
use crate::index::rotation::Rotation;
use crate::schema::Metric;

const KEY: RotationKey = RotationKey { seed: 5, crc32: 77 };

#[test]
fn a_head_reads_back_whole_and_no_part_of_it_reads() {
    for (dim, lists_from) in [(64, 500), (200, 500), (200, usize::MAX)] {
        let rows = clustered(1_200, dim, 9, 21);
        let rotation = Rotation::new(dim, KEY.seed);
        let built = build_from(lists_from, Metric::L2, &rotation, &slices(&rows), 1, &|| true).unwrap();
        let body = head::encode(&built.lists, KEY);
        let (lists, key) = head::decode(&body, built.codes.len() as u64).unwrap();
        assert_eq!((&lists, key), (&built.lists, KEY));
        assert!(head::decode(&body, built.codes.len() as u64 - 1).is_err(), "codes cut short");
        for len in (0..body.len()).step_by(97).chain(body.len() - 8..body.len()) {
            assert!(head::decode(&body[..len], built.codes.len() as u64).is_err(), "{len} of {}", body.len());
        }
    }
}

#[test]
fn a_head_of_any_bytes_is_refused_or_sound() {
    let rows = clustered(700, 64, 5, 22);
    let rotation = Rotation::new(64, KEY.seed);
    let built = build_from(500, Metric::Cosine, &rotation, &slices(&rows), 1, &|| true).unwrap();
    let body = head::encode(&built.lists, KEY);
    let seed = 0xf11b;
    println!("seed {seed:#x}");
    let mut random = Rng::seeded(seed);
    for _ in 0..3_000 {
        let mut bad = body.clone();
        let at = usize::try_from(random.below(bad.len().min(2_000) as u64)).unwrap();
        bad[at] ^= 1 << random.below(8);
        if let Ok((lists, _)) = head::decode(&bad, built.codes.len() as u64) {
            let end = lists.lists.iter().map(|list| list.offset + lists.list_len(list) as u64).max().unwrap();
            assert!(end <= built.codes.len() as u64, "a list outside of the codes");
        }
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let rows = clustered(1_000, 100, 6, 23);
    let rotation = Rotation::new(100, KEY.seed);
    let bytes = || {
        let built = build_from(500, Metric::Dot, &rotation, &slices(&rows), 9, &|| true).unwrap();
        (head::encode(&built.lists, KEY), built.codes)
    };
    assert!(bytes() == bytes());
}

/// A kind of index as files hold it: 128 rows of 192 numbers in lists, or 40 in one, under one bit a number.
fn golden(name: &str) -> (PathBuf, Built) {
    let (rows, lists_from) = if name == "lists" { (128, 100) } else { (40, usize::MAX) };
    let rows = clustered(rows, 192, 5, 24);
    let built =
        build_from(lists_from, Metric::L2, &Rotation::new(192, KEY.seed), &slices(&rows), 1, &|| true)
            .unwrap();
    (Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/index_{name}.bin")), built)
}

/// `AKIDB_WRITE_GOLDEN=1 cargo test -p akidb --lib golden` writes them anew, which is right only for a format that no
/// release has written yet. A length, HEAD, CODES: also where the fuzz target `index_sections` begins.
#[test]
fn golden_sections_read_as_ever() {
    for name in ["lists", "flat"] {
        let (path, built) = golden(name);
        if std::env::var_os("AKIDB_WRITE_GOLDEN").is_some() {
            let head = head::encode(&built.lists, KEY);
            let len = u32::try_from(head.len()).unwrap().to_le_bytes();
            std::fs::write(&path, [&len[..], &head, &built.codes].concat()).unwrap();
        }
        let bytes = std::fs::read(&path).unwrap();
        let (len, rest) = bytes.split_first_chunk::<4>().unwrap();
        let (head, codes) = rest.split_at(u32::from_le_bytes(*len) as usize);
        let (lists, key) = head::decode(head, codes.len() as u64).unwrap();
        assert_eq!(head::encode(&lists, key), head, "what is read is written as it was");
        for list in &lists.lists {
            let start = usize::try_from(list.offset).unwrap();
            assert_eq!(crc32fast::hash(&codes[start..start + lists.list_len(list)]), list.crc32);
        }
        let found = crate::index::scan_everything(head, codes).unwrap();
        println!("{name}: {} bytes, {found:?}", bytes.len());
        assert!(found.len() >= 10 && found.iter().all(|row| *row < lists.rows));
        assert!(
            head::encode(&built.lists, KEY) == head && built.codes == codes,
            "the same rows give the same bytes"
        );
    }
}
