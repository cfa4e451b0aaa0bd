//! Dead letters: over HTTP, by `akidb dlq` on a server and on a directory, and what is refused.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::server::{Server, until, until_so};
use crate::support::{Place, keys, objects};

/// A database whose one segment is damaged, so that it becomes a dead letter as soon as it is to be uploaded.
struct Damaged {
    place: Place,
    segment: PathBuf,
    whole: Vec<u8>,
    backend: String,
}

impl Damaged {
    fn new() -> Self {
        let place = Place::with_rows();
        place.ok(&["flush"]);
        let segment = place.files(".parquet").pop().unwrap();
        let whole = fs::read(&segment).unwrap();
        let mut damaged = whole.clone();
        damaged[100] ^= 4;
        fs::write(&segment, damaged).unwrap();
        let backend = format!("copy={}", place.url("copy"));
        Self { place, segment, whole, backend }
    }

    fn serve(&self) -> Server {
        Server::start(&self.place, &["--backend", &self.backend])
    }

    /// A server that has its dead letter, and the letter, which is on disk.
    fn with_letter(&self) -> (Server, Value) {
        let server = self.serve();
        let letter = letter_of(&server);
        // It is in the list a moment before it is in the file.
        until_so(|| !self.place.json(&["dlq", "ls"]).is_empty());
        (server, letter)
    }

    fn mend(&self) {
        fs::write(&self.segment, &self.whole).unwrap();
    }
}

/// Asks until there is a letter.
fn letter_of(server: &Server) -> Value {
    until(|| server.get("/admin/dlq").json()["letters"].as_array().unwrap().first().cloned())
}

fn id_of(letter: &Value) -> &str {
    letter["id"].as_str().unwrap()
}

#[test]
fn a_letter_is_listed_shown_and_tried_again_once_its_cause_is_mended() {
    let damaged = Damaged::new();
    let (server, letter) = damaged.with_letter();
    let id = id_of(&letter);
    assert_eq!(letter["state"], "poison");
    assert_eq!((&letter["backend"], &letter["class"]), (&json!("copy"), &json!("local")));
    let stats = server.get("/admin/dlq/stats").json();
    assert_eq!(keys(&stats), "oldest_entry_age_seconds size total_evictions total_expired");
    assert_eq!((&stats["size"], &stats["total_evictions"]), (&json!(1), &json!(0)));
    let list = server.get("/admin/dlq?backend=copy&class=local&state=poison&limit=5").json();
    assert_eq!(keys(&list), "corrupt_lines degraded letters parked poison redriving rejected size");
    assert_eq!((id_of(&list["letters"][0]), &list["poison"]), (id, &json!(1)));
    for none in ["backend=other", "class=auth", "state=dead"] {
        let list = server.get(&format!("/admin/dlq?{none}")).json();
        assert_eq!((list["letters"].as_array().unwrap().len(), &list["size"]), (0, &json!(1)), "{none}");
    }
    assert_eq!(server.get(&format!("/admin/dlq/{id}")).json()["id"], id);
    let metrics = server.scrape("").body;
    assert!(metrics.contains("\nakidb_dlq_size 1\n"), "{metrics}");

    damaged.mend();
    let asked = server.post(&format!("/admin/dlq/{id}/retry"), "");
    assert_eq!((asked.status, asked.json()), (200, json!({ "id": id, "asked": true })));
    until_so(|| server.get("/admin/dlq/stats").json()["size"] == 0);
    until_so(|| server.get("/admin/stats").json()["backends"][0]["pending_files"] == 0);
    let gone = server.post(&format!("/admin/dlq/{id}/retry"), "");
    assert_eq!((gone.status, gone.code().as_str()), (404, "AKI-0902"));
    assert_eq!(server.get(&format!("/admin/dlq/{id}")).status, 404);
}

#[test]
fn retry_all_takes_a_filter_and_nothing_it_does_not_know() {
    let damaged = Damaged::new();
    let (server, _) = damaged.with_letter();
    assert_eq!(server.post("/admin/dlq/retry-all", "{\"backend\":\"other\"}").json(), json!({ "asked": 0 }));
    assert_eq!(server.post("/admin/dlq/retry-all?class=auth", "").json(), json!({ "asked": 0 }));
    for body in
        ["{", "[]", "7", "{\"backend\":[\"copy\"]}", "{\"bakend\":\"copy\"}", "{\"class\":\"bad\"}", "\u{0}"]
    {
        let answer = server.post("/admin/dlq/retry-all", body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "AKI-0911"), "{body}: {answer:?}");
    }
    let twice = server.post("/admin/dlq/retry-all?backend=copy", "{\"backend\":\"copy\"}");
    assert_eq!(twice.status, 400, "{twice:?}");
    let huge = server.post("/admin/dlq/retry-all", &format!("{{\"backend\":\"{}\"}}", "x".repeat(1 << 20)));
    assert_eq!((huge.status, huge.code().as_str()), (413, "AKI-0911"));
    damaged.mend();
    assert_eq!(server.post("/admin/dlq/retry-all", "{}").json(), json!({ "asked": 1 }));
    until_so(|| server.get("/admin/dlq/stats").json()["size"] == 0);
}

#[test]
fn a_letter_is_dropped_by_order_only_and_its_file_stays_pending() {
    let damaged = Damaged::new();
    let (server, letter) = damaged.with_letter();
    let path = format!("/admin/dlq/{}", id_of(&letter));
    let refused = server.ask("DELETE", &path, &[], "");
    assert_eq!((refused.status, refused.code().as_str()), (409, "AKI-0255"), "{refused:?}");
    assert!(refused.body.contains("?forget=true"), "{refused:?}");
    assert_eq!(server.ask("DELETE", &format!("{path}?forget=maybe"), &[], "").status, 400);
    assert_eq!(server.get(&path).status, 200, "it is still there");
    let dropped = server.ask("DELETE", &format!("{path}?forget=true"), &[], "");
    assert_eq!((dropped.status, &dropped.json()["dropped"]), (200, &json!(true)), "{dropped:?}");
    assert_eq!(server.get(&path).status, 404);
    assert_eq!(server.get("/admin/stats").json()["backends"][0]["pending_files"], 1);
}

#[test]
fn an_id_is_an_id_and_no_path() {
    let place = Place::with_rows();
    let server = Server::start(&place, &[]);
    for id in ["x", "..%2f..%2fetc%2fpasswd", "%00", "019B76DA-A800-7000-8000-000000000000", "stats%20", "*"]
    {
        for (method, path) in [
            ("GET", format!("/admin/dlq/{id}")),
            ("DELETE", format!("/admin/dlq/{id}")),
            ("POST", format!("/admin/dlq/{id}/retry")),
        ] {
            let answer = server.ask(method, &path, &[], "");
            assert_eq!((answer.status, answer.code().as_str()), (400, "AKI-0911"), "{path}: {answer:?}");
        }
    }
    let unknown = "/admin/dlq/019b76da-a800-7000-8000-000000000000";
    assert_eq!(server.get(unknown).code(), "AKI-0902");
    assert_eq!(server.ask("DELETE", unknown, &[], "").status, 404);
    for limit in ["0", "-1", "many", "100001"] {
        assert_eq!(server.get(&format!("/admin/dlq?limit={limit}")).status, 400, "{limit}");
    }
    // Without a backend there are none, and nothing to try again.
    assert_eq!(server.get("/admin/dlq/stats").json()["size"], 0);
    assert_eq!(server.get("/admin/dlq").json()["letters"], json!([]));
    assert_eq!(server.post("/admin/dlq/retry-all", "").code(), "AKI-0253");
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

fn json_of(place: &Place, args: &[String]) -> Vec<Value> {
    place.json(&words(args))
}

fn ok_of(place: &Place, args: &[String]) -> String {
    place.ok(&words(args))
}

fn fails_of(place: &Place, code: i32, args: &[String]) -> String {
    place.fails(code, &words(args))
}

#[test]
fn the_command_speaks_to_the_server_or_reads_beside_it() {
    let damaged = Damaged::new();
    let (server, letter) = damaged.with_letter();
    let (place, id, url) = (&damaged.place, id_of(&letter), server.url());
    for admin in [&["--admin", url.as_str()][..], &[]] {
        let joined = |args: &[&str]| -> Vec<String> {
            [&["dlq"], admin, args].concat().into_iter().map(str::to_owned).collect()
        };
        let listed = json_of(place, &joined(&["ls"]));
        assert_eq!((listed.len(), id_of(&listed[0])), (1, id));
        assert_eq!(json_of(place, &joined(&["ls", "--of", "other"])).len(), 0);
        assert_eq!(json_of(place, &joined(&["ls", "--class", "local", "--state", "poison"])).len(), 1);
        assert_eq!(json_of(place, &joined(&["show", id]))[0]["key"], letter["key"]);
        let stats = json_of(place, &joined(&["stats"])).remove(0);
        assert_eq!(keys(&stats), "oldest_entry_age_seconds size total_evictions total_expired");
        assert_eq!(stats["size"], 1);
        let table = ok_of(place, &joined(&["ls"]));
        assert!(table.contains(id) && table.contains("1 of 1 dead letters"), "{table}");
        assert!(fails_of(place, 2, &joined(&["show", "x"])).contains("36"));
        assert!(fails_of(place, 2, &joined(&["ls", "--class", "bad"])).contains("permanent"));
        fails_of(place, 1, &joined(&["show", "019b76da-a800-7000-8000-000000000000"]));
    }
    // The directory is the server's: what changes it must go through it.
    for change in [&["dlq", "retry", id][..], &["dlq", "retry-all"], &["dlq", "drop", id]] {
        let err = place.fails(1, change);
        assert!(err.contains("AKI-0224") && err.contains("--admin"), "{err}");
    }
    let refused = place.run(&["dlq", "--admin", &url, "drop", id, "--json"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert_eq!(objects(&refused.err)[0]["error"]["code"], "AKI-0255", "the server's failure, as it told it");
    damaged.mend();
    let said = place.ok(&["dlq", "--admin", &url, "retry", id]);
    assert!(said.contains("now"), "{said}");
    until_so(|| place.json(&["dlq", "--admin", &url, "stats"])[0]["size"] == 0);
    assert!(place.ok(&["dlq", "--admin", &url, "retry-all"]).starts_with("0 dead letters"));
}

#[test]
fn a_directory_that_nobody_has_open_is_changed_for_the_next_open() {
    let damaged = Damaged::new();
    let (server, letter) = damaged.with_letter();
    let (place, id) = (&damaged.place, id_of(&letter));
    server.signal("TERM");
    assert_eq!(server.ended().code, 0);
    assert_eq!(place.json(&["dlq", "show", id])[0]["asked"], false);
    let said = place.ok(&["dlq", "retry", id]);
    assert!(said.contains("next process that opens"), "{said}");
    assert_eq!(place.json(&["dlq", "show", id])[0]["asked"], true);
    let err = place.fails(1, &["dlq", "drop", id]);
    assert!(err.contains("--forget") && err.contains("AKI-0255"), "{err}");
    // The next open tries it, poison or not.
    damaged.mend();
    let server = damaged.serve();
    until_so(|| server.get("/admin/dlq/stats").json()["size"] == 0);
    drop(server);

    let damaged = Damaged::new();
    let (server, letter) = damaged.with_letter();
    drop(server);
    let (place, id) = (&damaged.place, id_of(&letter));
    assert_eq!(place.json(&["dlq", "retry-all"])[0]["asked"], 1, "a process that was killed left it on disk");
    assert_eq!(place.json(&["dlq", "drop", id, "--forget"])[0]["dropped"], true);
    assert_eq!(place.json(&["dlq", "stats"])[0]["size"], 0);
    place.fails(1, &["dlq", "drop", id, "--forget"]);
    place.fails(1, &["dlq", "retry", id]);
}

#[test]
fn a_server_that_is_not_there_is_an_exit_of_its_own() {
    let place = Place::with_rows();
    let server = Server::start(&place, &[]);
    let (url, metrics) = (server.url(), format!("http://{}", server.metrics));
    let err = place.fails(2, &["dlq", "--admin", &metrics, "stats"]);
    assert!(err.contains("AKI-0910"), "{err}");
    drop(server);
    let err = place.fails(4, &["dlq", "--admin", &url, "stats"]);
    assert!(err.contains("AKI-0915") && err.contains("--admin"), "{err}");
    assert!(place.fails(2, &["dlq", "--admin", "ftp://x", "stats"]).contains("http://HOST:PORT"));
    let nowhere = Place::new();
    for verb in [&["dlq", "ls"][..], &["dlq", "retry-all"]] {
        assert!(nowhere.fails(1, verb).contains("no database"));
        assert!(!nowhere.db().exists());
    }
}

#[test]
fn damage_in_the_list_is_said_and_the_rest_is_shown() {
    let damaged = Damaged::new();
    let (server, _) = damaged.with_letter();
    drop(server);
    let place = &damaged.place;
    let mut touched = 0;
    for file in ["dlq/dlq.json", "dlq/dlq.journal.jsonl"] {
        let path = place.db().join(file);
        let Ok(mut bytes) = fs::read(&path) else { continue };
        let Some(at) = bytes.iter().position(|byte| *byte == b'p') else { continue };
        bytes[at] = b'q';
        fs::write(&path, bytes).unwrap();
        touched += 1;
    }
    assert!(touched > 0);
    let before = place.everything();
    let run = place.run(&["dlq", "ls"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("damaged and not shown"), "{run:?}");
    assert_eq!(place.everything(), before, "a look changes nothing");
}
