//! A link that fails between the client and the server.

use akidb_backends::fault::{Link, Proxy};
use akidb_backends::{CallKind, State};

use super::*;

/// A guarded backend behind a proxy to the server.
async fn proxied() -> (Proxy, Backend) {
    let config = config();
    let endpoint = config.endpoint.clone().unwrap();
    let place = endpoint.strip_prefix("http://").expect("a server that the proxy can stand in front of");
    let server = tokio::net::lookup_host(place).await.unwrap().next().unwrap();
    let proxy = Proxy::open(server).await.unwrap();
    let endpoint = Some(format!("http://{}", proxy.address()));
    let backend = akidb_backends::open(&BackendConfig { endpoint, ..config }).unwrap();
    (proxy, backend.guarded(Arc::new(RealClock), Arc::new(TokioSleep), 1))
}

fn assert_all_given_back(backend: &Backend) {
    let left = backend.guard().unwrap().in_flight();
    assert_eq!((left.calls, left.bytes, left.waiting), (0, 0, 0));
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_on_the_way_is_resolved_and_not_made_twice() {
    let _server = SERVER.read().await;
    let (proxy, backend) = proxied().await;
    let mut up = publisher(&backend, 1);
    up.claim().await.unwrap();
    proxy.set(Link::LoseAnswers(1));
    assert_eq!(up.publish(&plan(1, &[])).await.unwrap().remote_number, 2);
    let made = backend.store().list(Some(&"manifest".into())).try_collect::<Vec<_>>().await.unwrap();
    assert_eq!(made.len(), 2);
    assert!(proxy.connections() >= 2, "the cut connection was replaced");
    assert_all_given_back(&backend);
    clean(&backend).await;
}

#[tokio::test]
async fn a_put_cut_in_the_middle_of_its_body_leaves_nothing() {
    let _server = SERVER.read().await;
    let (proxy, backend) = proxied().await;
    proxy.set(Link::Cut(512 << 10));
    let key = "collections/1-x/cut".into();
    backend.store().put(&key, vec![7; 1 << 20].into()).await.unwrap_err();
    proxy.set(Link::Refuse);
    backend.store().put(&key, vec![7; 10].into()).await.unwrap_err();
    proxy.set(Link::Pass);
    assert!(backend.store().head(&key).await.is_err(), "half an object is visible");
    proxy.set(Link::Delay(Duration::from_millis(50)));
    backend.store().put(&key, vec![7; 10].into()).await.unwrap();
    proxy.set(Link::Trickle(Duration::from_micros(200)));
    assert_eq!(backend.store().get(&key).await.unwrap().bytes().await.unwrap().len(), 10);
    proxy.set(Link::Pass);
    assert_all_given_back(&backend);
    clean(&backend).await;
}

#[tokio::test]
async fn a_link_that_stands_still_ends_a_call_at_its_deadline() {
    let _server = SERVER.read().await;
    let (proxy, backend) = proxied().await;
    backend.store().put(&"k".into(), "bytes".into()).await.unwrap();
    proxy.set(Link::Stall);
    let error = backend.store().head(&"k".into()).await.unwrap_err();
    assert_eq!(akidb_backends::classify(&error, akidb_backends::Op::Head), Class::Timeout, "{error}");
    assert!(error.to_string().contains("no answer within 5 s"), "{error}");
    assert_all_given_back(&backend);
    proxy.set(Link::Pass);
    assert_eq!(backend.guard().unwrap().status(CallKind::Download).state, State::Closed);
    clean(&backend).await;
}
