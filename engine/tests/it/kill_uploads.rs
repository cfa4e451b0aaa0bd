//! A process that uploads is killed (SIGKILL) at each call to its backend and at the file calls around an upload. After
//! every kill: what was acknowledged is there, no remote document names an absent or wrong object, what is pending is
//! what the backend lacks and goes up, and a restore is the database as one of its manifests had it.

mod child;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use akidb::object_store::ObjectStore;
use akidb::{BackendSettings, Db, Settings, Which, restore};
use akidb_backends::{BackendConfig, Client, Document, ErrorKind, Restorer, TokioSleep};
use akidb_host::{Fs, RealFs, RealSpawn, Rng};
use tempfile::TempDir;

use workload::{Model, STEPS, Step, model_of, models};

const CHILD: &str = "AKIDB_KILL_UPLOADS_CHILD";
const LONG: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Before,
    /// Half of what is written or put is there.
    Midway,
    After,
}

/// Where a child dies: at the `k`-th counted call to the disk or to the store, from 1; 0 is never.
struct Plan {
    dir: PathBuf,
    backend: PathBuf,
    is_file: bool,
    k: u64,
    when: When,
}

fn settings() -> Settings {
    // What is put is counted: it must not depend on when segments are merged.
    let quick = "[engine]\nremote_commit_interval_ms = 10\ncompaction = false\n\
                 [storage.circuit_breaker_config]\ncooldown_duration_secs = 1\n";
    Settings::from_toml(quick).unwrap()
}

fn config_of(backend: &Path) -> BackendConfig {
    BackendConfig::new("copies", backend.to_str().unwrap())
}

fn store_of(backend: &Path) -> Arc<dyn ObjectStore> {
    Arc::clone(akidb_backends::open(&config_of(backend)).unwrap().store())
}

#[test]
fn kill_child() {
    let Ok(plan) = std::env::var(CHILD) else { return };
    let parts: Vec<&str> = plan.split('|').collect();
    let [home, is_file, k, when] = parts[..] else { panic!("a plan has four parts: {plan}") };
    let when = match when {
        "Before" => When::Before,
        "Midway" => When::Midway,
        _ => When::After,
    };
    let (dir, backend) = places(Path::new(home));
    child::live(&Plan { dir, backend, is_file: is_file == "true", k: k.parse().unwrap(), when });
}

/// What a killed process wrote outlives it in memory as on a disk, and there no sync takes its time.
fn home() -> TempDir {
    let memory = Path::new("/dev/shm");
    let has_room = RealFs.statfs(memory).is_ok_and(|stats| stats.available_bytes > 256 << 20);
    let home = if has_room { tempfile::tempdir_in(memory).ok() } else { None };
    home.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

fn places(home: &Path) -> (PathBuf, PathBuf) {
    (home.join("db"), home.join("backend"))
}

/// What a child told before it ended.
#[derive(Default)]
struct Life {
    steps: usize,
    /// Operation and object of each counted call.
    store: Vec<(String, String)>,
    file: Vec<(String, String)>,
    killed_at: Option<String>,
    ended: bool,
}

fn live(home: &Path, is_file: bool, k: u64, when: When) -> Life {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kill_uploads::kill_child", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{}|{is_file}|{k}|{when:?}", home.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut life = Life::default();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        let Some((mark, rest)) = line.split_once(' ') else {
            life.ended |= line == "#end";
            continue;
        };
        let call = || rest.split_once(' ').map(|(op, what)| (op.to_owned(), what.to_owned())).unwrap();
        match mark {
            "#done" => life.steps = rest.parse().unwrap(),
            "#store" => life.store.push(call()),
            "#file" => life.file.push(call()),
            "#kill" => life.killed_at = Some(rest.to_owned()),
            _ => {}
        }
    }
    let status = child.wait().unwrap();
    let signal = life.killed_at.as_ref().map(|_| 9);
    assert_eq!(
        status.signal(),
        signal,
        "a child ends by its kill or to the end: {status}, {} steps",
        life.steps
    );
    assert!(life.ended || signal.is_some(), "a child that was not killed failed after {} steps", life.steps);
    life
}

/// Every document that publishes something, oldest first; each object it names is there and whole.
fn documents(backend: &Path) -> Vec<Document> {
    let opened = akidb_backends::open(&config_of(backend)).unwrap();
    let client = Client::new(opened, Arc::new(TokioSleep), Rng::seeded(1));
    let restorer = Restorer::new(client, Arc::new(RealSpawn));
    let numbers = restorer.numbers().unwrap();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "numbers are dense");
    let mut documents = Vec::new();
    for number in numbers {
        let document = match restorer.document(number) {
            Ok(document) => document,
            // A claim of a backend on which nothing was published yet.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => panic!("document {number}: {error}"),
        };
        for file in &document.content.as_ref().unwrap().files {
            let bytes = std::fs::read(backend.join(&file.key));
            let bytes = bytes.unwrap_or_else(|e| panic!("document {number} names {}: {e}", file.key));
            let found = (bytes.len() as u64, crc32fast::hash(&bytes));
            assert_eq!(found, (file.len, file.crc32), "document {number} names {}", file.key);
        }
        documents.push(document);
    }
    documents
}

fn keys(documents: &[Document]) -> BTreeSet<String> {
    let newest = documents.last().and_then(|document| document.content.as_ref());
    newest.iter().flat_map(|content| &content.files).map(|file| file.key.clone()).collect()
}

fn restored(backend: &Path) -> Model {
    let dir = home();
    restore(&BackendSettings::new("copies", &format!("file://{}", backend.display())).unwrap(), dir.path())
        .unwrap();
    model_of(&Db::open(dir.path()).unwrap())
}

/// The invariants after a child's end.
fn check(home: &Path, life: &Life) {
    let (dir, backend) = places(home);
    let (models, flushes) = models();
    let reached = (life.steps + 1).min(STEPS.len());
    // The backend alone, as another machine sees it: the flushes up to some step after the last upload that was
    // waited for.
    std::fs::create_dir_all(&backend).unwrap();
    let before = documents(&backend);
    let uploaded = STEPS[..life.steps].iter().rposition(|step| *step == Step::Uploaded);
    if before.is_empty() {
        assert_eq!(uploaded, None, "uploads were acknowledged");
    } else {
        let model = restored(&backend);
        let from = uploaded.unwrap_or(0);
        assert!(
            flushes[from..=reached].contains(&model),
            "the restore is of no step from {from} to {reached}"
        );
    }

    let db = Db::builder(&dir).settings(settings()).store("copies", store_of(&backend)).open().unwrap();
    // Of a step under way all or nothing is there.
    let model = model_of(&db);
    assert!(
        models[life.steps..=reached].contains(&model),
        "not what was acknowledged after {} steps",
        life.steps
    );
    // The letters' own time is a minute away.
    db.backends().retry_all(&Which::all()).unwrap();
    db.wait_uploaded(LONG).unwrap();
    let after = documents(&backend);
    let stats = db.stats().unwrap().backends.remove(0);
    let lacking = keys(&after).difference(&keys(&before)).count() as u64;
    assert_eq!((stats.pending_files, stats.files_put), (0, lacking), "pending was what the backend lacks");
    assert_eq!(db.backends().dead_letters().unwrap().stats().size, 0);

    db.flush().unwrap();
    db.wait_uploaded(LONG).unwrap();
    documents(&backend);
    assert_eq!(restored(&backend), model, "the restore is the database");
    assert_eq!(model_of(&db), model);
    db.close().unwrap();
}

/// One child from its start to its kill, and what must hold then.
fn round(is_file: bool, k: u64, when: When, met: &mut BTreeMap<String, u64>) {
    let home = home();
    let life = live(home.path(), is_file, k, when);
    let (steps, place) = (life.steps, if is_file { "file" } else { "store" });
    let Some(killed_at) = &life.killed_at else {
        println!("{place} call {k}: not reached, {steps} steps");
        return check(home.path(), &life);
    };
    println!("{place} call {k}: killed {killed_at}, {steps} steps");
    let words: Vec<&str> = killed_at.split([' ', '/']).collect();
    // The operation on a store, the directory of a file.
    *met.entry(words[if is_file { 2 } else { 1 }].to_owned()).or_default() += 1;
    check(home.path(), &life);
}

fn whole_life() -> Life {
    let home = home();
    let life = live(home.path(), false, 0, When::Before);
    println!("{} calls to the store, {} of files", life.store.len(), life.file.len());
    assert_eq!(life.steps, STEPS.len());
    check(home.path(), &life);
    life
}

fn killed_in_each(met: &BTreeMap<String, u64>, categories: &[&str]) {
    println!("killed at: {met:?}");
    for category in categories {
        assert!(met.contains_key(*category), "no child was killed at '{category}': {met:?}");
    }
}

#[test]
fn a_kill_at_any_call_to_a_backend_leaves_every_promise_whole() {
    let mut met = BTreeMap::new();
    let life = whole_life();
    for ((op, key), k) in life.store.iter().zip(1..) {
        let (is_segment, is_probe) = (key.starts_with("collections/"), key.starts_with("probe/"));
        round(false, k, When::Before, &mut met);
        if ["put", "create"].contains(&op.as_str()) && !is_probe {
            round(false, k, When::After, &mut met);
        }
        if op == "put" && is_segment {
            round(false, k, When::Midway, &mut met);
        }
    }
    killed_in_each(&met, &["create", "delete", "get", "head", "list", "put"]);
}

/// At the first and the last call of each kind; at every one with `AKIDB_KILL_UPLOADS_ALL`.
#[test]
fn a_kill_at_any_file_call_around_an_upload_leaves_every_promise_whole() {
    let mut met = BTreeMap::new();
    let life = whole_life();
    let all = std::env::var_os("AKIDB_KILL_UPLOADS_ALL").is_some();
    let kinds: Vec<String> = life.file.iter().map(|(op, path)| format!("{op} {}", kind_of(path))).collect();
    for (at, kind) in kinds.iter().enumerate() {
        if !all && kinds[..at].contains(kind) && kinds[at + 1..].contains(kind) {
            continue;
        }
        let when = if kind.starts_with("WriteAt ") { When::Midway } else { When::Before };
        round(true, at as u64 + 1, when, &mut met);
    }
    killed_in_each(&met, &child::PARTS);
}

/// The path without numbers and random names.
fn kind_of(path: &str) -> String {
    let plain = |part: &str| match part.split_once('.') {
        Some((name, ends)) if name.contains('-') || name.starts_with('0') => format!("*.{ends}"),
        None if part.contains('-') => "*".to_owned(),
        _ => part.to_owned(),
    };
    path.split('/').map(plain).collect::<Vec<_>>().join("/")
}
