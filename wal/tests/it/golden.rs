//! The format, frozen: bytes of three log files in the repository are read, and written again byte by byte.
//!
//! `AKIDB_BLESS=1 cargo test -p akidb-wal golden` writes the fixtures anew; a diff in them is a format change.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::RealFs;
use akidb_host::sim::{Act, EIO, HookFs, Op};
use akidb_wal::{ControlState, Log, Lsn, read_control};

use crate::support::{Place, append_synced, rows};

const FIXTURES: [&str; 3] = ["1-killed", "2-relogged", "3-continued"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"))
}

/// Lines of 16 bytes that are not all zero, with their offset; the last line is the length.
fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (i, line) in bytes.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|b| *b != 0)) {
        write!(text, "{:08x}", i * 16).unwrap();
        line.iter().for_each(|byte| write!(text, " {byte:02x}").unwrap());
        text.push('\n');
    }
    writeln!(text, "{:08x}", bytes.len()).unwrap();
    text
}

fn from_hex(text: &str) -> Vec<u8> {
    let number = |digits: &str| usize::from_str_radix(digits, 16).unwrap();
    let mut bytes = vec![0; number(text.lines().last().unwrap())];
    for line in text.lines() {
        let (at, line) = line.split_once(' ').unwrap_or((line, ""));
        for (i, digits) in line.split_whitespace().enumerate() {
            bytes[number(at) + i] = u8::try_from(number(digits)).unwrap();
        }
    }
    bytes
}

/// A killed session, one that re-logs its last record, and the file that one rotated into and sealed.
fn write_golden(place: &Place) -> Vec<crate::support::Row> {
    let mut model = Vec::new();
    let (log, _) = place.open();
    append_synced(&log, &[b"one"], &mut model);
    append_synced(&log, &[b"two", b"", b"three"], &mut model);
    drop(log);
    // Its evidence would prove the last group, and nothing would be re-logged.
    fs::remove_file(place.path().join("control")).unwrap();
    let (log, _) = place.open();
    append_synced(&log, &[b"four"], &mut model);
    append_synced(&log, &[&[5; 3900]], &mut model);
    log.close().unwrap();
    model
}

fn golden_place() -> Place {
    let mut place = Place::new();
    place.config.salt_seed = Some(0xA41D);
    // Without a boot id, which is this machine's.
    let hook = |call: &akidb_host::sim::Call<'_>| match call.op {
        Op::Open if call.path.starts_with("/proc") => Act::Fail(EIO),
        _ => Act::Go,
    };
    place.fs = Arc::new(HookFs::new(Arc::new(RealFs), Arc::new(hook)));
    place
}

#[test]
fn the_golden_bytes_are_written_again_and_read() {
    let place = golden_place();
    let model = write_golden(&place);
    let files = place.files();
    assert_eq!(files.len(), FIXTURES.len());
    for (file, name) in files.iter().zip(FIXTURES) {
        let written = to_hex(&fs::read(file).unwrap());
        if std::env::var_os("AKIDB_BLESS").is_some() {
            fs::create_dir_all(fixture(name).parent().unwrap()).unwrap();
            fs::write(fixture(name), &written).unwrap();
        }
        let expected = fs::read_to_string(fixture(name)).unwrap();
        assert!(written == expected, "{name}: the bytes changed:\n{written}\nnot\n{expected}");
        // And from the fixture alone.
        fs::write(file, from_hex(&expected)).unwrap();
    }
    let recovered = place.peek().unwrap();
    assert_eq!(rows(&recovered), model);
    assert_eq!((recovered.proven, &recovered.cut), (Lsn::new(2, 2), &None));
    let (log, recovered) = Log::open(place.options()).unwrap();
    assert_eq!((log.epoch(), rows(&recovered)), (3, model));
}

#[test]
fn the_golden_control_page_is_written_again_and_read() {
    let place = golden_place();
    let model = write_golden(&place);
    let path = place.path().join("control");
    let mut page = fs::read(&path).unwrap();
    // How often it was woken is a matter of how syncs met.
    assert_ne!(page[76..80], [0; 4]);
    page[76..80].fill(0);
    let written = to_hex(&page);
    if std::env::var_os("AKIDB_BLESS").is_some() {
        fs::write(fixture("control"), &written).unwrap();
    }
    let expected = fs::read_to_string(fixture("control")).unwrap();
    assert!(written == expected, "the bytes changed:\n{written}\nnot\n{expected}");
    fs::write(&path, from_hex(&expected)).unwrap();
    let facts = read_control(&RealFs, &place.path()).unwrap();
    assert_eq!((facts.epoch, facts.durable), (2, Some(model.last().unwrap().0)));
    assert_eq!((facts.state, facts.active_seq), (Some(ControlState::Closed), 3));
    assert_eq!((facts.pid, facts.start_ticks, facts.readers, facts.boot_id), (0, 0, 0, [0; 16]));
}
