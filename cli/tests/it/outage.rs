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

#[test]
fn a_backend_that_lost_everything_is_told_and_filled_again() {
    let place = Place::with_rows();
    let backend = format!("copy={}", place.url("copy"));
    let flush = || place.run(&["flush", "--backend", &backend, "--json"]);
    let run = flush();
    assert!(run.code == 0 && run.err.is_empty() && run.out.contains("\"found_empty\":false"), "{run:?}");
    let run = flush();
    assert!(run.out.contains("\"found_empty\":false") && run.err.is_empty(), "{run:?}");
    // As a disk that is not mounted: its directory is there, and nothing in it.
    fs::rename(place.path("copy"), place.path("unmounted")).unwrap();
    fs::create_dir(place.path("copy")).unwrap();
    let run = flush();
    assert!(run.out.contains("\"found_empty\":true") && run.err.contains("mounted"), "{run:?}");
    place.ok(&["restore", &place.url("copy"), place.path("back").to_str().unwrap()]);
    let run = flush();
    assert!(run.out.contains("\"found_empty\":false") && run.err.is_empty(), "{run:?}");
}
