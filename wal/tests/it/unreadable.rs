//! Pages that the disk cannot read: an error with file and place, from every tool, and never a look at the map.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use akidb_host::RealFs;
use akidb_host::sim::{Act, Call, EIO, HookFs, InlineSpawn, Op};
use akidb_wal::{ErrorKind, cut_at, inspect};

use crate::support::{Place, append_synced, frames, rows};

/// What the kernel answers where a look would be a SIGBUS.
const EFAULT: i32 = 14;

/// A page of a log file that the disk cannot read: no map may be looked at there, that is a SIGBUS.
#[test]
fn a_page_that_the_disk_cannot_read_is_an_error_with_its_place_and_can_be_cut_off() {
    const PAGE: u64 = 4096;
    let mut place = Place::new();
    place.config.first_file_bytes = 16 * PAGE;
    place.spawn = Arc::new(InlineSpawn::default());
    let (log, _) = place.open();
    let mut model = Vec::new();
    for fill in 0..30_u8 {
        append_synced(&log, &[&[fill; 1000]], &mut model);
    }
    drop(log);
    let (file, content) = (place.last_file(), place.content());
    let ends: Vec<u64> = frames(&file).iter().map(|(at, _, _, bytes)| (at + bytes) as u64).collect();
    let bad = Arc::new(AtomicU64::new(0));
    let (at, of) = (Arc::clone(&bad), file.clone());
    let seen = Arc::new(AtomicU64::new(0));
    let calls = Arc::clone(&seen);
    let hook = move |call: &Call<'_>| {
        let at = at.load(Ordering::SeqCst);
        let there = call.path == of && call.offset < at + PAGE && at < call.offset + call.len;
        match call.op {
            Op::Populate => {
                calls.fetch_add(1, Ordering::SeqCst);
                if there { Act::Fail(EFAULT) } else { Act::Go }
            }
            Op::ReadAt if there => Act::Fail(EIO),
            _ => Act::Go,
        }
    };
    place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
    // The header, the first frames, those in the middle, the zeros behind them.
    for page in [0, 1, 3, 14] {
        bad.store(page * PAGE, Ordering::SeqCst);
        for error in [place.fails(), place.peek().unwrap_err()] {
            let ErrorKind::Unreadable { file: named, offset, source } = error.kind() else {
                panic!("{error}")
            };
            assert_eq!((named, *offset, source.raw_os_error()), (&file, page * PAGE, Some(EIO)));
            assert!(error.help().unwrap().contains("wal-cut"), "{error}");
        }
        assert_eq!(place.content(), content, "nothing was modified");
    }
    assert!(seen.load(Ordering::SeqCst) > 0, "a map was looked at that nobody asked for");
    bad.store(3 * PAGE, Ordering::SeqCst);
    let dump = inspect(&*place.fs, &file).unwrap();
    let last = ends.iter().rfind(|end| **end <= 3 * PAGE).unwrap();
    assert_eq!(dump.end_offset, *last);
    let cut = cut_at(&*place.fs, &file, *last, false).unwrap();
    let (saved, before) =
        (fs::read(cut.saved_as.unwrap()).unwrap(), content.iter().find(|(f, _)| *f == file));
    let mut before = before.unwrap().1.clone();
    before[3 * PAGE as usize..4 * PAGE as usize].fill(0);
    assert!(saved == before, "the copy has all that can be read");
    place.fs = Arc::new(RealFs);
    assert_eq!(rows(&place.open().1), model[..dump.frames.iter().filter(|f| f.kind == "batch").count()]);
}
