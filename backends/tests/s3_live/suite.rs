//! object_store's own suite over the guarded client, and the store that lies.

use std::panic::AssertUnwindSafe;

use akidb_backends::fault::FaultStore;
use akidb_backends::{CallKind, Guard, GuardSettings, GuardedStore, State};
use futures::FutureExt;
use object_store::integration;

use super::*;

fn guarded(backend: &Backend) -> GuardedStore<Arc<dyn ObjectStore>> {
    let guard = Guard::new("live", &GuardSettings::default(), Arc::new(RealClock), Arc::new(TokioSleep), 0);
    GuardedStore::new(Arc::clone(backend.store()), guard)
}

/// Runs a part of the suite that this kind of server is known to fail, which must then still be seen.
async fn but_for(dialect: &str, check: impl Future<Output = ()>) {
    let passed = AssertUnwindSafe(check).catch_unwind().await.is_ok();
    assert_eq!(passed, variable("DIALECT") != dialect, "passed: {passed}; {dialect} was known to fail this");
}

#[tokio::test]
async fn the_guarded_client_passes_object_stores_own_suite() {
    let _server = SERVER.read().await;
    let backend = akidb_backends::open(&config()).unwrap();
    let store = guarded(&backend);
    // It sorts "a/b" behind "aa" and forgets it after an offset between the two. Nothing here lists from an offset.
    but_for("seaweedfs", integration::put_get_delete_list(&store)).await;
    clean(&backend).await;
    integration::get_opts(&store).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::list_with_offset_exclusivity(&store).await;
    integration::rename_and_copy(&store).await;
    // It answers 400 where the source of a copy is missing. Nothing here copies.
    but_for("seaweedfs", integration::copy_rename_nonexistent_object(&store)).await;
    clean(&backend).await;
    integration::stream_get(&store).await;
    integration::put_opts(&store, true).await;
    integration::multipart_out_of_order(&store).await;
    integration::put_get_attributes(&store).await;
    for kind in CallKind::ALL {
        assert_eq!(store.guard().status(kind).state, State::Closed, "{kind}");
    }
    assert_eq!(store.guard().in_flight().calls, 0);
    clean(&backend).await;
}

/// Checks that could not fail would prove nothing.
#[tokio::test]
async fn a_store_that_lies_fails_the_probe_and_the_race() {
    let _server = SERVER.read().await;
    let backend = akidb_backends::open(&config()).unwrap();
    let liar = FaultStore::new(Arc::clone(backend.store()));
    liar.set_lying(true);
    let lying = Backend::from_store("liar", Arc::new(liar));
    let error = publisher(&lying, 1).claim().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("single_writer_unchecked"), "{error}");
    assert_eq!(race(lying.store(), 0).await.len(), 16, "all are told that they won");
    clean(&backend).await;
}
