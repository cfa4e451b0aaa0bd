//! Single bits flipped anywhere in a database at rest: the same answers, a typed error, or a reported cut.

use akidb_host::Rng;

use crate::sample::{Outcome, Sample, assert_typed, sample, used_len};

const FLIPS: u64 = 500;

/// Where the next flip goes: kinds of files in turn, any file of the kind, any byte that is used.
fn place(sample: &Sample, rng: &mut Rng, n: u64) -> (usize, usize, u8) {
    let kinds = [
        sample.below("wal/", ""),
        sample.below("collections/", ".parquet"),
        sample.below("collections/", ".bin"),
        sample.below("manifest/", ".json"),
    ];
    assert!(kinds.iter().all(|kind| !kind.is_empty()), "each kind of file is there");
    let kind = &kinds[(n / 2 % 4) as usize];
    let mut used =
        kind.iter().copied().filter(|file| used_len(&sample.files[*file].1) > 0).collect::<Vec<_>>();
    // The newest manifest as often as all older ones.
    if n / 2 % 4 == 3 && rng.below(2) == 0 {
        used.drain(..used.len() - 1);
    }
    let file = used[rng.below(used.len() as u64) as usize];
    let bytes = &sample.files[file].1;
    // A little of the zeros behind, too: a log file goes on there.
    let reach = (used_len(bytes) + 64).min(bytes.len());
    (file, rng.below(reach as u64) as usize, 1 << rng.below(8))
}

#[test]
fn a_flipped_bit_gives_the_same_answers_a_typed_error_or_a_reported_cut() {
    let seed: u64 = std::env::var("AKIDB_FLIP_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or_else(|| Rng::from_machine().u64());
    println!("AKIDB_FLIP_SEED={seed}");
    let mut rng = Rng::seeded(seed);
    let mut samples = [sample(true), sample(false)];
    let home = tempfile::tempdir().unwrap();
    for (n, sample) in samples.iter().enumerate() {
        let dir = home.path().join(format!("whole{n}"));
        sample.write_to(&dir);
        assert!(matches!(sample.judge(&dir), Outcome::Same), "an undamaged copy answers as the original");
    }
    let (mut same, mut refused, mut cut) = (0, 0, 0);
    // Which file each refusal named and by which code, so that a run tells what it was that held.
    let mut codes = std::collections::BTreeMap::new();
    for n in 0..FLIPS {
        let clean = n % 2 == 0;
        let sample = &mut samples[(n % 2) as usize];
        let (file, offset, bit) = place(sample, &mut rng, n);
        let dir = home.path().join(n.to_string());
        sample.files[file].1[offset] ^= bit;
        sample.write_to(&dir);
        sample.files[file].1[offset] ^= bit;
        let what = format!("flip {n}: bit {bit:#x} of byte {offset} of {}", sample.files[file].0.display());
        match sample.judge(&dir) {
            Outcome::Same => same += 1,
            Outcome::Refused(error) => {
                assert_typed(&error, &what);
                let part = sample.files[file].0.components().next().unwrap().as_os_str().to_owned();
                *codes.entry((part, error.code())).or_insert(0) += 1;
                refused += 1;
            }
            Outcome::Cut => {
                assert!(!clean, "{what}: after a clean close nothing is taken for a torn tail");
                cut += 1;
            }
            Outcome::Silent(answers) => panic!("{what}: other answers and no word about it: {answers:?}"),
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    println!("{FLIPS} flips: {same} the same answers, {refused} typed errors, {cut} reported cuts, 0 silent");
    println!("refused by: {codes:?}");
    assert_eq!(same + refused + cut, FLIPS);
}
