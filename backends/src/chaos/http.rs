//! The same under the real S3 client: statuses, bodies and connections as a server and a network make them.

use super::*;
use crate::class::{Class, Op};
use crate::config::Secret;
use crate::fault::{FaultHttp, HttpFault};
use crate::test_support::{judge, plan};
use crate::{ErrorKind, probe};

struct HttpRig {
    http: FaultHttp,
    client: Client,
    clock: VirtualClock,
}

fn config() -> BackendConfig {
    BackendConfig {
        access_key: Some("key".into()),
        secret_key: Some(Secret::new("secret")),
        circuit_breaker_config: exact(),
        ..BackendConfig::new("s", "s3://bucket/a/b")
    }
}

fn http_rig() -> HttpRig {
    let http = FaultHttp::new(Arc::new(InMemory::new()));
    let clock = VirtualClock::start();
    let backend = http.backend(&config()).unwrap().guarded(Arc::new(clock), Arc::new(TokioSleep), 1);
    HttpRig { http, client: Client::new(backend, Arc::new(TokioSleep), Rng::seeded(1)), clock }
}

impl HttpRig {
    fn guard(&self) -> &Arc<Guard> {
        self.client.backend().guard().unwrap()
    }

    async fn judge(&self) -> usize {
        self.http.set_every(None);
        judge(self.client.backend().store()).await.len()
    }

    fn count(&self, method: &str, part: &str) -> usize {
        let requests = self.http.requests();
        requests.iter().filter(|r| r.method == method && r.path.contains(part)).count()
    }

    fn assert_all_given_back(&self) {
        let left = self.guard().in_flight();
        assert_eq!((left.calls, left.bytes, left.waiting), (0, 0, 0));
    }
}

const SLOW_DOWN_BODY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code><Message>Please reduce.</Message></Error>";

#[tokio::test(start_paused = true)]
async fn the_scripted_server_is_an_s3_that_plans_can_be_published_on() {
    let dir = tempfile::tempdir().unwrap();
    let rig = http_rig();
    let small = items(dir.path(), &["a", "b"], 500, &mut Rng::seeded(1));
    let files = [small, items(dir.path(), &["c"], 9_000, &mut Rng::seeded(2))].concat();
    let mut up = publisher(&rig.client, 1, None);
    up.publish(&plan(1, &files)).await.unwrap();
    up.set_grace(Duration::ZERO);
    let swept = up.sweep("collections", &std::collections::BTreeSet::new(), false).await.unwrap();
    assert_eq!((swept.seen, swept.removed.len()), (3, 0));
    assert_eq!(rig.judge().await, 2);
    assert_eq!(rig.count("PUT", "partNumber"), 5);
}

#[tokio::test(start_paused = true)]
async fn chaos_each_status_is_met_as_its_class_says_and_no_request_is_made_twice_beneath() {
    let dir = tempfile::tempdir().unwrap();
    // Status, whether the put is done in the end, requests of the put.
    for (status, is_done, puts) in [
        (400, false, 1),
        (401, false, 1),
        (403, false, 1),
        (404, false, 1),
        (405, false, 1),
        (408, true, 2),
        (411, false, 1),
        (413, false, 1),
        (429, true, 2),
        (500, true, 2),
        (501, false, 1),
        (502, true, 2),
        (503, true, 2),
        (504, true, 2),
        (507, true, 2),
    ] {
        let rig = http_rig();
        let files = items(dir.path(), &["file"], 500, &mut Rng::seeded(1));
        let mut up = publisher(&rig.client, 1, None);
        up.claim().await.unwrap();
        rig.http.script("PUT", "file", 0, HttpFault::Answer(status, None, ""));
        let done = up.publish(&plan(1, &files)).await;
        assert_eq!(done.is_ok(), is_done, "{status}: {done:?}");
        assert_eq!(rig.count("PUT", "file"), puts, "{status}");
        assert_eq!(rig.judge().await, if is_done { 2 } else { 1 }, "{status}");
        rig.assert_all_given_back();
    }
}

#[tokio::test(start_paused = true)]
async fn chaos_slow_down_over_http_waits_as_long_as_asked_and_a_misleading_200_is_one_too() {
    let dir = tempfile::tempdir().unwrap();
    for (fault, least) in [
        (HttpFault::slow_down(Some(30)), 30),
        (HttpFault::slow_down(None), 0),
        (HttpFault::Answer(429, Some(3), ""), 3),
        (HttpFault::Answer(200, None, SLOW_DOWN_BODY), 0),
    ] {
        let rig = http_rig();
        let small = items(dir.path(), &["small"], 500, &mut Rng::seeded(1));
        let files = [small, items(dir.path(), &["large"], 9_000, &mut Rng::seeded(2))].concat();
        let mut up = publisher(&rig.client, 1, None);
        up.claim().await.unwrap();
        rig.http.script("PUT", "small", 0, fault);
        rig.http.script("POST", "large?uploadId", 0, fault);
        up.publish(&plan(1, &files)).await.unwrap();
        for (method, part) in [("PUT", "small"), ("POST", "large?uploadId")] {
            let requests = rig.http.requests();
            let at: Vec<_> = requests
                .iter()
                .filter(|r| r.method == method && r.path.contains(part))
                .map(|r| r.at)
                .collect();
            assert_eq!(at.len(), 2, "{fault:?} {method}: refused once, then done");
            assert!((at[1] - at[0]).as_secs() >= least, "{fault:?}: {at:?}");
        }
        let totals = rig.guard().status(CallKind::Upload).totals;
        assert_eq!((totals.failures, totals.opened), (0, 0), "{fault:?}: no fault");
        assert_eq!(rig.judge().await, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn chaos_reset_at_half_of_a_body_leaves_one_object_or_none() {
    let dir = tempfile::tempdir().unwrap();
    for (method, part, fault) in [
        ("PUT", "1-x/a", HttpFault::Reset),
        ("PUT", "1-x/a", HttpFault::ApplyThenReset),
        ("PUT", "1-x/a", HttpFault::Refused),
        ("GET", "1-x/a", HttpFault::ResetBody),
        ("GET", "manifest/", HttpFault::ResetBody),
        ("PUT", "partNumber=3", HttpFault::Reset),
        ("PUT", "partNumber=3", HttpFault::ApplyThenReset),
        ("POST", "uploadId", HttpFault::ApplyThenReset),
        ("PUT", "manifest/", HttpFault::ApplyThenReset),
    ] {
        let rig = http_rig();
        let small = items(dir.path(), &["a"], 500, &mut Rng::seeded(1));
        let files = [small, items(dir.path(), &["c"], 9_000, &mut Rng::seeded(2))].concat();
        rig.http.script(method, part, 0, fault);
        publisher(&rig.client, 1, None).publish(&plan(1, &files)).await.unwrap();
        assert_eq!(rig.judge().await, 2, "{method} {part} {fault:?}");
        rig.assert_all_given_back();
    }
    // Never a whole answer: nothing is visible, and nothing names it.
    let rig = http_rig();
    let files = items(dir.path(), &["a"], 500, &mut Rng::seeded(1));
    let mut up = publisher(&rig.client, 1, None);
    up.claim().await.unwrap();
    for _ in 0..3 {
        rig.http.script("PUT", "1-x/a", 0, HttpFault::Reset);
    }
    assert_eq!(up.publish(&plan(1, &files)).await.unwrap_err().class(), Class::Transient);
    assert_eq!(rig.judge().await, 1);
    assert!(rig.client.head(&files[0].key).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn chaos_ambiguous_create_over_http_is_resolved_and_no_document_is_made_twice() {
    for fault in [
        HttpFault::ApplyThenAnswer(500),
        HttpFault::ApplyThenAnswer(503),
        HttpFault::ApplyThenAnswer(412),
        HttpFault::ApplyThenReset,
        HttpFault::Answer(409, None, ""),
        HttpFault::Answer(500, None, ""),
        HttpFault::Hang,
    ] {
        let rig = http_rig();
        let mut up = publisher(&rig.client, 1, None);
        up.claim().await.unwrap();
        rig.http.script("PUT", "manifest/", 0, fault);
        assert_eq!(up.publish(&plan(1, &[])).await.unwrap().remote_number, 2, "{fault:?}");
        assert_eq!(rig.judge().await, 2, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn chaos_trickle_and_hang_end_at_their_deadlines_and_give_their_places_back() {
    let rig = http_rig();
    rig.client.put_once("k", vec![7; 1_000].into(), object_store::PutMode::Overwrite).await.unwrap();
    for (fault, least, most) in [
        // A byte a second, of a thousand: cut off after 5 s for so few bytes.
        (HttpFault::Trickle(Duration::from_secs(1)), 5, 6),
        (HttpFault::Hang, 5, 6),
    ] {
        rig.http.script("GET", "a/b/k", 0, fault);
        let start = rig.clock.passed();
        let read = async {
            rig.client.backend().store().get_opts(&"k".into(), Default::default()).await?.bytes().await
        };
        let error = rig.client.once(Op::Get, "k", 0, read).await.unwrap_err();
        let took = (rig.clock.passed() - start).as_secs();
        assert_eq!(error.class(), Class::Timeout, "{fault:?}");
        assert!((least..=most).contains(&took), "{fault:?}: {took} s");
        rig.assert_all_given_back();
    }
    // A slow but honest answer is waited for.
    rig.http.script("GET", "a/b/k", 0, HttpFault::Trickle(Duration::from_millis(4)));
    assert_eq!(rig.client.get("k").await.unwrap().unwrap().len(), 1_000);
    rig.http.script("GET", "a/b/k", 0, HttpFault::Late(Duration::from_secs(4)));
    assert_eq!(rig.client.get("k").await.unwrap().unwrap().len(), 1_000);
    let totals = rig.guard().status(CallKind::Download).totals;
    assert_eq!((totals.successes, totals.failures), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_settings_is_one_clear_error_and_one_request() {
    let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
    let redirect = "<Error><Code>PermanentRedirect</Code><Endpoint>bucket.s3.eu-west-1</Endpoint></Error>";
    let no_bucket = "<Error><Code>NoSuchBucket</Code></Error>";
    for (status, body, kind, class, said) in [
        (
            403,
            "<Error><Code>InvalidAccessKeyId</Code></Error>",
            ErrorKind::Unavailable,
            Class::Auth,
            "InvalidAccessKeyId",
        ),
        (
            403,
            "<Error><Code>SignatureDoesNotMatch</Code></Error>",
            ErrorKind::Unavailable,
            Class::Auth,
            "SignatureDoesNotMatch",
        ),
        (
            403,
            "<Error><Code>RequestTimeTooSkewed</Code></Error>",
            ErrorKind::Unavailable,
            Class::Auth,
            "TooSkewed",
        ),
        (401, "", ErrorKind::Unavailable, Class::Auth, "access denied"),
        (
            400,
            "<Error><Code>ExpiredToken</Code></Error>",
            ErrorKind::Unavailable,
            Class::Auth,
            "ExpiredToken",
        ),
        (404, no_bucket, ErrorKind::NotFound, Class::Permanent, "the bucket does not exist"),
        (
            400,
            malformed,
            ErrorKind::Invalid,
            Class::Permanent,
            "the bucket is in region 'eu-west-1'; set `region`",
        ),
        (
            301,
            redirect,
            ErrorKind::Invalid,
            Class::Permanent,
            "the bucket is in another region; set `region`",
        ),
    ] {
        for unchecked in [false, true] {
            let http = FaultHttp::new(Arc::new(InMemory::new()));
            let config = BackendConfig { single_writer_unchecked: unchecked, ..config() };
            let backend = http.backend(&config).unwrap();
            let backend = backend.guarded(Arc::new(VirtualClock::start()), Arc::new(TokioSleep), 1);
            let client = Client::new(backend, Arc::new(TokioSleep), Rng::seeded(1));
            http.set_every(Some(HttpFault::Answer(status, None, body)));
            let error = publisher(&client, 1, None).claim().await.unwrap_err();
            assert_eq!((error.kind(), error.class()), (kind, class), "{status} {body}: {error}");
            assert!(error.to_string().contains(said), "{status} {body}: {error}");
            assert_eq!(http.requests().len(), 1, "{status} {body}: {:?}", http.requests());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_of_an_honest_server_is_four_requests() {
    let rig = http_rig();
    probe(&rig.client).await.unwrap();
    let methods: Vec<_> = rig.http.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["PUT", "PUT", "GET", "POST"]);
    assert_eq!(rig.client.list("probe").await.unwrap(), []);
}
