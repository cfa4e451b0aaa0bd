//! `akidb demo`, from end to end (a build with a seeded bug must fail it: `.ci/run seeded`).

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{Place, Run, keys, objects, program};

fn demo(args: &[&str]) -> (Run, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let output = program().arg("demo").args(args).arg("--dir").arg(dir.path()).output().unwrap();
    (Run::of(output), dir)
}

#[test]
fn the_demo_loses_nothing_and_ends_with_its_figures() {
    let (run, dir) = demo(&["--json"]);
    println!("{}", run.out);
    let lines = objects(&run.out);
    let last = lines.last().unwrap();
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(
        keys(last),
        "acknowledged default_recall_at_10 directory durable_upsert_p50_us imported kept lost ok recall_at_10 recovered \
         restored_rows rows seconds seed segments uploaded_segments"
    );
    let figure = |key: &str| last[key].as_u64().unwrap();
    assert_eq!(figure("imported"), 2_000);
    assert!(figure("acknowledged") >= 2_200, "{last}");
    assert_eq!(figure("recovered"), figure("acknowledged"));
    assert_eq!(figure("lost"), 0);
    assert_eq!(last["recall_at_10"], 1.0);
    assert!(last["default_recall_at_10"].as_f64().unwrap() >= 0.95, "{last}");
    assert!(figure("rows") >= figure("acknowledged"));
    assert_eq!(figure("restored_rows"), figure("rows"));
    assert_eq!(figure("uploaded_segments"), figure("segments"));
    assert!(figure("segments") > 0 && figure("durable_upsert_p50_us") > 0);
    let steps: Vec<&str> = lines.iter().filter_map(|line| line["step"].as_str()).collect();
    let queries = ["query"; 5];
    let expected = [&["start", "import"][..], &queries, &["kill", "recover", "upload", "restore"]].concat();
    assert_eq!(steps, expected);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_demo_that_is_kept_leaves_a_database_backend_and_restored_copy() {
    let (run, dir) = demo(&["--keep", "--seed", "7"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("(seed 7)") && run.out.contains("gecko"), "{}", run.out);
    let segment = run.out.split('\'').find(|part| part.ends_with(".parquet")).expect("the DuckDB line");
    assert!(Path::new(segment).exists(), "{segment}");
    let root = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let place = Place::new();
    let rows = |name: &str| -> Value {
        let db = root.join(name);
        let run = Run::of(program().args(["--json", "--db", db.to_str().unwrap(), "ls"]).output().unwrap());
        objects(&run.out)[0]["rows"].clone()
    };
    assert_eq!(rows("db"), rows("restored"));
    let restored = place.path("again");
    place.ok(&["restore", &format!("file://{}", root.join("backend").display()), restored.to_str().unwrap()]);
}
