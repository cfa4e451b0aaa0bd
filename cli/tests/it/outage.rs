//! A directory as a backend that is not there now: writes go on, and it is made once it can be.

use std::fs;

use crate::support::{Place, ids};

#[test]
fn a_directory_that_cannot_be_made_is_a_backend_that_is_down() {
    let place = Place::with_rows();
    let blocked = place.file("mnt", "a file where a disk is to be mounted");
    let backend = format!("copy={}", place.url("mnt/copy"));
    let rows = place.file("more.jsonl", "{\"id\":\"d\",\"vector\":[1,0]}\n");
    place.ok(&["upsert", "docs", "e", "--vector", "1,1", "--backend", &backend]);
    place.ok(&["import", "docs", rows.to_str().unwrap(), "--no-flush", "--backend", &backend]);
    let told = place.fails(4, &["flush", "--backend", &backend, "--wait-secs", "1"]);
    let dir = place.path("mnt/copy");
    assert!(told.contains(dir.to_str().unwrap()) && told.contains("AKI-0704"), "{told}");
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["a", "b", "c", "d", "e"]);
    assert_eq!(place.run(&["doctor", "--backend", &backend]).code, 4);
    fs::remove_file(blocked).unwrap();
    place.ok(&["flush", "--backend", &backend]);
    let back = place.path("back");
    place.ok(&["restore", &place.url("mnt/copy"), back.to_str().unwrap()]);
}
