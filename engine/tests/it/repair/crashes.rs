//! A crash and a failing disk in every step of a repair.

use std::path::Path;
use std::sync::{Arc, Mutex};

use akidb::{BackendSettings, ErrorKind};
use akidb_host::sim::{Act, Call, CrashDisk, EIO, ENOSPC, Hook, HookFs};
use akidb_host::{Fs, Rng, read_file};

use super::{
    assert_reads, drop_on, filled, home, ids, list, newest, open, rot_vector, segment, without_lost,
};
use crate::support::until;

/// A disk that hands every changing call of one repair to `inside`.
fn watched(disk: &CrashDisk, inside: impl Fn(&Call<'_>) -> Act + Send + Sync + 'static) -> Arc<dyn Fs> {
    let counted = Mutex::new(0);
    let hook: Hook = Arc::new(move |call| {
        if !call.op.changes() {
            return Act::Go;
        }
        let mut counted = counted.lock().unwrap();
        *counted += 1;
        inside(&Call { n: *counted, ..*call })
    });
    Arc::new(HookFs::new(Arc::new(disk.clone()), hook))
}

/// The disks that a crash before each changing call of `repair`, or behind the last, may leave.
fn crashes(disk: &CrashDisk, repair: impl FnOnce(Arc<dyn Fs>)) -> Vec<(String, CrashDisk)> {
    let seed = std::env::var("AKIDB_REPAIR_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    println!("AKIDB_REPAIR_SEED={seed}");
    let taken: Arc<Mutex<Vec<(String, CrashDisk)>>> = Arc::default();
    let (cuts, watched_disk, rng) = (Arc::clone(&taken), disk.clone(), Mutex::new(Rng::seeded(seed)));
    repair(watched(disk, move |call| {
        let name = format!("{:?} {}", call.op, call.path.display());
        let (mut cuts, mut rng) = (cuts.lock().unwrap(), rng.lock().unwrap());
        (0..3).for_each(|_| cuts.push((format!("a cut before {name}"), watched_disk.power_cut(&mut rng))));
        cuts.push((format!("a kill before {name}"), watched_disk.kill()));
        Act::Go
    }));
    let mut cuts = std::mem::take(&mut *taken.lock().unwrap());
    cuts.push(("a kill at the end".into(), disk.kill()));
    cuts
}

#[test]
fn a_crash_in_any_step_of_giving_up_leaves_the_segment_named_or_its_ids_listed() {
    let (disk, model) = filled(4, None);
    let (left, lost) = without_lost(&model);
    let file = segment(&disk);
    let aside = home(&disk).join("damaged");
    rot_vector(&disk, &file);
    let cuts = crashes(&disk, |fs| drop_on(fs, &file).map(drop).unwrap());
    println!("{} disks", cuts.len());
    let mut given_up = 0;
    for (when, disk) in cuts {
        let is_named = newest(&disk).collections[0].segments.len() == 3;
        if is_named {
            drop_on(Arc::new(disk.clone()), &file).unwrap_or_else(|error| panic!("{when}: again: {error}"));
        } else {
            given_up += 1;
        }
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(disk.metadata(&aside.join(name)).is_ok(), "{when}: the file is kept");
        assert_eq!(ids(&list(&disk, &aside.join(format!("{name}.lost.jsonl")))), lost, "{when}");
        assert_reads(&disk, &left, &when);
        assert!(disk.metadata(&aside.join(name)).is_ok(), "{when}: the file is still kept");
    }
    assert!(given_up > 3, "{given_up}");
}

#[test]
fn a_failing_disk_fails_the_giving_up_and_it_can_be_ordered_again() {
    let (whole, model) = filled(5, None);
    let (left, _) = without_lost(&model);
    let file = segment(&whole);
    rot_vector(&whole, &file);
    let mut failed = 0;
    for errno in [EIO, ENOSPC] {
        for at in 1.. {
            let disk = whole.kill();
            let reached = Arc::new(Mutex::new(false));
            let noted = Arc::clone(&reached);
            let fs = watched(&disk, move |call| {
                let is_it = call.n == at && call.op.can_fail();
                *noted.lock().unwrap() |= call.n == at;
                if is_it { Act::Fail(errno) } else { Act::Go }
            });
            let when = format!("errno {errno} in call {at}");
            if let Err(error) = drop_on(fs, &file) {
                let kinds = [ErrorKind::NoSpace, ErrorKind::Unavailable, ErrorKind::Poisoned];
                assert!(kinds.contains(&error.kind()) && error.file().is_some(), "{when}: {error}");
                failed += 1;
            }
            if newest(&disk).collections[0].segments.len() == 3 {
                drop_on(Arc::new(disk.clone()), &file).unwrap_or_else(|e| panic!("{when}: again: {e}"));
            }
            assert_reads(&disk, &left, &when);
            if !*reached.lock().unwrap() {
                break;
            }
        }
    }
    assert!(failed > 8, "{failed}");
}

#[test]
fn a_crash_in_any_step_of_taking_back_leaves_the_damaged_file_or_the_right_one() {
    let copy = tempfile::tempdir().unwrap();
    let url = format!("file://{}", copy.path().display());
    let (disk, model) = filled(6, Some(&url));
    let backend = BackendSettings::new("copy", &url).unwrap();
    let file = segment(&disk);
    let whole = read_file(&disk, &file).unwrap();
    rot_vector(&disk, &file);
    let damaged = read_file(&disk, &file).unwrap();
    let back = |fs, file: &Path| akidb::repair_segment_from_on(fs, &backend, file, false);
    let cuts = crashes(&disk, |fs| back(fs, &file).map(drop).unwrap());
    assert_eq!(read_file(&disk, &file).unwrap(), whole);
    println!("{} disks", cuts.len());
    for (when, disk) in cuts {
        let there = read_file(&disk, &file).unwrap();
        assert!(there == damaged || there == whole, "{when}: half a file under the name");
        back(Arc::new(disk.clone()), &file).unwrap();
        assert_eq!(read_file(&disk, &file).unwrap(), whole, "{when}");
        assert_reads(&disk, &model, &when);
        println!("{when}");
        // Behind an open, by the driver.
        let db = open(Arc::new(disk.clone()), None).unwrap();
        let is_left = |disk: &CrashDisk| {
            disk.list(&home(disk)).unwrap().iter().any(|entry| entry.name.ends_with(".restoring"))
        };
        until(|| !is_left(&disk));
        db.close().unwrap();
    }
}
