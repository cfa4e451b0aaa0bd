//! `akidb serve`: every route, who may ask, what is refused, and the end.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use crate::server::{Server, exchange, until, until_so};
use crate::support::{Place, keys};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn life_readiness_and_figures_are_answered() {
    let place = Place::with_rows();
    let server = Server::start(&place, &[]);
    assert_eq!((server.get("/livez").status, server.get("/livez").json()), (200, json!({ "live": true })));
    assert_eq!((server.get("/readyz").status, server.get("/readyz").json()), (200, json!({ "ready": true })));
    let stats = server.get("/admin/stats").json();
    let printed = place.json(&["stats"]).remove(0);
    assert_eq!(keys(&stats), keys(&printed));
    assert_eq!(stats["collections"][0]["rows"], 3);
}

#[test]
fn what_is_not_there_is_said_in_json() {
    let place = Place::with_rows();
    let server = Server::start(&place, &[]);
    for path in [
        "/",
        "/admin",
        "/metrics",
        "/admin/stats/",
        "/admin/../livez",
        "/%2e%2e/livez",
        "//livez",
        "/admin/dlq/a/b/c",
    ] {
        let answer = server.get(path);
        assert_eq!((answer.status, answer.code().as_str()), (404, "AKI-0910"), "{path}: {answer:?}");
    }
    for (method, path) in [("POST", "/livez"), ("PUT", "/admin/stats"), ("DELETE", "/readyz")] {
        let answer = server.ask(method, path, &[], "");
        assert_eq!((answer.status, answer.code().as_str()), (405, "AKI-0910"), "{path}: {answer:?}");
    }
    let unknown = server.get("/admin/stats?depth=3");
    assert_eq!((unknown.status, unknown.code().as_str()), (400, "AKI-0911"));
    assert!(unknown.body.contains("depth"));
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn what_is_no_request_ends_the_connection_and_nothing_else() {
    let place = Place::with_rows();
    let server = Server::start(&place, &[]);
    let huge = "x".repeat(1 << 20);
    for text in [
        "nonsense\r\n\r\n".to_owned(),
        "GET /livez HTTP/9.9\r\n\r\n".to_owned(),
        format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: {huge}\r\n\r\n"),
        format!("GET /{huge} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: minus\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}".repeat(1_000) + "\r\n\r\n",
    ] {
        let answer = exchange(&server.admin, &text);
        assert!([0, 400, 414, 431, 505].contains(&answer.status), "{:.60}: {answer:?}", text);
    }
    assert_eq!(server.get("/livez").status, 200, "the server goes on");
}

#[test]
fn a_token_stands_before_everything_but_the_probes() {
    let place = Place::with_rows();
    let file = place.file("token", format!("{TOKEN}\n"));
    let by_file = Server::start(&place, &["--token-file", file.to_str().unwrap()]);
    check_token(&by_file);
    drop(by_file);
    check_token(&Server::start_with(&place, &[], &[("AKIDB_TOKEN", TOKEN)]));
}

fn check_token(server: &Server) {
    let bearer = format!("Bearer {TOKEN}");
    let right = [("Authorization", bearer.as_str())];
    assert_eq!(server.ask("GET", "/admin/stats", &right, "").status, 200);
    assert_eq!(server.scrape(&format!("Authorization: {bearer}\r\n")).status, 200);
    for wrong in ["", "Bearer", "Bearer 0123456789abcdef", "Basic 0123456789abcdef0123456789abcdef"] {
        for path in ["/admin/stats", "/admin/dlq/stats", "/admin/breaker"] {
            let answer = server.ask("GET", path, &[("Authorization", wrong)], "");
            assert_eq!((answer.status, answer.code().as_str()), (401, "AKI-0908"), "{wrong}: {answer:?}");
            assert!(answer.head.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer:?}");
            assert!(!answer.body.contains(TOKEN));
        }
    }
    assert_eq!(server.scrape("").status, 401);
    assert_eq!((server.get("/livez").status, server.get("/readyz").status), (200, 200));
}

#[test]
fn without_a_token_no_web_page_is_answered() {
    let place = Place::with_rows();
    let server = Server::start(&place, &[]);
    let rebound = server.ask("GET", "/admin/stats", &[("Host", "evil.example")], "");
    assert_eq!((rebound.status, rebound.code().as_str()), (403, "AKI-0909"));
    let form = server.ask("POST", "/admin/dlq/retry-all", &[("Origin", "http://evil.example")], "");
    assert_eq!((form.status, form.code().as_str()), (403, "AKI-0909"));
}

#[test]
fn other_machines_are_let_in_by_a_token_or_by_order_only() {
    let place = Place::new();
    for open in [["--listen", "0.0.0.0:0"], ["--metrics-listen", "[::]:0"]] {
        let err = place.fails(2, &[&["serve"][..], &open].concat());
        assert!(err.contains("AKIDB_TOKEN") && err.contains("--insecure"), "{err}");
    }
    let err = place.fails(2, &["serve", "--token", "short"]);
    assert!(err.contains("16"), "{err}");
    assert!(!place.db().exists(), "nothing was opened");
    let server = Server::start(&place, &["--insecure", "--listen", "0.0.0.0:0"]);
    assert!(server.admin.starts_with("0.0.0.0:"));
    let port = server.admin.rsplit(':').next().unwrap();
    let named = exchange(
        &format!("127.0.0.1:{port}"),
        "GET /admin/stats HTTP/1.1\r\nHost: akidb.example\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(named.status, 200, "{named:?}");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let place = Place::with_rows();
    let server = Server::start(&place, &[]);
    let other = Place::new();
    let err = other.fails(4, &["serve", "--listen", &server.admin, "--metrics-listen", "127.0.0.1:0"]);
    assert!(err.contains(&server.admin) && err.contains("AKI-0907"), "{err}");
    assert!(!other.db().exists(), "the address is looked at first");
}

#[test]
fn a_signal_ends_it_with_the_database_closed() {
    for signal in ["TERM", "INT"] {
        let place = Place::with_rows();
        let server = Server::start(&place, &[]);
        // A connection that idles is no reason to stay.
        let mut idle = TcpStream::connect(&server.admin).unwrap();
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        idle.read_exact(&mut [0; 12]).unwrap();
        let pid = server.pid();
        server.signal(signal);
        let run = server.ended();
        assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""), "{signal}");
        // Closed: the next open has nothing to guess, and the lock is free.
        let err = place.run(&["stats"]).err;
        assert!(!err.contains("another process") && !err.contains("torn"), "pid {pid}: {err}");
        place.ok(&["upsert", "docs", "d", "--vector", "1,1"]);
    }
}

#[test]
fn a_request_that_runs_is_answered_before_the_end() {
    let place = Place::with_rows();
    let server = Server::start(&place, &[]);
    let mut half = TcpStream::connect(&server.admin).unwrap();
    half.write_all(b"POST /admin/breaker/reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{")
        .unwrap();
    assert_eq!(server.get("/livez").status, 200);
    server.signal("TERM");
    until_so(|| TcpStream::connect(&server.admin).is_err());
    half.write_all(b"}").unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"changed\":0"), "{answer}");
    assert_eq!(server.ended().code, 0);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let place = Place::with_rows();
    let server = Server::start(&place, &[]);
    // A request that does not end holds the shutdown up.
    let mut half = TcpStream::connect(&server.admin).unwrap();
    half.write_all(b"POST /admin/breaker/reset HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        .unwrap();
    assert_eq!(server.get("/livez").status, 200);
    server.signal("TERM");
    // Not before it has begun to end: it accepts nothing more then.
    until_so(|| TcpStream::connect(&server.admin).is_err());
    server.signal("TERM");
    let run = server.ended();
    assert_eq!(run.code, 130, "{run:?}");
    assert_eq!(place.json(&["ls", "docs"]).len(), 3);
}

#[test]
fn a_full_disk_is_not_ready_and_still_alive() {
    let place = Place::with_rows();
    let config = place.file("akidb.toml", "[engine]\nmin_free_disk_bytes = \"1000000 GiB\"\n");
    let server = Server::start(&place, &["--config", config.to_str().unwrap()]);
    // The disk is measured within the driver's first look.
    let answer = until(|| Some(server.get("/readyz")).filter(|answer| answer.status != 200));
    assert_eq!((answer.status, answer.code().as_str()), (503, "AKI-0913"), "{answer:?}");
    assert_eq!(server.get("/livez").status, 200);
    assert_eq!(server.get("/admin/stats").json()["collections"][0]["rows"], 3, "reads go on");
}

#[test]
fn the_directory_can_be_read_beside_it_and_not_written() {
    let place = Place::with_rows();
    let server = Server::start(&place, &[]);
    assert!(place.run(&["stats"]).err.contains("another process"));
    let err = place.fails(1, &["upsert", "docs", "d", "--vector", "1,1"]);
    assert!(err.contains(&format!("pid {}", server.pid())), "{err}");
}
