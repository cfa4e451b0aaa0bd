//! What failures advise: commands that can be run as they are printed, and none that makes things worse.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Place, Run, ids, objects, program};

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 4;
    fs::write(file, bytes).unwrap();
}

fn newest_manifest(place: &Place) -> PathBuf {
    let mut manifests = place.files(".json").into_iter();
    manifests.rfind(|path| path.parent().unwrap().ends_with("manifest")).unwrap()
}

/// Runs the first command between backticks that begins so, as a shell would.
fn run_printed(told: &str, command: &str) -> Run {
    let printed =
        told.split('`').find(|piece| piece.starts_with(command)).unwrap_or_else(|| panic!("{told}"));
    let words = printed.split(' ').skip(1);
    Run::of(program().args(words).output().unwrap())
}

#[test]
fn a_printed_command_names_the_database_it_is_for() {
    let place = Place::with_rows();
    let told = place.fails(1, &["search", "dogs", "--vector", "1,0"]);
    let run = run_printed(&told, "akidb ls");
    assert!(run.code == 0 && run.out.contains("docs"), "{run:?}");
    let told = place.fails(1, &["ls", "docs", "--snapshot", "none"]);
    assert_eq!(run_printed(&told, "akidb snapshot ls").code, 0);

    place.ok(&["snapshot", "create", "before"]);
    let named = newest_manifest(&place);
    place.ok(&["upsert", "docs", "d", "--vector", "1,1"]);
    place.ok(&["flush"]);
    flip(&named, 40);
    let found = place.run(&["verify"]);
    assert_eq!(found.code, 3, "{found:?}");
    let run = run_printed(&found.out, "akidb snapshot rm");
    assert_eq!(run.code, 0, "{run:?}");

    flip(&newest_manifest(&place), 40);
    let file = newest_manifest(&place);
    for told in [
        place.fails(3, &["ls"]),
        place.run(&["verify"]).out,
        Run::of(program().args(["inspect", file.to_str().unwrap()]).output().unwrap()).err,
    ] {
        assert!(told.contains(&format!("`akidb repair manifest --db {}`", place.db().display())), "{told}");
    }
    let told = place.fails(3, &["ls"]);
    let run = run_printed(&told, "akidb repair manifest");
    assert_eq!(run.code, 0, "{run:?}");
    assert!(ids(&place.json(&["ls", "docs"])).contains(&"d"));
}

#[test]
fn a_database_without_its_manifests_is_denied_by_no_verb() {
    let place = Place::with_rows();
    let backend = format!("copy={}", place.url("copy"));
    place.ok(&["flush", "--backend", &backend]);
    fs::rename(place.db().join("manifest"), place.path("away")).unwrap();
    let look = |codes: &str| {
        for verb in [
            &["ls"][..],
            &["stats"],
            &["upsert", "docs", "z", "--vector", "1,1"],
            &["wal", "tail"],
            &["doctor"],
        ] {
            let told = place.fails(3, verb);
            assert!(told.contains(codes), "{verb:?}: {told}");
        }
        let found = place.run(&["verify"]);
        assert!(found.code == 3 && found.out.contains("manifest directory is missing"), "{found:?}");
    };
    look("AKI-0225");
    // What is advised with a log there works: a directory of its own.
    let told = place.fails(3, &["ls"]);
    assert!(told.contains("`akidb restore URL NEW_DIR`"), "{told}");
    // Without a log the restore goes on in the same one.
    fs::remove_dir_all(place.db().join("wal")).unwrap();
    let _ = fs::remove_dir(place.db().join("manifest"));
    let told = place.fails(3, &["ls"]);
    assert!(told.contains("AKI-0521"), "{told}");
    assert!(told.contains(&format!("`akidb restore URL {}`", place.db().display())), "{told}");
    place.ok(&["restore", &place.url("copy"), place.db().to_str().unwrap()]);
    assert_eq!(ids(&place.json(&["ls", "docs"])), ["a", "b", "c"]);
}

#[test]
fn a_segment_that_is_not_there_is_damage_and_no_empty_answer() {
    let place = Place::with_rows();
    place.ok(&["flush"]);
    fs::remove_file(place.files(".parquet").pop().unwrap()).unwrap();
    assert_eq!(place.run(&["verify"]).code, 3);
    for verb in [&["get", "docs", "a"][..], &["ls", "docs"], &["upsert", "docs", "z", "--vector", "1,1"]] {
        let run = place.run(&[verb, &["--json"]].concat());
        assert_eq!(run.code, 3, "{verb:?}: {run:?}");
        let error = &objects(&run.err)[0]["error"];
        assert_eq!((&error["kind"], &error["code"]), (&"Corrupt".into(), &"AKI-0501".into()), "{error}");
    }
}

#[test]
fn what_is_no_file_of_a_kind_is_not_called_a_damaged_one() {
    let place = Place::with_rows();
    let backend = format!("copy={}", place.url("copy"));
    place.ok(&["flush", "--backend", &backend]);
    let list = place.db().join("uploads/copy.json");
    let told = place.fails(2, &["inspect", list.to_str().unwrap()]);
    assert!(told.contains("AKI-0270") && !told.contains("repair"), "{told}");
    let told = place.fails(2, &["wal", "dump", place.db().join("wal/control").to_str().unwrap()]);
    assert!(told.contains("AKI-0271") && !told.contains("wal-cut"), "{told}");
    let told = place.fails(1, &["inspect", place.path("slip.parquet").to_str().unwrap()]);
    assert!(told.contains("AKI-0501") && !told.contains("--drop"), "{told}");
    // A copy under another name can be looked at.
    let copy = place.path("copy-of-a-manifest.json");
    fs::copy(newest_manifest(&place), &copy).unwrap();
    place.ok(&["inspect", copy.to_str().unwrap()]);
}

#[test]
fn the_code_of_a_backend_s_error_stands_once() {
    let place = Place::new();
    let told = place.fails(1, &["restore", &place.url("none"), place.path("new").to_str().unwrap()]);
    assert_eq!(told.matches("AKI-0702").count(), 1, "{told}");
}
