//! `wal-cut`: after it the log opens, says so, and every byte is still there under another name.

use std::fs;

use akidb_host::RealFs;
use akidb_wal::{ErrorKind, Log, Options, cut_at, inspect};

use crate::support::{Place, append_synced, corrupt_at, edit, frames, rows};

fn damaged() -> (Place, Vec<crate::support::Row>) {
    let place = Place::new();
    let mut model = Vec::new();
    for _ in 0..2 {
        let (log, _) = place.open();
        for i in 0..25_u8 {
            append_synced(&log, &[&vec![i; 500]], &mut model);
        }
    }
    (place, model)
}

#[test]
fn a_cut_at_the_reported_offset_lets_the_log_open_and_keeps_every_byte() {
    let (place, mut model) = damaged();
    let file = place.files()[1].clone();
    let frame = frames(&file)[4];
    edit(&file, |bytes| bytes[frame.0 + 50] ^= 4);
    let (named, offset, lsn) = corrupt_at(&place.fails());
    assert_eq!((&named, offset), (&file, frame.0 as u64));
    let before = place.content();
    let wrong = cut_at(&RealFs, &file, offset - 8, false).unwrap_err();
    assert!(matches!(wrong.kind(), ErrorKind::Invalid(_)), "{wrong}");
    let planned = cut_at(&RealFs, &file, offset, true).unwrap();
    assert!(place.content() == before, "a dry run changes nothing");
    let report = cut_at(&RealFs, &file, offset, false).unwrap();
    assert_eq!(report, planned);
    assert_eq!(report.last_kept, lsn.pred());
    for (name, bytes) in before {
        let aside = place.content().into_iter().filter(|(other, _)| {
            other.to_str().unwrap().starts_with(name.to_str().unwrap()) && *other != name
        });
        let kept: Vec<_> = aside.chain(place.content().into_iter().filter(|f| f.0 == name)).collect();
        assert!(kept.iter().any(|(_, content)| *content == bytes), "{} is kept", name.display());
    }
    // Whatever the manifest says: the cut is an order.
    let floor = model[30].0;
    assert!(floor > lsn);
    for floor in [akidb_wal::Lsn::ZERO, floor] {
        let copy = place.copy();
        let (log, recovered) = Log::open(Options { floor, ..copy.options() }).unwrap();
        assert!(recovered.cut.as_ref().is_some_and(|cut| cut.by_order && cut.offset == offset));
        assert_eq!(log.epoch(), 3, "epochs of files set aside are not given out again");
    }
    model.retain(|row| row.0 < lsn);
    let (log, recovered) = place.open();
    assert_eq!(rows(&recovered), model);
    append_synced(&log, &[b"life goes on"], &mut model);
    drop((log, recovered));
    let (_, recovered) = place.open();
    assert_eq!((rows(&recovered), recovered.cut.clone()), (model, None));
}

#[test]
fn a_lost_header_and_a_missing_file_can_be_cut_too() {
    // Both copies of the header, the file, the first frame's payload.
    for what in ["header", "file", "start"] {
        let missing = what == "file";
        let (place, mut model) = damaged();
        let file = place.files()[1].clone();
        let first = inspect(&RealFs, &file).unwrap().frames[0].lsn;
        if missing {
            fs::remove_file(&file).unwrap();
        } else if what == "header" {
            edit(&file, |bytes| bytes[..4096].fill(0xFF));
        } else {
            edit(&file, |bytes| bytes[4096 + 50] ^= 1);
        }
        let (named, offset, _) = corrupt_at(&place.fails());
        assert_eq!((&named, offset), (&file, if what == "start" { 4096 } else { 0 }));
        let report = cut_at(&RealFs, &named, offset, false).unwrap();
        assert_eq!(report.saved_as.is_some(), !missing);
        model.retain(|row| row.0 < first);
        let (log, recovered) = place.open();
        assert_eq!(rows(&recovered), model, "{what}");
        assert!(recovered.cut.as_ref().is_some_and(|cut| cut.by_order));
        assert_eq!(log.epoch(), 3);
        append_synced(&log, &[b"more"], &mut model);
        drop((log, recovered));
        assert_eq!(rows(&place.open().1), model);
    }
}

#[test]
fn a_second_cut_overwrites_no_earlier_copy() {
    let (place, _) = damaged();
    let file = place.files()[0].clone();
    let offset = frames(&file)[3].0 as u64;
    let first = cut_at(&RealFs, &file, offset, false).unwrap();
    let second = cut_at(&RealFs, &file, frames(&file)[2].0 as u64, false).unwrap();
    assert_ne!(first.saved_as, second.saved_as);
    assert!(first.saved_as.unwrap().exists() && second.saved_as.unwrap().exists());
    assert_eq!(rows(&place.open().1).len(), 1);
}

#[test]
fn inspect_lists_what_a_file_holds_and_what_lies_behind_damage() {
    let (place, _) = damaged();
    let file = place.files()[0].clone();
    let whole = inspect(&RealFs, &file).unwrap();
    assert_eq!((whole.header.seq, whole.header.epoch, whole.header.made_at_open), (1, 1, true));
    assert_eq!((whole.frames[0].kind, whole.end_reason), ("start", "sealed"));
    edit(&file, |bytes| bytes[whole.frames[2].offset as usize + 41] ^= 1);
    let broken = inspect(&RealFs, &file).unwrap();
    assert_eq!(broken.end_offset, whole.frames[2].offset);
    assert_eq!(broken.frames.len(), whole.frames.len());
    assert!(!broken.frames[2].ok && broken.frames[3].ok);
    let other = place.path().join("notes.txt");
    fs::write(&other, b"not a log").unwrap();
    assert!(inspect(&RealFs, &other).is_err());
}
