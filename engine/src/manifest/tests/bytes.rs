//! The bytes of a manifest file: golden, flipped, cut short, newer.

use std::path::Path;

use akidb_host::Rng;

use super::{committed, sample, sample_with_a_name, sample_with_expiry, sample_with_index, sample_with_keys};
use crate::error::{Error, ErrorKind};
use crate::manifest::{Manifest, file_name, number_of};

const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/manifest_v1.json");
const GOLDEN_1_1: &[u8] = include_bytes!("../../../tests/golden/manifest_v1_1.json");
const GOLDEN_1_2: &[u8] = include_bytes!("../../../tests/golden/manifest_v1_2.json");
const GOLDEN_EXPIRY: &[u8] = include_bytes!("../../../tests/golden/manifest_expiry.json");
const GOLDEN_NAMED: &[u8] = include_bytes!("../../../tests/golden/manifest_named.json");

fn decode(bytes: &[u8]) -> Result<Manifest, Error> {
    Manifest::decode(Path::new("manifest/x.json"), bytes).map(|c| c.manifest)
}

/// The document with a right checksum: what a forger or a bug could write.
fn sealed(document: &str) -> Vec<u8> {
    let document = format!("{document}\n");
    format!("{document}{{\"crc32\":\"{:08x}\"}}\n", crc32fast::hash(document.as_bytes())).into_bytes()
}

fn document() -> String {
    let (bytes, _) = sample().encode().unwrap();
    let text = String::from_utf8(bytes).unwrap();
    text[..text.len() - 22].to_owned()
}

#[test]
fn version_1_has_the_bytes_it_always_had_and_reads_back_equal() {
    let (bytes, crc32) = sample().encode().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(GOLDEN));
    let back = Manifest::decode(Path::new("x"), GOLDEN).unwrap();
    assert_eq!(back, committed(sample()));
    assert_eq!(back.crc32, crc32);
}

#[test]
fn version_1_1_adds_the_vector_index_of_a_segment_and_nothing_else() {
    let (bytes, _) = sample_with_index().encode().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(GOLDEN_1_1));
    assert_eq!(Manifest::decode(Path::new("x"), GOLDEN_1_1).unwrap(), committed(sample_with_index()));
    let text = String::from_utf8_lossy(GOLDEN_1_1).into_owned();
    let only_there: Vec<&str> = text.lines().filter(|line| !document().contains(line.trim())).collect();
    let fields = ["\"minor\": 1", "\"head\"", "\"codes\"", "\"offset\"", "\"len\"", "\"crc32\":"];
    assert!(only_there.iter().all(|line| fields.iter().any(|f| line.contains(f))), "{only_there:?}");
}

#[test]
fn version_1_2_adds_the_keys_of_batches_and_nothing_else() {
    let (bytes, _) = sample_with_keys().encode().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(GOLDEN_1_2));
    assert_eq!(Manifest::decode(Path::new("x"), GOLDEN_1_2).unwrap(), committed(sample_with_keys()));
    let (text, older) = (String::from_utf8_lossy(GOLDEN_1_2), String::from_utf8_lossy(GOLDEN_1_1));
    let only_there: Vec<&str> = text.lines().filter(|line| !older.contains(line.trim())).collect();
    assert_eq!(only_there.len(), 6, "minor, a comma, the field, two keys, the checksum: {only_there:?}");
    let mut m = sample_with_keys();
    m.format.minor = 1;
    assert_eq!(decode(&m.encode().unwrap().0).unwrap_err().code(), "AKI-0307");
    let bad = text.replace("1:7 1:9", "1:7  1:9");
    assert_eq!(decode(&sealed(bad[..bad.len() - 22].trim_end())).unwrap_err().code(), "AKI-0306");
}

#[test]
fn a_name_adds_a_list_and_the_feature_that_keeps_older_versions_away_until_the_last_name_is_gone() {
    let (bytes, _) = sample_with_a_name().encode().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(GOLDEN_NAMED));
    assert_eq!(Manifest::decode(Path::new("x"), GOLDEN_NAMED).unwrap(), committed(sample_with_a_name()));
    let mut m = sample_with_a_name();
    assert_eq!(m.format.incompatible, ["named-snapshots"]);
    m.forget_snapshot("before-the-import").unwrap();
    assert_eq!(m, sample(), "as if it had never been");
    let mut m = sample_with_a_name();
    assert_eq!(m.forget_snapshots(), ["before-the-import"]);
    assert_eq!(m, sample());
}

#[test]
fn rows_that_expire_add_a_field_to_the_schema_and_the_feature_that_keeps_older_versions_away() {
    let (bytes, _) = sample_with_expiry().encode().unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(GOLDEN_EXPIRY));
    assert_eq!(Manifest::decode(Path::new("x"), GOLDEN_EXPIRY).unwrap(), committed(sample_with_expiry()));
    let mut m = sample_with_expiry();
    assert_eq!(m.format.incompatible, ["row-expiry"]);
    m.name_snapshot("a", crate::lsn::Lsn::new(1, 154)).unwrap();
    assert_eq!(m.format.incompatible, ["named-snapshots", "row-expiry"]);
    m.forget_snapshot("a").unwrap();
    let unannounced = |m: &Manifest| {
        let e = decode(&m.encode().unwrap().0).unwrap_err();
        assert!(e.code() == "AKI-0307" && e.message().contains("row_expiry_is_announced"), "{e}");
    };
    let mut silent = m.clone();
    silent.format.incompatible.clear();
    unannounced(&silent);
    assert!(
        m.drop_collection(3) && m.format.incompatible.is_empty(),
        "with the last such collection it goes"
    );
    m.format.incompatible.push("row-expiry".into());
    unannounced(&m);
}

#[test]
fn fields_of_1_1_in_a_manifest_that_says_1_0_break_a_rule() {
    let mut m = sample_with_index();
    m.format.minor = 0;
    let e = decode(&m.encode().unwrap().0).unwrap_err();
    assert_eq!(e.code(), "AKI-0307");
    assert!(e.message().contains("format_has_the_fields"), "{e}");
}

#[test]
fn every_one_of_500_flipped_bits_is_found_and_those_in_the_document_to_the_byte() {
    let seed = 0x5eed_0301;
    println!("seed {seed:#x}");
    let mut rng = Rng::seeded(seed);
    let (good, _) = sample().encode().unwrap();
    let document_len = good.len() - 21;
    for _ in 0..500 {
        let at = usize::try_from(rng.below(good.len() as u64)).unwrap();
        let bit = rng.below(8);
        let mut bad = good.clone();
        bad[at] ^= 1 << bit;
        let e = decode(&bad).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "byte {at} bit {bit}");
        assert!(e.file().is_some() && e.help().unwrap().contains("akidb repair manifest"));
        if at < document_len {
            assert_eq!(e.offset(), Some(at as u64), "byte {at} bit {bit}: {e}");
        }
    }
}

#[test]
fn every_bit_of_the_last_line_counts() {
    let (good, _) = sample().encode().unwrap();
    for at in good.len() - 21..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert_eq!(decode(&bad).unwrap_err().kind(), ErrorKind::Corrupt, "byte {at} bit {bit}");
        }
    }
}

#[test]
fn a_manifest_cut_anywhere_or_with_more_behind_it_is_corrupt() {
    let (good, _) = sample().encode().unwrap();
    for len in 0..good.len() {
        let e = decode(&good[..len]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Corrupt, "{len} bytes");
        assert!(e.offset().unwrap() <= len as u64);
    }
    let longer = [&good[..], b"\n"].concat();
    assert_eq!(decode(&longer).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(decode(&vec![0; 4096]).unwrap_err().code(), "AKI-0304");
}

#[test]
fn random_bytes_under_a_right_checksum_are_an_error_and_never_a_panic() {
    let seed = 0x5eed_0302;
    println!("seed {seed:#x}");
    let mut rng = Rng::seeded(seed);
    let good = document().into_bytes();
    for _ in 0..300 {
        let mut bad = good.clone();
        for _ in 0..=rng.below(4) {
            let at = usize::try_from(rng.below(bad.len() as u64)).unwrap();
            bad[at] = b"0123456789-\"{}[],:e "[usize::try_from(rng.below(20)).unwrap()];
        }
        bad.push(b'\n');
        let crc32 = crc32fast::hash(&bad);
        bad.extend_from_slice(format!("{{\"crc32\":\"{crc32:08x}\"}}\n").as_bytes());
        if let Err(e) = decode(&bad) {
            assert!(matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat), "{e}");
        }
    }
}

#[test]
fn a_newer_format_or_an_unknown_feature_is_named_and_is_not_damage() {
    for (old, new, word) in [
        ("\"major\": 1", "\"major\": 2, \"shape\": []", "format 2.0"),
        ("\"minor\": 0", "\"minor\": 3", "format 1.3"),
        ("\"incompatible\": []", "\"incompatible\": [\"two_level\"]", "two_level"),
    ] {
        let text = document();
        assert!(text.contains(old));
        let e = decode(&sealed(&text.replace(old, new))).unwrap_err();
        assert_eq!((e.kind(), e.code()), (ErrorKind::NewerFormat, "AKI-0308"), "{e}");
        assert!(e.message().contains(word), "{e}");
    }
}

#[test]
fn an_unknown_field_or_a_broken_rule_under_a_right_checksum_is_corrupt_with_its_place() {
    let text = document();
    let e = decode(&sealed(&text.replace("\"reason\"", "\"raison\""))).unwrap_err();
    assert_eq!(e.code(), "AKI-0306");
    let place = usize::try_from(e.offset().unwrap()).unwrap();
    assert!(text[..place].contains("created_at") && place > 0, "{e}");
    let e = decode(&sealed(&text.replace("\"floor\": \"1:155\"", "\"floor\": \"1:156\""))).unwrap_err();
    assert_eq!(e.code(), "AKI-0307");
    assert!(e.message().contains("floor_is_covered"), "{e}");
}

#[test]
fn a_file_name_is_twenty_digits_and_nothing_else() {
    assert_eq!(file_name(42), "00000000000000000042.json");
    assert_eq!(number_of(&file_name(42)), Some(42));
    for name in
        ["42.json", "00000000000000000042.json.tmp", "0000000000000000004x.json", "99999999999999999999.json"]
    {
        assert_eq!(number_of(name), None, "{name}");
    }
    assert_eq!(number_of(&file_name(0)), None);
}
