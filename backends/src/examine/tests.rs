//! What an examination finds on stores that behave and on stores that do not, and that it leaves nothing behind.

use akidb_host::{RealClock, RealSpawn};
use futures::TryStreamExt;
use object_store::ObjectStore;

use super::*;
use crate::class::Op;
use crate::fault::{Cause, Fault, FaultStore};
use crate::test_support::{client_like_s3, client_of, client_over, faulty};

fn found(store: &Arc<dyn ObjectStore>) -> Vec<Finding> {
    examine(client_over(store, 1), Arc::new(RealClock), Arc::new(RealSpawn)).unwrap()
}

/// Names of the checks with this verdict.
fn with(findings: &[Finding], verdict: Verdict) -> Vec<String> {
    let those = findings.iter().filter(|finding| finding.verdict == verdict);
    those.map(|finding| finding.check.to_string()).collect()
}

async fn left(store: &FaultStore) -> usize {
    store.list(None).try_collect::<Vec<_>>().await.unwrap().len()
}

#[tokio::test]
async fn a_sound_store_is_good_in_every_point_and_left_empty() {
    let (store, shared) = faulty();
    let findings = found(&shared);
    let all = ["reach", "put", "get", "list", "conditions", "clock", "delete"];
    assert_eq!(with(&findings, Verdict::Good), all, "{findings:?}");
    assert_eq!(left(&store).await, 0);
    let like_s3 = examine(client_like_s3(&shared, 1), Arc::new(RealClock), Arc::new(RealSpawn)).unwrap();
    assert_eq!(with(&like_s3, Verdict::Warning), ["leftovers"], "a rule of the bucket cannot be seen");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_asked_nothing_more() {
    let (store, shared) = faulty();
    store.set_dead(Some(Cause::Refused));
    let findings = found(&shared);
    assert_eq!(with(&findings, Verdict::Failed), ["reach"]);
    assert_eq!(with(&findings, Verdict::Skipped), ["put", "get", "list", "conditions", "clock", "delete"]);
    assert!(findings[0].help.as_deref().is_some_and(|help| help.contains("endpoint")), "{findings:?}");
    assert!(store.calls().iter().all(|call| call.op == Op::Head));
}

#[tokio::test]
async fn each_right_that_is_missing_is_named() {
    for (op, failed) in [(Op::Put, "put"), (Op::List, "list"), (Op::Get, "get"), (Op::Delete, "delete")] {
        let (store, shared) = faulty();
        for _ in 0..8 {
            store.script(op, "probe", 0, Fault::Fail(Cause::Denied));
        }
        let findings = found(&shared);
        let named = with(&findings, Verdict::Failed);
        assert!(named.contains(&failed.to_owned()), "{op}: {findings:?}");
        let finding = findings.iter().find(|f| f.verdict == Verdict::Failed).unwrap();
        assert!(finding.help.as_deref().is_some_and(|help| help.contains("rights")), "{finding:?}");
        let kept = usize::from(op == Op::Delete);
        assert_eq!(left(&store).await, kept, "{op}");
        assert_eq!(
            with(&findings, Verdict::Warning).contains(&"delete".to_owned()),
            kept == 1,
            "{findings:?}"
        );
    }
}

#[tokio::test]
async fn a_put_whose_answer_is_lost_leaves_nothing_behind() {
    let (store, shared) = faulty();
    store.script(Op::Put, "probe", 0, Fault::ApplyThenFail(Cause::Reset));
    let findings = found(&shared);
    assert_eq!(with(&findings, Verdict::Failed), ["put"]);
    assert_eq!(left(&store).await, 0);
}

#[tokio::test]
async fn a_store_that_lies_is_found_out() {
    let (store, shared) = faulty();
    store.set_lying(true);
    assert_eq!(with(&found(&shared), Verdict::Failed), ["conditions"]);
    assert_eq!(left(&store).await, 0);
    let (store, shared) = faulty();
    store.script(Op::Put, "probe", 0, Fault::Flip);
    let failed = with(&found(&shared), Verdict::Failed);
    assert!(failed.contains(&"get".to_owned()), "{failed:?}");
    assert_eq!(left(&store).await, 0);
}

#[tokio::test]
async fn an_operator_who_vouches_for_one_writer_is_warned_of_what_he_vouches_for() {
    let (store, shared) = faulty();
    store.set_lying(true);
    let config =
        crate::BackendConfig { single_writer_unchecked: true, ..crate::BackendConfig::new("t", "x") };
    let client = client_of(crate::Backend::over(&config, shared).unwrap(), 1);
    let findings = examine(client, Arc::new(RealClock), Arc::new(RealSpawn)).unwrap();
    assert_eq!(with(&findings, Verdict::Warning), ["conditions"], "{findings:?}");
    assert_eq!(with(&findings, Verdict::Failed), [""; 0]);
    let finding = findings.iter().find(|finding| finding.check == Check::Conditions).unwrap();
    assert!(finding.said.contains("two writers are not told apart"), "{finding:?}");
    assert_eq!(left(&store).await, 0);
}

#[test]
fn a_clock_is_judged_by_how_far_it_is_outside() {
    let second = 1_000_000;
    let judge = |made: i64| clock_verdict(made * second, 1_000 * second, 1_003 * second).0;
    for (made, verdict) in [
        (1_000, Verdict::Good),
        (998, Verdict::Good),
        (1_005, Verdict::Good),
        (960, Verdict::Good),
        (900, Verdict::Warning),
        (1_100, Verdict::Warning),
        (1, Verdict::Failed),
        (9_999, Verdict::Failed),
    ] {
        assert_eq!(judge(made), verdict, "{made}");
    }
    let said = clock_verdict(900 * second, 1_000 * second, 1_003 * second).1;
    assert_eq!(said, "the server's clock is 100 s behind this machine's");
}
