//! What an acknowledgement costs, counted from outside: system calls by strace, bytes by the kernel's own account.
//! The counted work runs in a process of its own, this binary once more, so that no neighbour is counted with it.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use akidb_host::sim::{Act, HookFs, InlineSpawn};
use akidb_host::{Fs, FsKind, RealClock, RealFs, RealSpawn, Spawn};
use akidb_wal::{Config, Log, Lsn, Options, WritePath};

/// A record with a 384-dimensional vector and a short text.
const RECORD_BYTES: usize = 1_640;
const WARM_UP: u32 = 64;
const ACKS: u32 = 1_000;
/// Spares, and the file that a full disk is opened on: at most so many syncs of their content.
const FILES_PREPARED: u64 = 8;
/// How the counting process learns how many records it shall write.
const ACKS_VARIABLE: &str = "AKIDB_COST_ACKS";
/// Set if it shall write by calls, not by stores.
const POSITIONED_VARIABLE: &str = "AKIDB_COST_POSITIONED";
/// Set if no thread shall prepare files meanwhile: their zeros are not what an acknowledgement costs.
const ALONE_VARIABLE: &str = "AKIDB_COST_ALONE";
/// What it prints before the bytes it caused to be written for them.
const WROTE: &str = "bytes written: ";
/// Every call that makes bytes durable; opens are traced for their flags.
const TRACED: &str =
    "trace=fsync,fdatasync,msync,sync_file_range,sync,syncfs,pwritev2,open,openat,openat2,io_uring_enter";

/// The counted work: acknowledges records one after another, each waited for. Does nothing unless asked.
#[test]
fn counted_work() {
    let Ok(acks) = env::var(ACKS_VARIABLE) else { return };
    let acks: u32 = acks.parse().unwrap();
    let dir = disk_dir();
    let mut config = Config::default();
    // No rotation and no stamp in between: what is counted is the acknowledgement itself.
    config.first_file_bytes = 8 << 20;
    config.stamp_after = Duration::from_secs(3600);
    config.write_path =
        if env::var_os(POSITIONED_VARIABLE).is_some() { WritePath::Positioned } else { WritePath::Mapped };
    let spawn: Arc<dyn Spawn> = match env::var_os(ALONE_VARIABLE) {
        Some(_) => Arc::new(InlineSpawn::default()),
        None => Arc::new(RealSpawn),
    };
    let options = Options {
        dir: dir.path().join("wal"),
        fs: Arc::new(RealFs),
        clock: Arc::new(RealClock),
        spawn,
        config,
        min_epoch: 0,
        floor: Lsn::ZERO,
        read_only: false,
    };
    let (log, _) = Log::open(options).unwrap();
    let record = [0x5a; RECORD_BYTES];
    let acknowledge = |n| (0..n).for_each(|_| log.wait(log.append(&[&record]).unwrap().last).unwrap());
    acknowledge(WARM_UP);
    let before = RealFs.written_bytes();
    acknowledge(acks);
    if let (Some(before), Some(after)) = (before, RealFs.written_bytes()) {
        println!("{WROTE}{}", after - before);
    }
}

/// On the disk of the build: /tmp may be memory.
fn disk_dir() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn counted_work_by(program: &[&str], acks: u32, positioned: bool, alone: bool) -> Option<String> {
    let me = env::current_exe().unwrap();
    let mut words: Vec<&std::ffi::OsStr> = program.iter().map(|word| word.as_ref()).collect();
    let test = ["--exact", "cost::counted_work", "--nocapture"];
    words.push(me.as_os_str());
    words.extend(test.iter().map(std::ffi::OsStr::new));
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env(ACKS_VARIABLE, acks.to_string());
    if positioned {
        command.env(POSITIONED_VARIABLE, "1");
    }
    if alone {
        command.env(ALONE_VARIABLE, "1");
    }
    let done = command.output().ok()?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let complained = String::from_utf8_lossy(&done.stderr);
    if complained.contains("ptrace") || complained.contains("PTRACE") {
        return None;
    }
    assert!(done.status.success() && said.contains("1 passed"), "{said}{complained}");
    Some(said)
}

/// `fdatasync` calls, other syncs, and opens that make every write a sync, of a run of `acks` acknowledgements.
fn traced(acks: u32, positioned: bool, alone: bool, dir: &Path) -> Option<(u64, u64, u64)> {
    let trace = dir.join(format!("trace-{acks}"));
    let strace = ["strace", "-f", "-qq", "-e", TRACED, "-o", trace.to_str().unwrap()];
    counted_work_by(&strace, acks, positioned, alone)?;
    let text = fs::read_to_string(&trace).unwrap();
    let mut counts = (0, 0, 0);
    for line in text.lines().filter(|line| !line.contains("resumed>")) {
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
        match call.split('(').next().unwrap_or_default() {
            "fdatasync" => counts.0 += 1,
            "open" | "openat" | "openat2" => counts.2 += u64::from(call.contains("SYNC")),
            "pwritev2" => counts.1 += u64::from(call.contains("SYNC")),
            name if !name.is_empty() && !name.starts_with(['-', '+']) => counts.1 += 1,
            _ => {}
        }
    }
    Some(counts)
}

#[test]
fn an_acknowledgement_is_one_fdatasync_and_no_other_sync() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (positioned, alone) in [(false, true), (true, true), (false, false), (true, false)] {
        // Two runs that differ in their acknowledgements alone: what an open does is in both.
        let few = traced(10, positioned, alone, dir.path());
        let (Some(few), Some(many)) = (few, traced(10 + ACKS, positioned, alone, dir.path())) else {
            println!("skipped: strace may not trace here");
            return;
        };
        println!(
            "fdatasync, other syncs, synced opens: {few:?} of 10 acknowledgements, {many:?} of {}",
            10 + ACKS
        );
        assert!(few.0 >= u64::from(10 + WARM_UP), "the trace saw the acknowledgements");
        // Beside the callers the log's threads sync the files they prepare, in one of the two runs or in both.
        let (fewest, prepared) = (u64::from(ACKS), if alone { 0 } else { FILES_PREPARED });
        let more = many.0 + prepared - few.0;
        assert!((fewest..=fewest + 2 * prepared).contains(&more), "{few:?} {many:?}");
        assert!(many.1.abs_diff(few.1) <= 4 * prepared && many.2 == 0, "{few:?} {many:?}");
    }
}

#[test]
fn an_acknowledgement_writes_its_pages_and_little_more() {
    let dir = disk_dir();
    let kind = RealFs.statfs(dir.path()).unwrap().kind;
    for positioned in [false, true] {
        let said = counted_work_by(&[], ACKS, positioned, true).expect("this binary runs itself");
        let bytes: Option<u64> = said.lines().find_map(|line| line.split_once(WROTE)?.1.trim().parse().ok());
        let Some(bytes) = bytes.filter(|bytes| *bytes > 0 && kind == FsKind::Local) else {
            println!("skipped: bytes written are not told here ({kind:?} file system, {bytes:?})");
            return;
        };
        let kib = bytes as f64 / 1024.0 / f64::from(ACKS);
        println!("{kib:.2} KiB to the device for an acknowledgement of {RECORD_BYTES} bytes");
        assert!(kib <= 6.5, "{kib} KiB");
    }
}

/// Where each block is written to a new place a store can find the disk full, which ends the process.
#[test]
fn frames_are_written_by_calls_where_stores_take_room() {
    let dir = disk_dir();
    let path_on = |kind: Option<FsKind>, name: &str| {
        let fs = HookFs::new(Arc::new(RealFs), Arc::new(|_| Act::Go));
        let fs = match kind {
            Some(kind) => fs.said_to_be(kind),
            None => fs,
        };
        let options = Options {
            dir: dir.path().join(name),
            fs: Arc::new(fs),
            clock: Arc::new(RealClock),
            spawn: Arc::new(InlineSpawn::default()),
            config: Config::default(),
            min_epoch: 0,
            floor: Lsn::ZERO,
            read_only: false,
        };
        Log::open(options).unwrap().0.counters().write_path
    };
    let usual = path_on(None, "usual");
    println!("{usual:?} without a word of it");
    assert_eq!(path_on(Some(FsKind::Local), "local"), usual);
    assert_eq!(path_on(Some(FsKind::CopyOnWrite), "cow"), WritePath::Positioned);
}

#[test]
fn the_counters_tell_what_was_done() {
    let place = crate::support::Place::new();
    let (log, _) = place.open();
    let before = log.counters();
    for _ in 0..3 {
        log.wait(log.append(&[b"record"]).unwrap().last).unwrap();
    }
    let after = log.counters();
    assert_eq!((after.syncs - before.syncs, after.frames_synced - before.frames_synced), (3, 3), "{after:?}");
    assert_eq!((after.rotations, after.recycled), (0, 0), "{after:?}");
}
