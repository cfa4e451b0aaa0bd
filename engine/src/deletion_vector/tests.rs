//! Tests of deletion vectors.

use std::path::Path;

use akidb_host::{Fs, RealFs, Rng};

use super::file::*;
use super::*;
use crate::error::{ErrorKind, Result};

const RANDOM: [u8; 16] = [7; 16];

fn write_one(fs: &dyn Fs, dir: &Path, vector: &DeletionVector) -> Result<DeletionVectorRef> {
    Ok(write(fs, dir, &[vector], RANDOM)?.remove(0))
}

fn dense(n: u32) -> DeletionVector {
    (0..n).filter(|row| row % 3 != 1 && row % 7 != 0).collect()
}

/// Rows so far apart that nothing compresses.
fn scattered(n: u32) -> DeletionVector {
    (0..n).map(|i| i * 97).collect()
}

#[test]
fn a_deletion_vector_reads_back_from_the_manifest_and_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    for (dv, inline) in [
        (DeletionVector::new(), true),
        ([0].into_iter().collect(), true),
        ([u32::MAX - 1].into_iter().collect(), true),
        (scattered(400), true),
        (scattered(5_000), false),
        (dense(300_000), false),
    ] {
        let named = write_one(&RealFs, dir.path(), &dv).unwrap();
        assert_eq!(matches!(named, DeletionVectorRef::Inline { .. }), inline, "{} rows", dv.len());
        assert_eq!(read(&RealFs, dir.path(), &named, u32::MAX).unwrap(), dv);
        if let DeletionVectorRef::File { file, .. } = &named {
            assert_eq!(file, "deletion_vector_07070707-0707-4707-8707-070707070707.bin");
            let again = write_one(&RealFs, dir.path(), &dv).unwrap_err();
            assert_eq!(again.code(), "AKI-0602", "a name is never written twice");
            std::fs::remove_file(dir.path().join(file)).unwrap();
            let gone = read(&RealFs, dir.path(), &named, u32::MAX).unwrap_err();
            assert!(gone.kind() == ErrorKind::Corrupt && gone.is_of_missing_file(), "{gone}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn vectors_of_several_segments_lie_in_one_file_and_small_ones_in_none() {
    let dir = tempfile::tempdir().unwrap();
    let vectors = [scattered(5_000), scattered(3), dense(300_000), DeletionVector::new(), scattered(900)];
    let named = write(&RealFs, dir.path(), &vectors.iter().collect::<Vec<_>>(), RANDOM).unwrap();
    let places = named.iter().map(|reference| match reference {
        DeletionVectorRef::File { file, offset, len, size, crc32, .. } => {
            Some((file, *offset, *len, *size, *crc32))
        }
        DeletionVectorRef::Inline { .. } => None,
    });
    let placed: Vec<_> = places.collect();
    assert_eq!(placed.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false, true]);
    let files: Vec<_> = placed.into_iter().flatten().collect();
    let entries: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(entries.len(), 1);
    let bytes = std::fs::read(entries[0].path()).unwrap();
    let mut at = 1;
    for (file, offset, len, size, crc32) in files {
        assert_eq!((file.as_str(), offset), (entries[0].file_name().to_str().unwrap(), at));
        assert_eq!((size, crc32), (bytes.len() as u64, crc32fast::hash(&bytes)));
        at += 4 + len + 4;
    }
    assert_eq!(at as usize, bytes.len());
    let mut reader = Vectors::new(&RealFs, dir.path().to_path_buf());
    for (reference, vector) in named.iter().zip(&vectors) {
        assert_eq!(reader.read(reference, u32::MAX).unwrap(), *vector);
        assert_eq!(read(&RealFs, dir.path(), reference, u32::MAX).unwrap(), *vector);
    }
    // What rots in one frame is not the others' end.
    let mut rotten = bytes.clone();
    let DeletionVectorRef::File { offset: second, .. } = named[2] else { unreachable!() };
    rotten[second as usize + 40] ^= 1;
    std::fs::write(entries[0].path(), rotten).unwrap();
    let mut reader = Vectors::new(&RealFs, dir.path().to_path_buf());
    for (n, (reference, vector)) in named.iter().zip(&vectors).enumerate() {
        match reader.read(reference, u32::MAX) {
            Ok(read) => assert_eq!((n == 2, read), (false, vector.clone())),
            Err(error) => assert_eq!((n, error.offset()), (2, Some(u64::from(second) + 4)), "{error}"),
        }
    }
    std::fs::write(entries[0].path(), &bytes).unwrap();
    // A frame's place cannot be taken for another's.
    let DeletionVectorRef::File { file, len, crc32, size, count, .. } = named[0].clone() else {
        unreachable!()
    };
    for offset in [0, 2, at - 1, at, u32::MAX] {
        let wrong = DeletionVectorRef::File { file: file.clone(), offset, len, crc32, size, count };
        assert_eq!(reader.read(&wrong, u32::MAX).unwrap_err().code(), "AKI-0604", "offset {offset}");
    }
}

#[test]
fn it_is_a_set_of_rows() {
    let mut dv = DeletionVector::new();
    assert!(dv.insert(3) && dv.insert(70_000) && !dv.insert(3));
    assert!(dv.contains(3) && !dv.contains(4) && !dv.is_empty());
    let both = dv.union(&[4].into_iter().collect());
    assert_eq!(both.iter().collect::<Vec<_>>(), [3, 4, 70_000]);
    assert_eq!((dv.len(), both.len()), (2, 3));
}

#[test]
fn rows_past_the_segment_and_wrong_counts_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dv: DeletionVector = [5, 10].into_iter().collect();
    let named = write_one(&RealFs, dir.path(), &dv).unwrap();
    assert!(read(&RealFs, dir.path(), &named, 11).is_ok());
    let error = read(&RealFs, dir.path(), &named, 10).unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Corrupt, "AKI-0604"));
    let DeletionVectorRef::Inline { z85, len, .. } = named else { panic!("two rows are inline") };
    let named = DeletionVectorRef::Inline { z85, len, count: 3 };
    assert_eq!(read(&RealFs, dir.path(), &named, 11).unwrap_err().code(), "AKI-0604");
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_file_is_a_typed_error() {
    let seed = 0xde1e7e;
    println!("seed {seed}");
    let mut rng = Rng::seeded(seed);
    let dir = tempfile::tempdir().unwrap();
    let named = write_one(&RealFs, dir.path(), &scattered(3_000)).unwrap();
    let DeletionVectorRef::File { file, .. } = &named else { panic!("3,000 rows take a file") };
    let path = dir.path().join(file);
    let good = std::fs::read(&path).unwrap();
    let assert_refused = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = match read(&RealFs, dir.path(), &named, u32::MAX) {
            Ok(vector) => {
                assert_eq!((vector, what), (scattered(3_000), "byte 0"), "only the version is not needed");
                let mut vectors = Vectors::new(&RealFs, dir.path().to_path_buf());
                vectors.file(&named).unwrap().unwrap().check_whole().expect_err(what)
            }
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}");
        assert!(error.file().is_some() && error.offset().is_some(), "{what}");
    };
    for nth in 0..500 {
        // The frame and its ends first, then anywhere.
        let len = good.len() as u64;
        let at = if nth < 64 { nth } else { rng.below(len) };
        let at = usize::try_from(if nth % 2 == 0 { at } else { len - 1 - at }).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1 << rng.below(8);
        assert_refused(&bad, &format!("byte {at}"));
    }
    for len in (0..good.len()).step_by(53) {
        assert_refused(&good[..len], &format!("{len} bytes"));
    }
}

#[test]
fn any_text_in_a_manifest_is_a_deletion_vector_or_an_error_but_never_a_panic() {
    let mut rng = Rng::seeded(3);
    let good = write_one(&RealFs, Path::new("/nowhere"), &scattered(9)).unwrap();
    let DeletionVectorRef::Inline { z85, len, count } = good else { panic!("nine rows are inline") };
    for _ in 0..2_000 {
        let mut text = z85.clone().into_bytes();
        let at = usize::try_from(rng.below(text.len() as u64)).unwrap();
        text[at] = b'!' + u8::try_from(rng.below(90)).unwrap();
        let z85 = String::from_utf8(text).unwrap();
        let named = DeletionVectorRef::Inline { z85, len, count };
        let _ = read(&RealFs, Path::new("/nowhere"), &named, 1_000);
    }
    for z85 in ["", "x", "#####", "0000000000"] {
        let named = DeletionVectorRef::Inline { z85: z85.to_string(), len, count };
        assert!(read(&RealFs, Path::new("/nowhere"), &named, 1_000).is_err());
    }
}

/// Bytes of the format, frozen: rows 0, 1, 5, 65,535, 65,536 and 1,000,000 to 1,000,099.
#[test]
fn golden_deletion_vectors_read_and_are_written_byte_for_byte() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let dv: DeletionVector = [0, 1, 5, 65_535, 65_536].into_iter().chain(1_000_000..1_000_100).collect();
    let bytes = dv.serialize();
    if std::env::var_os("AKIDB_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("deletion_vector.bin"), &bytes).unwrap();
    }
    let frozen = std::fs::read(dir.join("deletion_vector.bin")).unwrap();
    assert_eq!(bytes, frozen);
    assert_eq!(DeletionVector::deserialize(&frozen, 1_000_100).unwrap(), dv);
    assert_eq!(frozen[..16], [0xd1, 0xd3, 0x39, 0x64, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

/// A vector that another implementation wrote: rows 3, 4, 7, 11, 18, 29, from the tests of Delta's own kernel.
#[test]
fn a_deletion_vector_of_deltas_kernel_reads_and_is_written_byte_for_byte() {
    let z85 = "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L".to_string();
    let named = DeletionVectorRef::Inline { z85, len: 44, count: 6 };
    let dv = read(&RealFs, Path::new("/nowhere"), &named, 30).unwrap();
    assert_eq!(dv.iter().collect::<Vec<_>>(), [3, 4, 7, 11, 18, 29]);
    assert_eq!(write_one(&RealFs, Path::new("/nowhere"), &dv).unwrap(), named);
}
