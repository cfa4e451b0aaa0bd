//! What a name keeps on the disk, and when it is given back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use akidb::{ErrorKind, Settings};
use akidb_host::sim::{Act, Hook, HookFs, Op};
use akidb_host::{Fs, Rng};

use super::{Stepped, assert_now, assert_shows, churn, files, fill};
use crate::support::in_dir;

#[test]
fn gc_keeps_what_a_name_keeps_and_the_space_returns_after_the_name_is_gone() {
    let world = Stepped::new(2);
    let disk = world.disk.clone();
    let (db, mut rng) = (world.open(), Rng::seeded(2));
    let mut model = fill(&db, &mut rng);
    db.create_snapshot("kept").unwrap();
    let then = model.clone();
    let there = files(&disk, Path::new("/db/collections"));
    for version in 5..9 {
        churn(&db, &mut model, &mut rng, version);
        db.flush().unwrap();
    }
    db.compact().unwrap();
    db.drop_collection("left").unwrap();
    model.remove("left");
    // Once a file of after the snapshot is gone, gc had its chance to take those of the snapshot too.
    assert!(world.collect(&db));
    let kept = files(&disk, Path::new("/db/collections"));
    assert!(
        there.iter().filter(|file| file.contains(".parquet")).all(|file| kept.contains(file)),
        "{kept:?}"
    );
    assert_shows(&db.at_snapshot("kept").unwrap(), &then, "after gc");
    let reader = db.at_snapshot("kept").unwrap();
    let held = db.stats().unwrap().snapshots.remove(0);
    assert_eq!((held.holder.as_str(), held.memtable_bytes), ("kept", 0));
    assert!(held.segment_bytes > 0, "its files are no longer in use");
    drop(reader);
    db.create_snapshot("now").unwrap();
    let reader = db.at_snapshot("now").unwrap();
    assert_eq!(db.stats().unwrap().snapshots[0].segment_bytes, 0, "these are");
    drop(reader);
    db.remove_snapshot("now").unwrap();
    let listed = db.list_snapshots().unwrap().remove(0);
    let rows: BTreeMap<String, u64> =
        then.iter().map(|(name, rows)| (name.clone(), rows.len() as u64)).collect();
    assert_eq!((listed.rows, listed.damage), (rows, None));
    assert!(
        listed.own_bytes > 0 && listed.own_bytes == listed.bytes,
        "everything was merged or dropped since"
    );

    // Who reads it goes on, also when its files have lost their names.
    let reader = db.at_snapshot("kept").unwrap();
    db.remove_snapshot("kept").unwrap();
    assert_eq!(db.remove_snapshot("kept").unwrap_err().code(), "AKI-0273");
    assert!(world.collect(&db));
    let left = files(&disk, Path::new("/db/collections"));
    assert!(there.iter().all(|file| !left.contains(file)), "the space returned: {left:?}");
    assert_shows(&reader, &then, "without a name");
    assert_eq!(db.at_snapshot("kept").unwrap_err().kind(), ErrorKind::NotFound);
    assert_now(&db, &model, "at the end");
    // The directory of the collection that was dropped is gone too.
    assert!(disk.metadata(Path::new("/db/collections/1-left")).is_err());
}

/// Manifests are read once an open; of one that was read, gc needs no more than that it is there.
#[test]
fn gc_decodes_each_manifest_once_and_trusts_no_damaged_one_it_has_not_read() {
    let reads = Arc::new(AtomicU64::new(0));
    let mut world = Stepped::new(12);
    let counted = Arc::clone(&reads);
    let hook: Hook = Arc::new(move |call| {
        let is_read = call.op == Op::Open && in_dir(call.path, "manifest");
        counted.fetch_add(u64::from(is_read), Ordering::SeqCst);
        Act::Go
    });
    world.fs = Arc::new(HookFs::new(Arc::new(world.disk.clone()), hook));
    world.settings = Settings::from_toml("[engine]\ncompaction = false\nmanifest_keep = 20\n").unwrap();
    let (db, mut rng) = (world.open(), Rng::seeded(12));
    let mut model = fill(&db, &mut rng);
    db.create_snapshot("first").unwrap();
    let then = model.clone();
    let of_first = files(&world.disk, Path::new("/db/collections"));
    for version in 10..40 {
        churn(&db, &mut model, &mut rng, version);
        match version % 3 {
            0 => drop(db.create_snapshot(&format!("v{version}")).unwrap()),
            _ => db.flush().unwrap(),
        }
    }
    db.compact().unwrap();
    let passes = [(); 3].map(|()| {
        reads.store(0, Ordering::SeqCst);
        assert!(world.collect(&db));
        reads.load(Ordering::SeqCst)
    });
    println!("with {} manifests kept, passes decode {passes:?} of them", world.manifests().len());
    assert!(world.manifests().len() >= 25 && passes == [0; 3], "{passes:?}");
    db.close().unwrap();
    reads.store(0, Ordering::SeqCst);
    let db = world.open();
    let opening = reads.swap(0, Ordering::SeqCst);
    assert!(world.collect(&db));
    let pass = reads.load(Ordering::SeqCst);
    println!("an open decodes {opening}, the pass after it {pass}");
    assert!(opening <= 3 && (25..=world.manifests().len() as u64 + 3).contains(&(opening + pass)));
    reads.store(0, Ordering::SeqCst);
    assert!(world.collect(&db) && reads.load(Ordering::SeqCst) == 0, "each is decoded once");
    // Damaged at rest after it was read: what it names stays, what nobody names goes.
    let manifest = db.list_snapshots().unwrap()[0].manifest;
    let file = format!("/db/manifest/{manifest:020}.json");
    let whole = world.disk.bytes(Path::new(&file)).unwrap();
    world.disk.rot(Path::new(&file), |bytes| bytes.truncate(bytes.len() / 2)).unwrap();
    assert_eq!(db.at_snapshot("first").unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(world.collect(&db), "the names in it are known");
    let all_there = || {
        let there = files(&world.disk, Path::new("/db/collections"));
        of_first.iter().all(|file| there.contains(file))
    };
    assert!(all_there());
    drop(db);
    // Never read in this life: anything may be in it.
    let db = world.open();
    assert!(!world.collect(&db) && all_there());
    world.disk.rot(Path::new(&file), |bytes| bytes.clone_from(&whole)).unwrap();
    assert!(world.collect(&db) && all_there());
    assert_shows(&db.at_snapshot("first").unwrap(), &then, "its manifest is whole again");
    assert_now(&db, &model, "at the end");
}
