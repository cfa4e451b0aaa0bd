//! A power cut, a kill and a failing disk in any step of making and removing one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use akidb::ErrorKind;
use akidb_host::Rng;
use akidb_host::sim::{Act, EIO, ENOSPC};

use super::{assert_now, assert_shows, builder, churn, fill, names};
use crate::support::Watched;

#[test]
fn a_power_cut_in_any_step_of_making_one_leaves_none_or_a_whole_one() {
    let seed = std::env::var("AKIDB_NAMED_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(21);
    println!("AKIDB_NAMED_SEED={seed}");
    let world = Watched::new(seed);
    let db = builder(Arc::clone(&world.fs)).open().unwrap();
    let model = fill(&db, &mut Rng::seeded(seed));
    let cuts = world.cut_everywhere(seed);
    db.create_snapshot("moment").unwrap();
    drop(db);
    let mut cuts = cuts.lock().unwrap();
    cuts.push(("a kill at the end".into(), world.disk.kill()));
    let (mut none, mut whole) = (0, 0);
    println!("{} disks", cuts.len());
    for (when, disk) in cuts.drain(..) {
        let db = builder(Arc::new(disk.clone())).open().unwrap();
        assert_now(&db, &model, &when);
        let mut later = model.clone();
        churn(&db, &mut later, &mut Rng::seeded(3), 9);
        if names(&db).is_empty() {
            none += 1;
            db.create_snapshot("moment").unwrap();
            assert_shows(&db.at_snapshot("moment").unwrap(), &later, &format!("{when}, made again"));
        } else {
            whole += 1;
            db.flush().unwrap();
            db.compact().unwrap();
            assert_shows(&db.at_snapshot("moment").unwrap(), &model, &when);
        }
        assert_now(&db, &later, &when);
    }
    assert!(none > 10 && whole > 0, "{none} without, {whole} with it");
}

#[test]
fn a_power_cut_in_any_step_of_removing_one_leaves_it_whole_or_gone() {
    let seed = 22;
    let world = Watched::new(seed);
    let db = builder(Arc::clone(&world.fs)).open().unwrap();
    let mut rng = Rng::seeded(seed);
    let mut model = fill(&db, &mut rng);
    db.create_snapshot("moment").unwrap();
    let then = model.clone();
    churn(&db, &mut model, &mut rng, 7);
    db.flush().unwrap();
    db.compact().unwrap();
    let cuts = world.cut_everywhere(seed);
    db.remove_snapshot("moment").unwrap();
    // What gc does then, it does on another thread; a reopen does the same.
    drop(db);
    let mut cuts = cuts.lock().unwrap();
    cuts.push(("a kill at the end".into(), world.disk.kill()));
    let (mut gone, mut whole) = (0, 0);
    for (when, disk) in cuts.drain(..) {
        let db = builder(Arc::new(disk.clone())).open().unwrap();
        assert_now(&db, &model, &when);
        if names(&db).is_empty() {
            gone += 1;
            assert_eq!(db.at_snapshot("moment").unwrap_err().kind(), ErrorKind::NotFound);
        } else {
            whole += 1;
            assert_shows(&db.at_snapshot("moment").unwrap(), &then, &when);
        }
    }
    assert!(gone > 0 && whole > 0, "{gone} without, {whole} with it");
}

#[test]
fn a_failing_disk_leaves_no_snapshot_or_a_whole_one_and_loses_nothing() {
    let calls = {
        let world = Watched::new(1);
        let db = builder(Arc::clone(&world.fs)).open().unwrap();
        fill(&db, &mut Rng::seeded(4));
        world.watch(|_| Act::Go);
        db.create_snapshot("moment").unwrap();
        world.calls.load(Ordering::SeqCst)
    };
    println!("making a snapshot of two dirty collections takes {calls} changing calls");
    for (errno, at) in [EIO, ENOSPC].into_iter().flat_map(|errno| (1..=calls).map(move |at| (errno, at))) {
        let world = Watched::new(at);
        let db = builder(Arc::clone(&world.fs)).open().unwrap();
        let model = fill(&db, &mut Rng::seeded(4));
        world.watch(move |call| if call.n == at { Act::Fail(errno) } else { Act::Go });
        let when = format!("errno {errno} in call {at}");
        let made = db.create_snapshot("moment");
        if let Err(error) = &made {
            let kinds = [ErrorKind::NoSpace, ErrorKind::Unavailable, ErrorKind::Poisoned];
            assert!(kinds.contains(&error.kind()), "{when}: {error}");
            assert_eq!(names(&db), [""; 0], "{when}");
        }
        assert_now(&db, &model, &when);
        drop(db);
        let db = builder(Arc::new(world.disk.kill())).open().unwrap();
        assert!(made.is_err() || names(&db) == ["moment"], "{when}");
        if names(&db).is_empty() {
            db.create_snapshot("moment").unwrap();
        }
        assert_shows(&db.at_snapshot("moment").unwrap(), &model, &when);
    }
}
