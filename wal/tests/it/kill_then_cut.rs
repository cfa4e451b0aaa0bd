//! A process dies, the log is opened again, and then the power fails: what only the page cache held of the old files
//! goes, and nothing may hang on it.

use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::support::{Place, Row, append, append_synced, edit, frames, rows};

/// Opens the log after the death of its process, then takes what was never synced: these frames of an old file.
fn opens_again_without(place: &Place, file: &Path, lost: &[(usize, usize)], model: &[Row]) {
    let (log, recovered) = place.open();
    assert_eq!(rows(&recovered), model, "the page cache held all of it");
    drop((log, recovered));
    edit(file, |bytes| lost.iter().for_each(|(at, len)| bytes[*at..at + len].fill(0)));
    let (_, recovered) = place.open();
    assert_eq!(rows(&recovered), model, "all of it was shown, so all of it stays");
}

#[test]
fn a_stamp_in_the_page_cache_is_nothing_to_begin_behind() {
    let mut place = Place::new();
    place.config.stamp_after = Duration::from_millis(2);
    let (log, _) = place.open();
    let mut model = Vec::new();
    append_synced(&log, &[b"acknowledged"], &mut model);
    let file = place.last_file();
    let stamp = || frames(&file).into_iter().find(|frame| frame.1 == "stamp");
    // The stamp has no event; look until it is there, the test runner's own limit is the clock.
    while stamp().is_none() {
        thread::yield_now();
    }
    drop(log);
    let (at, _, _, len) = stamp().unwrap();
    opens_again_without(&place, &file, &[(at, len)], &model);
}

#[test]
fn nor_is_the_start_of_a_file_in_which_nothing_was_acknowledged() {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    while place.used_files().len() == 1 {
        let appended = append(&log, &[&[7; 500]], &mut model);
        if place.used_files().len() == 1 {
            log.wait(appended.last).unwrap();
        }
    }
    drop(log);
    let [first, second] = &place.used_files()[..] else { panic!("one rotation") };
    assert_eq!(frames(first).last().unwrap().1, "seal");
    assert_eq!(frames(second).iter().map(|frame| frame.1).collect::<Vec<_>>(), ["start", "batch"]);
    let lost: Vec<_> = frames(second).iter().map(|frame| (frame.0, frame.3)).collect();
    opens_again_without(&place, second, &lost, &model);
}

#[test]
fn nor_is_a_seal_whose_sync_did_not_return() {
    let place = Place::new();
    let (log, _) = place.open();
    let mut model = Vec::new();
    append_synced(&log, &[b"acknowledged"], &mut model);
    log.close().unwrap();
    drop(log);
    let file = place.last_file();
    let (at, kind, _, len) = *frames(&file).last().unwrap();
    assert_eq!(kind, "seal");
    opens_again_without(&place, &file, &[(at, len)], &model);
}
