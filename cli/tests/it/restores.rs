//! A restore that did not end, and what may be done in its directory meanwhile.

use std::fs;

use akidb_host::{Fs, RealFs};

use crate::support::{Place, ids};

/// A place whose database is on the backend `copy`, and where it can be restored.
fn copied() -> (Place, String) {
    let place = Place::with_rows();
    place.ok(&["flush", "--backend", &format!("copy={}", place.url("copy"))]);
    fs::rename(place.db(), place.path("before")).unwrap();
    let url = place.url("copy");
    (place, url)
}

#[test]
fn a_restore_that_did_not_end_is_no_place_for_a_new_database() {
    let (place, url) = copied();
    let db = place.db().to_str().unwrap().to_owned();
    place.ok(&["restore", &url, &db]);
    // As a kill leaves it: every file has arrived, its manifest has not.
    let manifest = fs::read_dir(place.db().join("manifest")).unwrap().next().unwrap().unwrap().path();
    fs::rename(&manifest, manifest.with_extension("json.tmp")).unwrap();
    let before = place.everything();
    let rows = place.file("more.jsonl", "{\"id\":\"d\",\"vector\":[1,0]}\n");
    let rows = rows.to_str().unwrap();
    for verb in
        [&["init"][..], &["init", "docs", "--dim", "2"], &["import", "docs", rows, "--create"], &["ls"]]
    {
        let told = place.fails(3, verb);
        assert!(told.contains("AKI-0521") && told.contains("akidb restore URL"), "{verb:?}: {told}");
    }
    let listening = ["serve", "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"];
    assert!(place.fails(3, &listening).contains("AKI-0521"));
    let mut after = place.everything();
    after.retain(|(path, _)| !path.ends_with("LOCK"));
    assert_eq!(after, before.into_iter().filter(|(path, _)| !path.ends_with("LOCK")).collect::<Vec<_>>());

    place.ok(&["restore", &url, &db]);
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["a", "b", "c"]);
    assert!(place.fails(1, &["restore", &url, &db]).contains("AKI-0262"));
}

#[test]
fn a_restore_waits_for_nobody_s_lock_and_leaves_its_directory_alone() {
    let (place, url) = copied();
    fs::create_dir(place.db()).unwrap();
    let lock = RealFs.try_lock(&place.db().join("LOCK")).unwrap().unwrap();
    let told = place.fails(1, &["restore", &url, place.db().to_str().unwrap()]);
    assert!(told.contains("AKI-0224"), "{told}");
    assert_eq!(place.everything().len(), 1, "the lock alone");
    drop(lock);
    place.ok(&["restore", &url, place.db().to_str().unwrap()]);
    let holder = fs::read_to_string(place.db().join("LOCK")).unwrap();
    assert!(holder.contains("a restore"), "{holder}");
}

#[test]
fn a_slip_in_the_place_to_read_makes_no_directory() {
    let place = Place::with_rows();
    let told = place.fails(1, &["restore", &place.url("slip"), place.path("new").to_str().unwrap()]);
    assert!(told.contains("nothing was published"), "{told}");
    assert!(!place.path("slip").exists() && !place.path("new").exists());
}

#[test]
fn the_path_of_a_backend_is_taken_as_it_is_written() {
    let place = Place::with_rows();
    for name in ["copy #1", "50% of it?"] {
        place.ok(&["flush", "--backend", &format!("copy={}", place.url(name))]);
        assert!(place.path(name).join("collections").is_dir(), "{name}");
        place.ok(&["doctor", "--backend", &format!("copy={}", place.url(name))]);
        let new = place.path(&format!("new {name}"));
        place.ok(&["restore", &place.url(name), new.to_str().unwrap()]);
    }
    assert!(!place.path("copy ").exists());
}
