//! What an examination finds on a live server, and that it leaves nothing there.

use std::sync::Arc;

use akidb_backends::{BackendConfig, Check, Finding, Secret, Verdict, examine, open};
use akidb_host::{RealClock, RealSpawn};
use futures::TryStreamExt;

use super::{SERVER, client, config};

async fn found(config: &BackendConfig) -> Vec<Finding> {
    // A client of its own: its connections belong to the runtime that the examination makes.
    let client = client(&open(config).unwrap(), 1);
    let examined = move || examine(client, Arc::new(RealClock), Arc::new(RealSpawn)).unwrap();
    let findings = tokio::task::spawn_blocking(examined).await.unwrap();
    println!("{findings:#?}");
    findings
}

fn with(findings: &[Finding], verdict: Verdict) -> Vec<Check> {
    findings.iter().filter(|finding| finding.verdict == verdict).map(|finding| finding.check).collect()
}

#[tokio::test]
async fn a_sound_server_is_good_in_every_point_and_left_as_it_was() {
    let _server = SERVER.read().await;
    let config = config();
    let findings = found(&config).await;
    assert_eq!(with(&findings, Verdict::Warning), [Check::Leftovers]);
    assert_eq!(with(&findings, Verdict::Good).len(), 7);
    let left: Vec<_> = open(&config).unwrap().store().list(None).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_wrong_secret_and_a_missing_bucket_are_told_apart() {
    let _server = SERVER.read().await;
    let wrong = BackendConfig { secret_key: Some(Secret::new("wrong")), ..config() };
    let findings = found(&wrong).await;
    assert_eq!(with(&findings, Verdict::Good), [Check::Reach]);
    let put = findings.iter().find(|finding| finding.check == Check::Put).unwrap();
    assert!(put.help.as_deref().unwrap().contains("access key"), "{put:?}");

    let missing = BackendConfig { url: "s3://akidb-no-such-bucket/x".to_owned(), ..config() };
    let findings = found(&missing).await;
    let put = findings.iter().find(|finding| finding.check == Check::Put).unwrap();
    assert_eq!(put.verdict, Verdict::Failed, "{findings:?}");
}
