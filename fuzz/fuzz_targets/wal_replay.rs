//! Any bytes as a log's directory: an open gives records, a typed error or a reported cut, and what one open shows,
//! the next one shows too. No panic, no hang, no file touched by an open that refuses.
//!
//! Input: flags, floor epoch, floor counter, then patches `{file, offset / 8, length, bytes}` of two log files and
//! the control page. Chance does not find a CRC-32, so with flag 1 all checksums and salts are put right afterwards,
//! but those of frames marked to stay damaged.
#![no_main]

#[path = "wal_replay/memory_fs.rs"]
mod memory_fs;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::RealClock;
use akidb_host::sim::InlineSpawn;
use akidb_wal::{Config, ErrorKind, Log, Lsn, Options, Recovered, Step, WritePath};
use libfuzzer_sys::fuzz_target;

use crate::memory_fs::MemoryFs;

const PAGE: usize = 4096;
const FRAME_HEADER: usize = 40;
const REPAIR: u8 = 1;
const TWO_FILES: u8 = 2;
const WITH_PAGE: u8 = 4;
const BIG_FILES: u8 = 8;
/// In the place of a frame's flags: leave its checksums wrong.
const STAY_DAMAGED: u8 = 0xFF;

type Row = (Lsn, Lsn, Vec<u8>);

fuzz_target!(|input: &[u8]| {
    let Some((head, patches)) = input.split_at_checked(3) else { return };
    let fs = MemoryFs::default();
    for (name, bytes) in directory(head[0], patches) {
        fs.put(&dir().join(name), bytes);
    }
    let floor = match (u32::from(head[1]), u64::from(head[2])) {
        (0, 0) => Lsn::ZERO,
        (epoch, counter) => Lsn::new(epoch, counter),
    };
    check(&fs, floor);
});

fn check(fs: &MemoryFs, floor: Lsn) {
    let before = fs.content();
    let peeked = Log::open(options(fs, floor, true)).map(|(_, recovered)| rows(&recovered, floor));
    assert!(fs.content() == before, "a read-only open changed a file");
    let (log, recovered) = match Log::open(options(fs, floor, false)) {
        Ok(opened) => opened,
        Err(e) => {
            let spent = matches!(e.kind(), ErrorKind::Invalid(_));
            assert!(peeked.is_err() || spent, "only the read-only open succeeded: {e}");
            assert!(fs.content() == before, "an open that refused changed a file: {e}");
            return;
        }
    };
    let mut expected = rows(&recovered, floor);
    assert_eq!(peeked.expect("both opens judge alike"), expected);
    drop(recovered);
    let read = match read_from(&log, floor) {
        // A log may begin above the floor.
        Err(oldest) => read_from(&log, oldest).expect("the oldest record is there"),
        Ok(read) => read,
    };
    assert_eq!(read, expected, "a reader sees what the open found");
    let added = log.commit(&[b"one more", b""]).expect("the log is open");
    expected.push((added.first, added.last, b"one more".to_vec()));
    expected.push((added.last, added.last, Vec::new()));
    // A crash, now.
    let (_, recovered) = match Log::open(options(&fs.copy(), floor, false)) {
        // There was one epoch left, and it is spent.
        Err(e) if log.epoch() == Lsn::MAX_EPOCH && matches!(e.kind(), ErrorKind::Invalid(_)) => return,
        opened => opened.expect("an open leaves a log that opens"),
    };
    assert_eq!(rows(&recovered, floor), expected);
    assert_eq!(recovered.proven, added.last);
}

/// What a reader sees now, or where the log begins.
fn read_from(log: &Log, from: Lsn) -> Result<Vec<Row>, Lsn> {
    let mut reader = log.read(from).expect("the floor is the floor");
    let mut read = Vec::new();
    loop {
        match reader.try_next() {
            Ok(Step::Record(record)) => read.push((record.lsn, record.frame_last, record.bytes.to_vec())),
            Ok(_) => return Ok(read),
            Err(e) => match e.kind() {
                ErrorKind::Lagged { oldest, .. } if read.is_empty() => return Err(*oldest),
                _ => panic!("what was recovered cannot be read: {e}"),
            },
        }
    }
}

fn rows(recovered: &Recovered, floor: Lsn) -> Vec<Row> {
    let rows: Vec<Row> = recovered
        .records
        .iter()
        .map(|record| record.expect("intact when the log was opened"))
        .map(|record| (record.lsn, record.frame_last, record.bytes.to_vec()))
        .collect();
    assert!(rows.is_sorted_by(|a, b| a.0 < b.0) && rows.iter().all(|row| row.0 >= floor));
    assert!(rows.last().is_none_or(|row| row.0 == recovered.last));
    rows
}

fn dir() -> PathBuf {
    Path::new("/wal").into()
}

fn options(fs: &MemoryFs, floor: Lsn, read_only: bool) -> Options {
    let mut config = Config::default();
    config.first_file_bytes = 8192;
    config.max_file_bytes = 8192;
    config.reserve_bytes = 0;
    config.salt_seed = Some(7);
    config.write_path = WritePath::Positioned;
    Options {
        dir: dir(),
        fs: Arc::new(fs.clone()),
        clock: Arc::new(RealClock),
        spawn: Arc::new(InlineSpawn::default()),
        config,
        min_epoch: 0,
        floor,
        read_only,
    }
}

fn directory(flags: u8, mut patches: &[u8]) -> Vec<(String, Vec<u8>)> {
    let log_bytes = if flags & BIG_FILES == 0 { 2 * PAGE } else { 4 * PAGE };
    let mut files = [vec![0; log_bytes], vec![0; log_bytes], vec![0; PAGE]];
    while let [file, low, high, len, rest @ ..] = patches {
        let (bytes, later) = rest.split_at(rest.len().min(usize::from(*len)));
        patches = later;
        let at = usize::from(u16::from_le_bytes([*low, *high])) * 8;
        let file = &mut files[usize::from(*file) % 3];
        if let Some(room) = file.get_mut(at..(at + bytes.len()).min(log_bytes)) {
            room.copy_from_slice(&bytes[..room.len()]);
        }
    }
    let [mut first, mut second, mut page] = files;
    if flags & REPAIR != 0 {
        let log_id: [u8; 16] = first[16..32].try_into().expect("16 bytes");
        repair_log(&mut first, 1, log_id);
        repair_log(&mut second, 2, log_id);
        repair_page(&mut page, log_id);
    }
    let mut all = vec![(file_name(1), first)];
    if flags & TWO_FILES != 0 {
        all.push((file_name(2), second));
    }
    if flags & WITH_PAGE != 0 {
        all.push(("control".into(), page));
    }
    all
}

fn file_name(seq: u64) -> String {
    format!("{seq:016x}.wal")
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// A header that this version reads, and frames with right checksums one behind the other (docs/formats/wal.md).
fn repair_log(file: &mut [u8], seq: u64, log_id: [u8; 16]) {
    let size = file.len() as u64;
    file[..8].copy_from_slice(b"AKIDBWAL");
    file[8..10].copy_from_slice(&1_u16.to_le_bytes());
    file[16..32].copy_from_slice(&log_id);
    file[32..40].copy_from_slice(&seq.to_le_bytes());
    file[48..56].copy_from_slice(&size.to_le_bytes());
    put_u32(file, 56, 8);
    put_u32(file, 60, 4096);
    file[64..72].fill(0);
    file[82..84].fill(0);
    file[84] = 1 + file[84] % 3;
    file[12..16].fill(0);
    let crc = crc32fast::hash(&file[..128]);
    put_u32(file, 12, crc);
    file.copy_within(..128, 2048);
    let salt: [u8; 8] = file[40..48].try_into().expect("8 bytes");
    let mut at = PAGE;
    while let Some(frame) = file.get_mut(at..).filter(|rest| rest.len() >= FRAME_HEADER) {
        if frame[..FRAME_HEADER].iter().all(|b| *b == 0) {
            return;
        }
        let most = (frame.len() - FRAME_HEADER) / 8 * 8;
        let len = (u32::from_le_bytes(frame[4..8].try_into().expect("4 bytes")) as usize).min(most);
        let padded = (FRAME_HEADER + len).next_multiple_of(8);
        if frame[21] != STAY_DAMAGED {
            put_u32(frame, 4, u32::try_from(len).expect("less than a file"));
            frame[24..32].copy_from_slice(&salt);
            frame[FRAME_HEADER + len..padded].fill(0);
            let payload_crc = crc32fast::hash(&frame[FRAME_HEADER..FRAME_HEADER + len]);
            put_u32(frame, 16, payload_crc);
            let header_crc = crc32fast::hash(&frame[4..FRAME_HEADER]);
            put_u32(frame, 0, header_crc);
        }
        at += padded;
    }
}

/// The identity's checksum and the check word (docs/formats/control.md).
fn repair_page(page: &mut [u8], log_id: [u8; 16]) {
    page[..8].copy_from_slice(b"AKIDBCTL");
    page[8..10].copy_from_slice(&1_u16.to_le_bytes());
    page[16..32].copy_from_slice(&log_id);
    page[12..16].fill(0);
    let crc = crc32fast::hash(&page[..64]);
    put_u32(page, 12, crc);
    let durable: [u8; 8] = page[64..72].try_into().expect("8 bytes");
    let check = crc32fast::hash(&[&log_id[..], &durable[..]].concat());
    put_u32(page, 80, check);
}
