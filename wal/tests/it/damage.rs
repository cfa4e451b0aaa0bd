//! Torn tails, power cuts and flipped bits: cut and reported, or an error with file and offset; never silence.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use akidb_host::sim::InlineSpawn;
use akidb_host::{RealFs, Rng};
use akidb_wal::{Cut, ErrorKind, Log, Lsn, Options, cut_at};

use crate::support::{Place, Row, append, append_synced, corrupt_at, edit, frames, rows};

#[test]
fn a_tail_torn_at_every_byte_is_cut_and_reported_and_nothing_acknowledged_is_lost() {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    append_synced(&log, &[b"first, acknowledged"], &mut model);
    append_synced(&log, &[b"second", b"acknowledged"], &mut model);
    let acked = model.len();
    append(&log, &[&[0xAB; 61]], &mut model);
    append(&log, &[b"last", &[0xCD; 33]], &mut model);
    drop(log);
    let file = place.last_file();
    let whole = fs::read(&file).unwrap();
    let offsets = frames(&file);
    let end = offsets[4].0 + offsets[4].3;
    let mut reported = 0;
    for at in offsets[3].0..=end {
        edit(&file, |bytes| bytes[at..].fill(0));
        let recovered = place.peek().unwrap();
        let found = rows(&recovered);
        assert!(found.len() >= acked && model.starts_with(&found), "torn at {at}");
        let kept = offsets.iter().rfind(|f| found.last().is_some_and(|row| row_in(&row.0, f, &offsets)));
        let intact = kept.map_or(0, |f| f.0 + f.3);
        let rest = fs::read(&file).unwrap()[intact..].iter().any(|b| *b != 0);
        assert_eq!(recovered.cut.is_some(), rest, "torn at {at}");
        if let Some(cut) = recovered.cut {
            assert_eq!(
                (cut.file, cut.offset as usize, cut.by_order),
                (file.clone(), intact, false),
                "at {at}"
            );
            reported += 1;
        }
        fs::write(&file, &whole).unwrap();
    }
    assert!(reported > 100, "{reported} cuts");
}

/// Whether the record is the last of this frame: records are numbered densely over the batches.
fn row_in(lsn: &Lsn, frame: &(usize, &str, u16, usize), all: &[(usize, &str, u16, usize)]) -> bool {
    let upto: u64 = all.iter().filter(|f| f.0 <= frame.0).map(|f| u64::from(f.2)).sum();
    frame.1 == "batch" && lsn.counter() == upto
}

type Image = BTreeMap<PathBuf, Vec<u8>>;

fn image(place: &Place) -> Image {
    place.content().into_iter().collect()
}

/// What a power cut may leave: of each sector, the synced content or the live one.
fn power_cut(durable: &Image, live: &Image, rng: &mut Rng) -> Image {
    let mut cut = live.clone();
    for (path, bytes) in &mut cut {
        let none = vec![0; bytes.len()];
        // A file that is new since was synced as zeros and a header before it got its name.
        let old = durable.get(path).map_or_else(
            || {
                let mut fresh = none.clone();
                fresh[..4096].copy_from_slice(&bytes[..4096]);
                fresh
            },
            Clone::clone,
        );
        let keep = rng.below(101);
        for (sector, was) in bytes.chunks_mut(512).zip(old.chunks(512)) {
            if rng.below(100) >= keep {
                sector.copy_from_slice(was);
            }
        }
    }
    cut
}

fn write_image(place: &Place, image: &Image) {
    for file in place.content() {
        fs::remove_file(file.0).unwrap();
    }
    for (path, bytes) in image {
        fs::write(place.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
}

#[test]
fn power_cuts_lose_no_acknowledged_record_and_never_look_like_damage() {
    let seed = std::env::var("AKIDB_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_124);
    println!("AKIDB_SEED={seed}");
    let mut rng = Rng::seeded(seed);
    let mut cuts = 0;
    for history in 0..16 {
        let mut place = Place::new();
        // No thread runs behind the test's back: the seed is the whole run.
        place.spawn = Arc::new(InlineSpawn::default());
        place.config.salt_seed = Some(seed + history);
        let mut model = Vec::new();
        let mut acked = 0;
        let (mut log, _) = place.open();
        let mut durable = image(&place);
        for _ in 0..3 + rng.below(20) {
            for _ in 0..1 + rng.below(5) {
                let size = usize::try_from(rng.below(1500)).unwrap();
                append(&log, &[&vec![1 + rng.u32().to_le_bytes()[0] / 2; size]], &mut model);
            }
            match rng.below(8) {
                0 => {
                    drop(log);
                    log = place.open().0;
                }
                1..5 => log.wait(model.last().unwrap().0).unwrap(),
                _ => continue,
            }
            acked = model.len();
            durable = image(&place);
        }
        let live = image(&place);
        drop(log);
        for state in 0..25 {
            let at = format!("seed {seed}, history {history}, state {state}");
            write_image(&place, &power_cut(&durable, &live, &mut rng));
            let (log, recovered) = Log::open(place.options()).unwrap_or_else(|e| panic!("{at}: {e}"));
            let found = rows(&recovered);
            assert!(found.len() >= acked, "{at}: {} of {acked} acknowledged", found.len());
            assert_eq!(found[..], model[..found.len()], "{at}");
            cuts += usize::from(recovered.cut.is_some());
            // Again, at once: what was shown must survive this cut too.
            let (before, shown) = (image(&place), found.clone());
            drop(recovered);
            let mut more = found;
            append(&log, &[b"after the cut"], &mut more);
            let after = image(&place);
            drop(log);
            write_image(&place, &power_cut(&before, &after, &mut rng));
            let (_, recovered) =
                Log::open(place.options()).unwrap_or_else(|e| panic!("{at}, second cut: {e}"));
            let found = rows(&recovered);
            assert!(found.len() >= shown.len() && more.starts_with(&found), "{at}, second cut");
        }
    }
    println!("{cuts} of 400 power cuts left a torn tail");
    assert!(cuts > 20, "the simulation tears tails");
}

/// Three sessions over several files, every group synced before the next was encoded.
fn long_log() -> (Place, Vec<Row>) {
    let place = Place::new();
    let mut model = Vec::new();
    for session in 0..3_u8 {
        let (log, _) = place.open();
        for i in 0..25_u8 {
            append_synced(&log, &[&[session, i], &vec![i; 60 * usize::from(i)]], &mut model);
        }
        if session == 1 {
            log.close().unwrap();
        }
    }
    assert!(place.used_files().len() >= 6);
    (place, model)
}

#[test]
fn a_flip_in_an_acknowledged_frame_with_a_later_stamp_is_corrupt_at_its_offset() {
    let (place, model) = long_log();
    let seed = 7;
    println!("seed {seed}");
    let mut rng = Rng::seeded(seed);
    let files: Vec<_> = place.used_files().into_iter().map(|f| (frames(&f), f)).collect();
    let (mut flips, mut superseded) = (0, 0);
    while flips < 500 {
        let (seen, file) = &files[usize::try_from(rng.below(files.len() as u64)).unwrap()];
        let last_file = file == &files.last().unwrap().1;
        // In the last file the last group has no later stamp; a sealed file's seal is followed by the next file.
        let stamped = if last_file { seen.len() - 1 } else { seen.len() };
        let frame = seen[usize::try_from(rng.below(stamped as u64)).unwrap()];
        let at = frame.0 + usize::try_from(rng.below(frame.3 as u64)).unwrap();
        let bit = 1 << rng.below(8);
        edit(file, |bytes| bytes[at] ^= bit);
        let error = match place.peek() {
            Err(e) => e,
            Ok(recovered) => {
                // The end of a session is superseded: its last group was copied into the next session's file,
                // which says where this one ends.
                assert_eq!(frame, *seen.last().unwrap(), "{}: flip at {at} in {frame:?}", file.display());
                assert_eq!(rows(&recovered), model);
                superseded += 1;
                edit(file, |bytes| bytes[at] ^= bit);
                continue;
            }
        };
        let (named, offset, _) = corrupt_at(&error);
        assert_eq!((&named, offset as usize), (file, frame.0), "flip at {at} in {frame:?}: {error}");
        assert!(error.help().unwrap().contains(&format!("akidb repair wal-cut {} {offset}", file.display())));
        edit(file, |bytes| bytes[at] ^= bit);
        flips += 1;
    }
    println!("500 flips reported at their offset, {superseded} more in superseded frames");
    assert_eq!(rows(&place.peek().unwrap()), model, "all flips were undone");
}

#[test]
fn no_flip_anywhere_is_silent() {
    let (place, model) = long_log();
    let seed = 8;
    println!("seed {seed}");
    let mut rng = Rng::seeded(seed);
    let files = place.files();
    let (mut same, mut errors, mut cuts) = (0, 0, 0);
    for _ in 0..500 {
        let file = &files[usize::try_from(rng.below(files.len() as u64)).unwrap()];
        let len = fs::metadata(file).unwrap().len();
        let at = usize::try_from(rng.below(len)).unwrap();
        let bit = 1 << rng.below(8);
        edit(file, |bytes| bytes[at] ^= bit);
        match place.peek() {
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt { .. }) => errors += 1,
            Err(e) => panic!("{} at {at}: {e}", file.display()),
            Ok(recovered) if recovered.cut.is_some() => {
                assert!(model.starts_with(&rows(&recovered)));
                cuts += 1;
            }
            Ok(recovered) => {
                assert_eq!(rows(&recovered), model, "{} at {at}: silent", file.display());
                same += 1;
            }
        }
        edit(file, |bytes| bytes[at] ^= bit);
    }
    println!("500 flips: {errors} errors, {cuts} reported cuts, {same} without effect, 0 silent");
    assert!(errors > 50 && same > 0);
}

#[test]
fn damage_in_the_last_group_without_a_later_stamp_is_a_reported_cut() {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    append_synced(&log, &[b"kept"], &mut model);
    append_synced(&log, &[b"damaged"], &mut model);
    drop(log);
    // The control page knows better: see `control.rs`.
    fs::remove_file(place.path().join("control")).unwrap();
    let (file, damaged) = (place.last_file(), frames(&place.last_file())[2]);
    edit(&file, |bytes| bytes[damaged.0 + 45] ^= 1);
    let recovered = place.peek().unwrap();
    assert_eq!(rows(&recovered), model[..1]);
    let cut = Cut {
        file: file.clone(),
        offset: damaged.0 as u64,
        bytes: recovered.cut.as_ref().unwrap().bytes,
        frames: 1,
        by_order: false,
    };
    assert_eq!(recovered.cut, Some(cut));
    // The manifest of a caller who flushed that record proves it.
    let error = Log::open(Options { floor: model[1].0.plus(1), ..place.options() }).unwrap_err();
    assert_eq!(corrupt_at(&error), (file, damaged.0 as u64, model[1].0));
}

#[test]
fn after_a_clean_close_damage_in_the_last_group_is_an_error() {
    let place = Place::new();
    let (log, _) = place.open();
    append(&log, &[b"last group"], &mut Vec::new());
    log.close().unwrap();
    drop(log);
    let (file, frame) = (place.last_file(), frames(&place.last_file())[1]);
    edit(&file, |bytes| bytes[frame.0 + 44] ^= 1);
    assert_eq!(corrupt_at(&place.fails()), (file, frame.0 as u64, Lsn::new(1, 1)));
}

/// Without any file nothing but the control page knows that there was something.
#[test]
fn a_log_of_which_every_file_is_missing_is_corrupt_while_its_page_knows_of_a_record_that_is_needed() {
    let (place, model) = long_log();
    let (last, whole) = (place.last_file(), place.files().into_iter().map(|file| (fs::read(&file), file)));
    let whole: Vec<_> = whole.collect();
    let (first, end) = (model[0].0, model.last().unwrap().0);
    whole.iter().for_each(|(_, file)| fs::remove_file(file).unwrap());
    let left = image(&place);
    for error in [place.peek().unwrap_err(), place.fails()] {
        assert_eq!((corrupt_at(&error).0, corrupt_at(&error).1), (last.clone(), 0), "{error}");
        let (told, help) = (error.to_string(), error.help().unwrap());
        assert!(told.contains("every other log file") && told.contains(&end.to_string()), "{told}");
        assert!(help.contains(&format!("akidb repair wal-cut {} 0", last.display())), "{help}");
    }
    let within = Options { floor: end, ..place.options() };
    assert_eq!(corrupt_at(&Log::open(within).unwrap_err()).2, end);
    assert_eq!(image(&place), left, "nothing is changed");

    // Nothing of it is needed; there is no page, as in a copy without the log; its files are back.
    let copy = place.copy();
    let (log, recovered) = Log::open(Options { floor: end.plus(1), ..copy.options() }).unwrap();
    assert!(rows(&recovered).is_empty() && log.epoch() > end.epoch());
    let copy = place.copy();
    fs::remove_file(copy.path().join("control")).unwrap();
    assert_eq!(rows(&copy.open().1), []);
    let copy = place.copy();
    for (bytes, file) in whole {
        fs::write(copy.path().join(file.file_name().unwrap()), bytes.unwrap()).unwrap();
    }
    assert_eq!(rows(&copy.peek().unwrap()), model);

    let report = cut_at(&RealFs, &last, 0, false).unwrap();
    assert_eq!((report.saved_as, report.set_aside), (None, vec![]));
    let (log, recovered) = place.open();
    assert!(rows(&recovered).is_empty() && recovered.cut.is_some_and(|cut| cut.by_order));
    assert!(log.epoch() > first.epoch(), "no number is given out twice");
    let mut model = Vec::new();
    append_synced(&log, &[b"after the loss"], &mut model);
    drop(log);
    assert_eq!(rows(&place.open().1), model);
}

#[test]
fn a_missing_file_in_the_middle_or_at_the_front_is_corrupt() {
    let (place, model) = long_log();
    let files = place.used_files();
    for missing in &files[..files.len() - 1] {
        let bytes = fs::read(missing).unwrap();
        fs::remove_file(missing).unwrap();
        let error = place.peek().unwrap_err();
        let _ = corrupt_at(&error);
        assert!(error.to_string().contains(missing.file_name().unwrap().to_str().unwrap()), "{error}");
        fs::write(missing, bytes).unwrap();
    }
    assert_eq!(rows(&place.peek().unwrap()), model);
    // Of the newest file nobody else knows; a floor inside it does.
    let last = files.last().unwrap();
    fs::remove_file(last).unwrap();
    let floor = model.last().unwrap().0;
    let error = Log::open(Options { floor, ..place.options() }).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Corrupt { .. }), "{error}");
}

#[test]
fn a_truncated_file_is_corrupt_where_its_bytes_end() {
    let (place, _) = long_log();
    let file = place.last_file();
    let last = *frames(&file).last().unwrap();
    edit(&file, |bytes| bytes.truncate(last.0 + 20));
    assert_eq!(corrupt_at(&place.fails()).0, file);
    edit(&file, |bytes| bytes.truncate(100));
    assert_eq!(corrupt_at(&place.fails()).0, file);
    edit(&file, Vec::clear);
    let (named, offset, _) = corrupt_at(&place.fails());
    assert_eq!((named, offset), (file, 0));
}

#[test]
fn a_file_of_another_log_and_a_newer_format_are_refused_by_name() {
    let (place, other) = (Place::new(), Place::new());
    for at in [&place, &other] {
        let (log, _) = at.open();
        append_synced(&log, &[b"x"], &mut Vec::new());
        log.close().unwrap();
    }
    let foreign = place.path().join("0000000000000002.wal");
    drop(other.open());
    fs::copy(other.path().join("0000000000000002.wal"), &foreign).unwrap();
    let error = place.fails();
    assert!(matches!(error.kind(), ErrorKind::ForeignLog { file } if *file == foreign), "{error}");
    fs::remove_file(&foreign).unwrap();
    edit(&place.last_file(), |bytes| {
        for copy in [0, 2048] {
            bytes[copy + 8] = 2;
            bytes[copy + 12..copy + 16].fill(0);
            let crc = crc32(&bytes[copy..copy + 128]);
            bytes[copy + 12..copy + 16].copy_from_slice(&crc.to_le_bytes());
        }
    });
    let error = place.fails();
    assert!(matches!(error.kind(), ErrorKind::NewerFormat { .. }), "{error}");
}

/// The checksum of the format, spelt out once independently of the library that computes it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xEDB8_8320 } else { c >> 1 })
    })
}

#[test]
fn a_floor_between_two_epochs_leaves_a_log_that_opens_again() {
    let place = Place::new();
    let mut model = Vec::new();
    let (log, _) = place.open();
    append_synced(&log, &[b"of epoch 1"], &mut model);
    drop(log);
    let (log, _) = place.open();
    append_synced(&log, &[b"of epoch 2"], &mut model);
    drop(log);
    // Nothing but the floor is evidence, and it names the first record of epoch 2, not the one before that.
    fs::remove_file(place.path().join("control")).unwrap();
    // After a step back to an older manifest the floor is lower again.
    for floor in [Lsn::new(2, 1), Lsn::new(1, 2), Lsn::new(2, 1)] {
        let options = Options { floor, ..place.options() };
        let (_, recovered) = Log::open(options).unwrap_or_else(|e| panic!("floor {floor}: {e}"));
        assert_eq!(rows(&recovered), model[1..], "floor {floor}");
    }
}

/// With right checksums, in a file that was made by rotation: a START as a file made at an open has it.
#[test]
fn a_start_of_the_wrong_kind_is_cut_and_its_word_about_the_past_is_not_taken() {
    const START: usize = 4096;
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    while place.used_files().len() < 2 {
        append_synced(&log, &[&[7; 900]], &mut model);
    }
    drop(log);
    let rotated = place.last_file();
    place.files().iter().filter(|file| **file != rotated).for_each(|file| fs::remove_file(file).unwrap());
    fs::remove_file(place.path().join("control")).unwrap();
    edit(&rotated, |bytes| {
        bytes[START + 96..].fill(0);
        bytes[START + 8..START + 16].copy_from_slice(&Lsn::new(9, 10).as_u64().to_le_bytes());
        bytes[START + 32..START + 40].fill(0);
        let payload = &mut bytes[START + 40..START + 96];
        (payload[0], payload[8]) = (1, 0);
        payload[16..24].copy_from_slice(&Lsn::new(9, 9).as_u64().to_le_bytes());
        let pcrc = crc32fast::hash(payload).to_le_bytes();
        bytes[START + 16..START + 20].copy_from_slice(&pcrc);
        let hcrc = crc32fast::hash(&bytes[START + 4..START + 40]).to_le_bytes();
        bytes[START..START + 4].copy_from_slice(&hcrc);
    });
    assert_eq!(frames(&rotated).len(), 1, "its checksums are right");
    // Below the floor nothing is missed, so nothing but the START speaks of the past.
    let options = Options { floor: Lsn::new(1, 2), read_only: true, ..place.options() };
    let (_, recovered) = Log::open(options).unwrap();
    assert_eq!((recovered.last, recovered.cut.map(|cut| cut.offset)), (Lsn::new(1, 1), Some(START as u64)));
}
