//! What a simulated disk keeps and what it may lose.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::CrashDisk;
use crate::fs::{Access, Advice, File, Fs, publish_new, publish_over};
use crate::rng::Rng;
use crate::sim::{EIO, ENOSPC};

fn path(name: &str) -> &Path {
    Path::new(name)
}

fn synced_file(disk: &CrashDisk, name: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.create_new(path(name)).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(path("/")).unwrap();
    file
}

/// Everything that a hundred power cuts leave of a file; `None` where it was gone.
fn left(disk: &CrashDisk, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    let mut rng = Rng::seeded(3);
    (0..100).map(|_| disk.power_cut(&mut rng).bytes(path(name)).ok()).collect()
}

#[test]
fn of_unsynced_bytes_any_set_of_whole_sectors_survives() {
    let disk = CrashDisk::new(1);
    let file = synced_file(&disk, "/f", &[1; 2048]);
    file.write_at(&[2; 1536], 256).unwrap();
    assert_eq!(disk.bytes(path("/f")).unwrap()[255..258], [1, 2, 2]);
    let seen = left(&disk, "/f");
    assert_eq!(seen.len(), 16, "each of four sectors is new or old");
    for bytes in seen.into_iter().flatten() {
        for (i, sector) in bytes.chunks(512).enumerate() {
            let new: Vec<u8> =
                (0..512).map(|b| if (256..1792).contains(&(i * 512 + b)) { 2 } else { 1 }).collect();
            assert!(sector == new || sector == [1; 512], "sector {i} is whole");
        }
    }
    file.sync_data().unwrap();
    assert_eq!(left(&disk, "/f").len(), 1);
}

#[test]
fn a_length_that_was_not_synced_may_be_either() {
    let disk = CrashDisk::new(1);
    let file = synced_file(&disk, "/f", b"12345");
    file.write_at(b"6789", 5).unwrap();
    let seen = left(&disk, "/f");
    assert!(seen.contains(&Some(b"12345".to_vec())) && seen.contains(&Some(b"123456789".to_vec())));
    assert!(seen.contains(&Some(b"12345\0\0\0\0".to_vec())), "the length alone");
    file.sync_all().unwrap();
    file.set_len(2).unwrap();
    file.set_len(4).unwrap();
    assert_eq!(disk.bytes(path("/f")).unwrap(), b"12\0\0");
    file.sync_all().unwrap();
    assert_eq!(left(&disk, "/f"), BTreeSet::from([Some(b"12\0\0".to_vec())]));
}

#[test]
fn dirty_sectors_are_written_back_early_now_and_then() {
    let disk = CrashDisk::new(1);
    let file = synced_file(&disk, "/f", &[0; 4096]);
    let mut rng = Rng::seeded(1);
    let mut seen = BTreeSet::new();
    for round in 1..=100_u8 {
        file.write_at(&[round; 512], 0).unwrap();
        seen.insert(disk.power_cut_keeping(0, &mut rng).bytes(path("/f")).unwrap()[0]);
    }
    assert!((3..60).contains(&seen.len()), "{seen:?}");
}

#[test]
fn names_survive_once_their_directory_was_synced_and_before_by_chance() {
    let disk = CrashDisk::new(1);
    disk.create_dir_all(path("/d/e")).unwrap();
    let file = disk.create_new(path("/d/e/f")).unwrap();
    file.write_at(b"bytes", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(left(&disk, "/d/e/f"), BTreeSet::from([None, Some(b"bytes".to_vec())]));
    disk.sync_dir(path("/d/e")).unwrap();
    assert_eq!(left(&disk, "/d/e/f").len(), 1);
    disk.unlink(path("/d/e/f")).unwrap();
    assert_eq!(disk.open(path("/d/e/f"), Access::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(left(&disk, "/d/e/f").len(), 2);
}

#[test]
fn a_file_in_a_directory_whose_own_name_is_lost_is_lost() {
    let disk = CrashDisk::new(1);
    disk.make_dir_unsynced(path("/d")).unwrap();
    publish_new(&disk, path("/d"), "f", b"x").unwrap();
    assert_eq!(left(&disk, "/d/f"), BTreeSet::from([None, Some(b"x".to_vec())]));
    disk.create_dir_all(path("/d")).unwrap();
    assert_eq!(left(&disk, "/d/f").len(), 2, "a name found present is not synced");
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(left(&disk, "/d/f").len(), 1);
}

#[test]
fn a_rename_never_loses_the_file_and_never_tears_what_it_replaces() {
    let disk = CrashDisk::new(1);
    disk.create_dir_all(path("/a")).unwrap();
    disk.create_dir_all(path("/b")).unwrap();
    publish_new(&disk, path("/a"), "f", b"moved").unwrap();
    disk.rename(path("/a/f"), path("/b/f")).unwrap();
    let mut rng = Rng::seeded(5);
    let mut places = BTreeSet::new();
    for _ in 0..100 {
        let cut = disk.power_cut(&mut rng);
        let there = ["/a/f", "/b/f"].map(|f| cut.bytes(path(f)).is_ok());
        assert_ne!(there, [false, false]);
        places.insert(there);
    }
    assert_eq!(places.len(), 3, "old, new, or both");
    publish_new(&disk, path("/b"), "g", b"old").unwrap();
    publish_over(&disk, path("/b"), "g", b"new").unwrap();
    assert_eq!(left(&disk, "/b/g"), BTreeSet::from([Some(b"new".to_vec())]));
    let tmp = disk.create_new(path("/b/tmp")).unwrap();
    tmp.write_at(b"newer", 0).unwrap();
    tmp.sync_all().unwrap();
    disk.rename(path("/b/tmp"), path("/b/g")).unwrap();
    assert_eq!(left(&disk, "/b/g"), [b"new".to_vec(), b"newer".to_vec()].map(Some).into());
}

#[test]
fn after_a_failed_sync_the_next_says_ok_and_the_disk_has_the_old_bytes() {
    let disk = CrashDisk::new(1);
    let file = synced_file(&disk, "/f", &[1; 8192]);
    let before = disk.open(path("/f"), Access::ReadWrite).unwrap();
    let mut lost = 0;
    for round in 2..50_u8 {
        file.write_at(&[round; 8192], 0).unwrap();
        disk.fail_next_sync(EIO);
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
        file.sync_data().unwrap();
        assert_eq!(disk.bytes(path("/f")).unwrap(), [round; 8192]);
        lost += u32::from(left(&disk, "/f") != BTreeSet::from([Some(vec![round; 8192])]));
    }
    assert!(lost > 20, "{lost} of 48 failed syncs lost bytes");
    before.sync_data().unwrap_err();
    before.sync_data().unwrap();
    disk.open(path("/f"), Access::Read).unwrap().sync_data().unwrap();
    file.advise(Advice::DontNeed);
    assert_eq!(left(&disk, "/f"), BTreeSet::from([disk.bytes(path("/f")).ok()]), "the old bytes are back");
}

#[test]
fn a_full_disk_refuses_new_blocks_and_frees_those_of_removed_files() {
    let disk = CrashDisk::new(1);
    let file = synced_file(&disk, "/f", &[1; 4096]);
    disk.set_free_bytes(Some(8192));
    let big = disk.create_new(path("/big")).unwrap();
    let full = big.zero_fill(0, 1 << 20).unwrap_err();
    assert_eq!((full.raw_os_error(), full.kind()), (Some(ENOSPC), io::ErrorKind::StorageFull));
    assert_eq!((big.len().unwrap(), disk.statfs(path("/")).unwrap().available_bytes), (8192, 0));
    file.write_at(&[2; 4096], 0).unwrap();
    disk.unlink(path("/big")).unwrap();
    assert!(file.write_at(b"x", 4096).is_err(), "still open");
    drop(big);
    file.write_at(b"x", 4096).unwrap();
    assert_eq!(disk.statfs(path("/")).unwrap().available_bytes, 4096);
    let after = disk.kill();
    assert_eq!(after.statfs(path("/")).unwrap().available_bytes, 4096);
}

#[test]
fn stores_into_a_log_map_are_unsynced_bytes_of_the_file() {
    let disk = CrashDisk::new(1);
    let file = synced_file(&disk, "/f", b"stale content of an older life");
    let (mut appender, tail) = file.map_log(30).unwrap().split();
    appender.append(b"fresh").unwrap();
    appender.publish();
    assert_eq!(tail.bytes(0..5), Some(&b"fresh"[..]));
    assert_eq!(disk.bytes(path("/f")).unwrap(), b"fresh content of an older life");
    assert_eq!(left(&disk, "/f").len(), 2);
    file.sync_data().unwrap();
    assert_eq!(left(&disk, "/f"), BTreeSet::from([Some(b"fresh content of an older life".to_vec())]));
    appender.write_through(&*file, b" pages").unwrap();
    appender.publish();
    assert_eq!(tail.bytes(0..11), Some(&b"fresh pages"[..]));
    assert_eq!(disk.bytes(path("/f")).unwrap(), b"fresh pagesnt of an older life");
    assert!(file.map_log(31).is_err());
}

#[test]
#[should_panic(expected = "SIGBUS")]
fn a_store_into_a_hole_is_a_sigbus() {
    let file = CrashDisk::new(1).create_new(path("/f")).unwrap();
    file.set_len(4096).unwrap();
    file.map_log(4096).unwrap().split().0.append(b"x").unwrap();
}

#[test]
fn a_killed_process_leaves_the_page_cache_and_a_power_cut_after_it_the_disk() {
    let disk = CrashDisk::new(1);
    let lock = disk.try_lock(path("/lock")).unwrap().unwrap();
    lock.write_text("mine").unwrap();
    assert!(disk.try_lock(path("/lock")).unwrap().is_none());
    let file = synced_file(&disk, "/f", b"synced");
    file.write_at(b"cached", 0).unwrap();
    let killed = disk.kill();
    file.write_at(b"ghosts", 0).unwrap();
    assert_eq!(killed.bytes(path("/f")).unwrap(), b"cached");
    assert!(killed.try_lock(path("/lock")).unwrap().is_some());
    assert_eq!(left(&killed, "/f"), [b"cached".to_vec(), b"synced".to_vec()].map(Some).into());
    let again = killed.open(path("/f"), Access::ReadWrite).unwrap();
    again.sync_data().unwrap();
    assert_eq!(left(&killed, "/f"), BTreeSet::from([Some(b"cached".to_vec())]));
    drop(lock);
    assert!(disk.try_lock(path("/lock")).unwrap().is_some());
}

#[test]
fn a_lock_is_shared_by_readers_or_held_alone() {
    let disk = CrashDisk::new(1);
    assert_eq!(disk.try_lock_shared(path("/lock")).unwrap_err().kind(), io::ErrorKind::NotFound);
    let alone = disk.try_lock(path("/lock")).unwrap().unwrap();
    assert!(disk.try_lock_shared(path("/lock")).unwrap().is_none());
    drop(alone);
    for reader in [1, 2].map(|_| disk.try_lock_shared(path("/lock")).unwrap().unwrap()) {
        assert!(disk.try_lock(path("/lock")).unwrap().is_none());
        assert!(reader.write_text("mine").is_err());
        assert!(disk.kill().try_lock(path("/lock")).unwrap().is_some());
    }
    assert!(disk.try_lock(path("/lock")).unwrap().is_some());
}

#[test]
fn a_seed_replays_a_run() {
    let run = |seed| {
        let disk = CrashDisk::new(seed);
        let mut rng = Rng::seeded(seed);
        let file = disk.create_new(path("/f")).unwrap();
        for i in 0..200_u8 {
            file.write_at(&[i; 700], u64::from(i) * 100).unwrap();
        }
        let cut = disk.kill().power_cut_keeping(50, &mut rng);
        (cut.list(path("/")).unwrap(), cut.bytes(path("/f")).ok())
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
    assert_eq!((0..20).map(|seed| run(seed).1).collect::<BTreeSet<_>>().len(), 8, "and others differ");
}

#[test]
fn rot_changes_both_images() {
    let disk = CrashDisk::new(1);
    synced_file(&disk, "/f", b"good");
    disk.rot(path("/f"), |bytes| bytes[0] ^= 1).unwrap();
    assert_eq!(left(&disk, "/f"), BTreeSet::from([Some(b"food".to_vec())]));
}

#[test]
fn words_of_a_shared_page_are_bytes_of_the_file() {
    let disk = CrashDisk::new(1);
    let file = synced_file(&disk, "/f", &[1; 4096]);
    let page = file.map_atomics().unwrap();
    page.store_u64(8, 0, Ordering::Release);
    assert_eq!(disk.bytes(path("/f")).unwrap()[7..17], [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(left(&disk, "/f").len(), 2);
    file.sync_data().unwrap();
    assert_eq!(left(&disk, "/f").len(), 1);
    file.write_at(&[2; 8], 0).unwrap();
    let other = disk.open(path("/f"), Access::ReadWrite).unwrap().map_atomics().unwrap();
    assert_eq!(
        (page.load_u64(0, Ordering::Acquire), other.load_u64(8, Ordering::Acquire)),
        (0x0202_0202_0202_0202, 0)
    );
    let killed = disk.kill();
    page.store_u64(0, 0, Ordering::Release);
    assert_eq!(killed.bytes(path("/f")).unwrap()[..9], [2, 2, 2, 2, 2, 2, 2, 2, 0]);
}
