//! `akidb wal dump` and `akidb wal tail`: what they tell, of whole and damaged logs, beside a running writer too.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::support::{Place, keys, objects};

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[test]
fn a_dump_tells_every_file_frame_and_record() {
    let place = Place::with_rows();
    place.ok(&["rm", "docs", "a"]);
    let before = place.everything();
    let all = place.json(&["wal", "dump", "--records"]);
    let (files, frames, records) = (of_kind(&all, "file"), of_kind(&all, "frame"), of_kind(&all, "record"));
    assert_eq!(files.len() + frames.len() + records.len(), all.len());
    let logs: Vec<PathBuf> = place.files(".wal");
    let told: Vec<PathBuf> = files.iter().map(|file| file["file"].as_str().unwrap().into()).collect();
    assert_eq!(told, logs);
    assert_eq!(
        keys(files[0]),
        "end_offset end_reason epoch file file_bytes kind log_id made_at_open sequence truncated"
    );
    assert_eq!(keys(frames[0]), "bytes durable file kind lsn offset ok records type");
    assert_eq!(
        keys(records[0]),
        "batch_key bytes collection collection_name expires_at file key kind lsn op proven undecodable"
    );
    assert!(frames.iter().all(|frame| frame["ok"] == true));
    let what =
        |record: &&Value| format!("{} {}", record["op"].as_str().unwrap(), record["key"].as_str().unwrap());
    assert_eq!(
        records.iter().map(what).collect::<Vec<_>>(),
        ["upsert a", "upsert b", "upsert c", "delete a"]
    );
    assert!(records.iter().all(|record| record["collection_name"] == "docs"));

    // One file alone, and for people.
    let one = place.json(&["wal", "dump", logs[0].to_str().unwrap()]);
    assert_eq!((of_kind(&one, "file").len(), of_kind(&one, "record").len()), (1, 0));
    let text = place.ok(&["wal", "dump", "--records"]);
    for part in ["offset", "batch", "upsert", "docs", "ends at byte", "sealed"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(place.everything(), before);
}

#[test]
fn a_dump_tells_what_is_damaged_and_goes_on() {
    let place = Place::with_rows();
    place.ok(&["rm", "docs", "a"]);
    let logs = place.files(".wal");
    // A frame's payload in one file; both copies of the header in another.
    let edit = |file: &PathBuf, places: &[usize]| {
        let mut bytes = fs::read(file).unwrap();
        places.iter().for_each(|at| bytes[*at] ^= 1);
        fs::write(file, bytes).unwrap();
    };
    let last = logs.last().unwrap();
    edit(last, &[4096 + 96 + 45]);
    let all = place.json(&["wal", "dump"]);
    let bad: Vec<&Value> = of_kind(&all, "frame").into_iter().filter(|frame| frame["ok"] == false).collect();
    assert_eq!(bad.len(), 1, "{all:?}");
    assert_eq!((bad[0]["file"].as_str(), bad[0]["offset"].as_u64()), (last.to_str(), Some(4096 + 96)));
    assert!(place.ok(&["wal", "dump"]).contains("DAMAGED"));

    edit(&logs[0], &[20, 2048 + 20]);
    let run = place.run(&["wal", "dump", "--json"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(of_kind(&objects(&run.out), "file").len(), logs.len() - 1);
    assert_eq!(objects(&run.err)[0]["error"]["file"].as_str(), logs[0].to_str());
    // Of several each is told.
    edit(&logs[1], &[20, 2048 + 20]);
    let told = objects(&place.run(&["wal", "dump", "--json"]).err);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0]["note"].as_str().unwrap().starts_with(logs[1].to_str().unwrap()), "{told:?}");
    assert_eq!(told[1]["error"]["file"].as_str(), logs[0].to_str());
}

#[test]
fn a_tail_shows_the_last_records() {
    let place = Place::with_rows();
    place.ok(&["rm", "docs", "a"]);
    let before = place.everything();
    let shown = |args: &[&str]| {
        let all = place.json(&[&["wal", "tail"][..], args].concat());
        let (end, records) = all.split_last().unwrap();
        assert_eq!(keys(end), "cut kind last live_records proven unproven");
        assert_eq!(
            (end["live_records"].as_u64(), &end["unproven"], &end["cut"]),
            (Some(4), &Value::Null, &Value::Null)
        );
        records
            .iter()
            .map(|r| (r["key"].as_str().unwrap().to_owned(), r["lsn"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let all = shown(&[]);
    let keys: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["a", "b", "c", "a"]);
    assert_eq!(shown(&["-n", "2"]), all[2..]);
    assert_eq!(shown(&["--from", &all[1].1]), all[1..]);
    assert_eq!(shown(&["--from", &all[1].1, "-n", "1"]), all[3..]);
    assert_eq!(shown(&["--from", "99:1"]), []);
    assert_eq!(shown(&[place.db().to_str().unwrap(), "-n", "1"]), all[3..]);
    assert!(place.ok(&["wal", "tail"]).contains("4 records in the log"));
    assert_eq!(place.everything(), before);
}

#[test]
fn a_tail_says_what_a_crash_left_unproven() {
    let place = Place::with_rows();
    // The seal, a stamp where there is one, and the control page prove everything; without them the last frame's
    // records are proven by nothing.
    fs::remove_file(place.db().join("wal").join("control")).unwrap();
    let last = place.files(".wal").pop().unwrap();
    let found = place.json(&["wal", "dump", last.to_str().unwrap()]);
    let frames = of_kind(&found, "frame");
    let batch = frames.iter().position(|frame| frame["type"] == "batch").unwrap();
    let at = usize::try_from(frames[batch + 1]["offset"].as_u64().unwrap()).unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[at..].fill(0);
    fs::write(&last, bytes).unwrap();
    let all = place.json(&["wal", "tail"]);
    let (end, records) = all.split_last().unwrap();
    assert!(records.iter().all(|record| record["proven"] == false), "{all:?}");
    assert_eq!(end["unproven"][0], records[0]["lsn"]);
    assert_eq!(end["unproven"][1], records[2]["lsn"]);
    assert!(place.ok(&["wal", "tail"]).contains("not proven to be on disk"));
}

#[test]
fn slips_are_told() {
    let place = Place::with_rows();
    place.fails(2, &["wal", "tail", "--from", "yesterday"]);
    place.fails(1, &["wal", "tail", place.path("nothing").to_str().unwrap()]);
    place.fails(1, &["wal", "dump", place.path("nothing").to_str().unwrap()]);
    fs::create_dir(place.path("empty")).unwrap();
    place.fails(2, &["wal", "dump", place.path("empty").to_str().unwrap()]);
    let text = place.file("text.wal", "no log");
    place.fails(3, &["wal", "dump", text.to_str().unwrap()]);
}

/// Ends the writer whatever becomes of the test.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The tail of a log that is being written and rotated: never an error, never a step back.
#[test]
fn a_tail_works_beside_a_running_writer() {
    let place = Place::with_rows();
    let db = akidb::Db::open(place.db()).unwrap();
    let docs = db.collection("docs").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = Stop(&stop);
        let writer = scope.spawn(|| {
            let mut written = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                docs.upsert("w", &[0.5, 0.5], akidb::Payload::default()).unwrap();
                written += 1;
            }
            written
        });
        let mut last = 0;
        for _ in 0..5 {
            let all = place.json(&["wal", "tail", "-n", "1"]);
            let live = all.last().unwrap()["live_records"].as_u64().unwrap();
            assert!(live >= last, "{live} records after {last}");
            last = live;
        }
        drop(end);
        let written = writer.join().unwrap();
        // Everything acknowledged is seen.
        let all = place.json(&["wal", "tail"]);
        assert_eq!(all.last().unwrap()["live_records"].as_u64(), Some(3 + u64::from(written)));
    });
    db.close().unwrap();
}
