//! Breakers: how they are shown and turned, over HTTP and by `akidb breaker`.

use serde_json::{Value, json};

use crate::server::Server;
use crate::support::{Place, keys};

fn with_two_backends(place: &Place) -> Server {
    let (a, b) = (format!("a={}", place.url("copy-a")), format!("b={}", place.url("copy-b")));
    Server::start(place, &["--backend", &a, "--backend", &b])
}

/// State of each breaker, as `backend kind state`.
fn states(value: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let state = |b: &Value| format!("{} {} {}", word(&b["backend"]), word(&b["kind"]), word(&b["state"]));
    value["breakers"].as_array().unwrap().iter().map(state).collect()
}

#[test]
fn each_breaker_is_shown_and_can_be_turned() {
    let place = Place::with_rows();
    let server = with_two_backends(&place);
    let shown = server.get("/admin/breaker").json();
    assert_eq!(
        states(&shown),
        [
            "a upload closed",
            "a download closed",
            "a list_delete closed",
            "b upload closed",
            "b download closed",
            "b list_delete closed"
        ]
    );
    assert_eq!(
        keys(&shown["breakers"][0]),
        "backend bypassed error_rate kind reason retry_in_secs state totals"
    );

    let opened = server.post("/admin/breaker/open", "{\"backend\":\"b\",\"kind\":\"download\"}").json();
    assert_eq!(opened["changed"], 1);
    assert_eq!(states(&opened)[4], "b download open");
    assert_eq!(opened["breakers"][4]["reason"], "forced");
    assert_eq!(server.get("/readyz").status, 200, "an open breaker does not matter to readiness");
    let metrics = server.scrape("").body;
    assert!(metrics.contains("\nakidb_circuit_breaker_state 1\n"), "the worst of all: {metrics}");
    assert!(metrics.contains("backend=\"b\",kind=\"download\"} 1\n"), "{metrics}");
    assert!(metrics.contains("backend=\"a\",kind=\"download\"} 0\n"), "{metrics}");

    let closed = server.post("/admin/breaker/close?backend=b", "").json();
    assert_eq!((&closed["changed"], &closed["breakers"][4]["bypassed"]), (&json!(3), &json!(true)));
    let reset = server.post("/admin/breaker/reset", "").json();
    assert_eq!((&reset["changed"], &reset["breakers"][4]["bypassed"]), (&json!(6), &json!(false)));
    assert!(server.scrape("").body.contains("\nakidb_circuit_breaker_state 0\n"));
}

#[test]
fn a_slip_turns_nothing() {
    let place = Place::with_rows();
    let server = with_two_backends(&place);
    for (path, body, status, code) in [
        ("/admin/breaker/open", "{\"backend\":\"c\"}", 404, "AKI-0252"),
        ("/admin/breaker/open", "{\"kind\":\"uploads\"}", 400, "AKI-0911"),
        ("/admin/breaker/open", "{\"backends\":\"a\"}", 400, "AKI-0911"),
        ("/admin/breaker/open?backnd=a", "", 400, "AKI-0911"),
        ("/admin/breaker/open", "backend=a", 400, "AKI-0911"),
        ("/admin/breaker/shut", "", 404, "AKI-0910"),
        ("/admin/breaker", "", 405, "AKI-0910"),
    ] {
        let answer = server.post(path, body);
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {body}: {answer:?}");
    }
    assert_eq!(server.get("/admin/breaker/open").status, 405, "a look turns nothing");
    assert!(states(&server.get("/admin/breaker").json()).iter().all(|state| state.ends_with(" closed")));
}

#[test]
fn the_command_asks_the_server_and_says_so_without_one() {
    let place = Place::with_rows();
    let server = with_two_backends(&place);
    let url = server.url();
    let breaker = |args: &[&'static str]| [&["breaker", "--admin", url.as_str()], args].concat();
    assert_eq!(place.json(&breaker(&["show"])).len(), 6);
    let table = place.ok(&breaker(&["open", "--of", "a", "--kind", "upload"]));
    assert!(table.contains("1 breakers changed") && table.contains("forced"), "{table}");
    assert!(place.fails(1, &breaker(&["open", "--of", "c"])).contains("there are: a, b"));
    assert!(place.fails(2, &breaker(&["open", "--kind", "uploads"])).contains("list_delete"));
    assert!(place.ok(&breaker(&["close"])).contains("closed (held)"));
    assert!(place.ok(&breaker(&["reset"])).contains("6 breakers changed"));
    let err = place.fails(2, &["breaker", "show"]);
    assert!(err.contains("live in the process") && err.contains("akidb breaker show --admin"), "{err}");
}

#[test]
fn the_command_takes_address_and_token_from_the_environment() {
    let place = Place::with_rows();
    let token = "0123456789abcdef0123456789abcdef";
    let server = Server::start_with(&place, &[], &[("AKIDB_TOKEN", token)]);
    let mut command = crate::support::program();
    command.args(["breaker", "show"]).env("AKIDB_ADMIN", server.url());
    assert_eq!(command.output().unwrap().status.code(), Some(2), "no token");
    let with_token = command.env("AKIDB_TOKEN", token).output().unwrap();
    assert_eq!(with_token.status.code(), Some(0), "{with_token:?}");
    assert!(String::from_utf8(with_token.stdout).unwrap().contains("no backend"));
}
