//! Single-bit flips in acknowledged frames, thousands of them: an error at the frame's offset, or, where nothing encoded
//! later proves the frame, a reported cut.

use std::path::{Path, PathBuf};
use std::time::Duration;

use akidb_host::sim::{CrashDisk, FakeClock, InlineSpawn};
use akidb_host::{Clock, Fs as _, RealClock, Rng};
use akidb_wal::{Durability, ErrorKind, FrameFacts, Log, Lsn, Options, Recovered, WritePath, inspect};

use crate::power_cuts::machine::{DIR, Machine};
use crate::power_cuts::number;
use crate::power_cuts::truth::Truth;
use crate::support::{Row, rows, small_config};

const FLIPS_PER_LOG: u64 = 500;

#[derive(Debug, Default)]
struct Tally {
    flips: u64,
    /// `Corrupt` at the frame's offset.
    reported: u64,
    /// A reported cut at the frame's offset: nothing was encoded after the sync that acknowledged it.
    without_later_stamp: u64,
    /// In a frame that the next session copied: no effect, the copy is read.
    superseded: u64,
}

/// A log of a few sessions, opened by nobody.
struct Still {
    disk: CrashDisk,
    rows: Vec<Row>,
    /// Every record up to here was acknowledged.
    acked: Lsn,
}

fn log_of(rng: &mut Rng) -> Still {
    let mut config = small_config();
    config.linger_max = Duration::ZERO;
    config.stamp_after = Duration::from_millis(5);
    config.max_file_bytes = 8192 << rng.below(2);
    config.write_path = if rng.below(2) == 0 { WritePath::Mapped } else { WritePath::Positioned };
    config.durability = if rng.below(4) == 0 { Durability::Memory } else { Durability::LocalSynced };
    let mut machine = Machine::new(CrashDisk::new(rng.u64()), Truth::default(), config, u64::MAX, rng);
    for _ in 0..1 + rng.below(3) {
        let log = machine.open().unwrap();
        for fill in 0..10 + rng.below(20) {
            let len = usize::try_from([300, 300, rng.below(1_500)][usize::try_from(rng.below(3)).unwrap()])
                .unwrap();
            let batch = (0..1 + rng.below(3)).map(|_| vec![fill as u8; len].into()).collect();
            let last = machine.append(&log, batch).unwrap();
            if rng.below(3) > 0 {
                machine.wait(&log, last).unwrap();
            }
            if rng.below(6) == 0 {
                machine.rest(Duration::from_millis(6));
            }
        }
        let synced = log.watermarks().synced;
        machine.truth(|truth| truth.promise(synced));
        if rng.below(4) == 0 {
            log.close().unwrap();
        }
        drop(log);
        machine.reboot(machine.disk.kill());
    }
    if rng.below(2) == 0 {
        machine.disk.unlink(&Path::new(DIR).join("control")).unwrap();
    }
    let acked = machine.truth(|truth| truth.promised);
    let rows = rows(&peek(&machine.disk).unwrap());
    Still { disk: machine.disk, rows, acked }
}

fn peek(disk: &CrashDisk) -> Result<Recovered, akidb_wal::Error> {
    let options = Options {
        dir: DIR.into(),
        fs: std::sync::Arc::new(disk.clone()),
        clock: std::sync::Arc::new(FakeClock::default()),
        spawn: std::sync::Arc::new(InlineSpawn::default()),
        config: small_config(),
        min_epoch: 0,
        floor: Lsn::ZERO,
        read_only: true,
    };
    Log::open(options).map(|(_, recovered)| recovered)
}

/// Every intact frame with its file, in order.
fn frames(disk: &CrashDisk) -> Vec<(PathBuf, FrameFacts)> {
    let names = disk.list(Path::new(DIR)).unwrap();
    let files =
        names.iter().filter(|entry| entry.name.ends_with(".wal")).map(|e| Path::new(DIR).join(&e.name));
    files
        .flat_map(|path| inspect(disk, &path).unwrap().frames.into_iter().map(move |f| (path.clone(), f)))
        .collect()
}

fn flip(still: &Still, all: &[(PathBuf, FrameFacts)], at: usize, rng: &mut Rng, tally: &mut Tally) {
    let (file, frame) = &all[at];
    let bytes = (40 + u64::from(frame.len)).next_multiple_of(8);
    let byte = usize::try_from(frame.offset + rng.below(bytes)).unwrap();
    let bit = 1 << rng.below(8);
    let what = format!("bit {bit:#x} of byte {byte} of {} in {frame:?}", file.display());
    still.disk.rot(file, |bytes| bytes[byte] ^= bit).unwrap();
    match peek(&still.disk) {
        Err(e) => {
            let ErrorKind::Corrupt { file: named, offset, .. } = e.kind() else { panic!("{what}: {e}") };
            assert_eq!((named, *offset), (file, frame.offset), "{what}: {e}");
            tally.reported += 1;
        }
        Ok(recovered) => match &recovered.cut {
            Some(cut) => {
                assert_eq!((&cut.file, cut.offset), (file, frame.offset), "{what}");
                let later = all[at + 1..].iter().find(|(_, later)| later.durable >= frame.lsn);
                assert!(later.is_none(), "{what}: silently cut, but proven by {later:?}");
                assert!(
                    still.disk.metadata(&Path::new(DIR).join("control")).is_err(),
                    "{what}: the page proves it"
                );
                let found = rows(&recovered);
                assert!(
                    still.rows.starts_with(&found) && found.last().is_none_or(|row| row.0 < frame.lsn),
                    "{what}"
                );
                tally.without_later_stamp += 1;
            }
            None => {
                assert_eq!(rows(&recovered), still.rows, "{what}: silent");
                let copied = all[at + 1..].iter().any(|(_, f)| f.kind == "batch" && f.lsn == frame.lsn);
                assert!(copied, "{what}: without effect");
                tally.superseded += 1;
            }
        },
    }
    tally.flips += 1;
    still.disk.rot(file, |bytes| bytes[byte] ^= bit).unwrap();
}

#[test]
fn every_flip_in_an_acknowledged_frame_is_reported_at_its_offset_or_nothing_later_proves_the_frame() {
    let (seed, wanted) = (number("AKIDB_SEED", 20_261_126), number("AKIDB_FLIPS", 20_000));
    println!("AKIDB_SEED={seed} AKIDB_FLIPS={wanted}");
    let (mut rng, mut tally, began) = (Rng::seeded(seed), Tally::default(), RealClock.now());
    while tally.flips < wanted {
        let still = log_of(&mut rng);
        let all = frames(&still.disk);
        let acked = |f: &FrameFacts| f.kind == "batch" && f.lsn <= still.acked;
        let acked: Vec<usize> = (0..all.len()).filter(|at| acked(&all[*at].1)).collect();
        for _ in 0..FLIPS_PER_LOG {
            let at = acked[usize::try_from(rng.below(acked.len() as u64)).unwrap()];
            flip(&still, &all, at, &mut rng, &mut tally);
        }
        assert_eq!(rows(&peek(&still.disk).unwrap()), still.rows, "all flips were undone");
    }
    let seconds = (RealClock.now() - began).as_secs_f64();
    println!("flips: {tally:?}, 0 silent, {seconds:.1} s");
    assert!(tally.without_later_stamp > 0 && tally.reported > tally.flips * 8 / 10);
}
