//! A backend that is down, half down, locked, or back after a long sleep.

use super::*;
use crate::class::{Class, Op};
use crate::fault::{Cause, Fault};
use crate::test_support::{judge, plan};

/// Publishes until it is done, as the uploader does: a pause after each failure. Gives the seconds it took.
async fn until_published(rig: &Rig, up: &mut Publisher, plan: &crate::FilePlan) -> u64 {
    let start = rig.clock.passed();
    while let Err(error) = up.publish(plan).await {
        let pause = error.retry_after().unwrap_or(Duration::from_secs(5));
        pass(pause.clamp(Duration::from_millis(50), Duration::from_secs(60))).await;
    }
    (rig.clock.passed() - start).as_secs()
}

#[tokio::test(start_paused = true)]
async fn chaos_always_fail_for_an_hour_a_plan_waits_and_is_published_whole_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(exact(), 1);
    let files = items(dir.path(), &["a", "b", "c"], 5_000, &mut Rng::seeded(1));
    let mut up = publisher(&rig.client, 1, None);
    up.publish(&plan(1, &files[..1])).await.unwrap();
    rig.faults.clear_calls();
    rig.faults.set_dead(Some(Cause::Refused));
    let faults = rig.faults.clone();
    let heal = async {
        pass(Duration::from_secs(3_600)).await;
        let during = faults.calls().len();
        faults.set_dead(None);
        during
    };
    let plan = plan(2, &files);
    let (during, secs) = futures::future::join(heal, until_published(&rig, &mut up, &plan)).await;
    println!("{during} requests in an hour, published after {secs} s");
    // Ten until it opens, then one a cooldown; four files at once may be under way when it opens.
    assert!((10..=10 + 3 + 12).contains(&during), "{during}");
    assert!(secs <= 3_600 + 360, "it heals by itself within a cooldown and a pause: {secs}");
    assert_eq!(judge(rig.store()).await.last().unwrap().content, Some(plan.content()));
    for file in &files {
        let bytes = std::fs::read(&file.local).unwrap();
        assert_eq!(crc32fast::hash(&bytes), file.crc32, "what is here is untouched");
    }
    rig.assert_all_given_back();
}

#[tokio::test(start_paused = true)]
async fn chaos_share_of_failures_retries_stay_in_their_budget_and_goodput_follows() {
    const PUTS: u64 = 2_000;
    for share in [5, 20, 49, 51, 80] {
        let rig = rig(exact(), share);
        rig.faults.set_pattern(Some((share, Cause::Reset)));
        let key = "k".into();
        let mut done = 0;
        for _ in 0..PUTS {
            let put = || rig.store().put_opts(&key, "bytes".into(), object_store::PutOptions::default());
            done += u64::from(rig.client.repeat(Op::Put, "k", 5, put).await.is_ok());
            pass(Duration::from_millis(100)).await;
        }
        let requests = rig.faults.calls().len() as u64;
        let totals = rig.guard().status(CallKind::Upload).totals;
        println!("{share} %: {done} of {PUTS} puts done by {requests} requests, {totals:?}");
        assert_eq!(totals.successes + totals.failures, requests, "one request an attempt");
        assert_eq!(totals.opened > 0, share > 50, "{share} %");
        let retries = requests.saturating_sub(PUTS - totals.refused.min(PUTS));
        assert!(retries <= 500 / 14 + totals.successes / 14 + 1, "{share} %: {retries} retries");
        if share < 50 {
            let at_least = (PUTS * (100 - share) * 9) / 1_000;
            assert!(done >= at_least, "{share} %: {done} < {at_least}");
        }
        rig.assert_all_given_back();
    }
}

#[tokio::test(start_paused = true)]
async fn chaos_denied_for_an_hour_burns_no_attempt_and_resumes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(exact(), 3);
    let files = items(dir.path(), &["a", "b"], 500, &mut Rng::seeded(3));
    let mut up = publisher(&rig.client, 1, None);
    up.publish(&plan(1, &files[..1])).await.unwrap();
    rig.faults.clear_calls();
    rig.faults.set_dead(Some(Cause::Denied));
    let plan = plan(2, &files);
    let mut tries = 0;
    while rig.clock.passed() < Duration::from_secs(3_600) {
        let error = up.publish(&plan).await.unwrap_err();
        assert_eq!((error.class(), error.kind()), (Class::Auth, crate::ErrorKind::Unavailable));
        tries += 1;
        pass(Duration::from_secs(10)).await;
    }
    let sent = rig.faults.calls().len();
    println!("{tries} tries, {sent} requests");
    assert!(sent <= 1 + 12, "one, and one an interval of 300 s");
    rig.faults.set_dead(None);
    assert!(until_published(&rig, &mut up, &plan).await <= 360);
    judge(rig.store()).await;
}

#[tokio::test(start_paused = true)]
async fn chaos_wall_clock_jumps_leave_the_breaker_alone() {
    const DAY_MICROS: i64 = 24 * 3_600 * 1_000_000;
    let clock = Arc::<akidb_host::sim::FakeClock>::default();
    let faults = FaultStore::new(Arc::new(InMemory::new()));
    let config = BackendConfig { circuit_breaker_config: exact(), ..BackendConfig::new("t", "memory") };
    let backend = Backend::assemble(&config, crate::Kind::Custom, Arc::new(faults.clone()));
    let backend = backend.guarded(Arc::<akidb_host::sim::FakeClock>::clone(&clock), Arc::new(TokioSleep), 1);
    let key = "k".into();
    let put = || backend.store().put_opts(&key, "v".into(), object_store::PutOptions::default());
    faults.set_dead(Some(Cause::Refused));
    for _ in 0..10 {
        put().await.unwrap_err();
    }
    let guard = backend.guard().unwrap();
    let start = akidb_host::Clock::unix_micros(clock.as_ref());
    for days in [1, -1, 8, -8] {
        clock.set_wall(start + days * DAY_MICROS);
        assert_eq!(guard.ready_in(CallKind::Upload), Duration::from_secs(300), "{days} days");
        put().await.unwrap_err();
    }
    assert_eq!(faults.calls().len(), 10, "nothing was sent while it was open");
}

#[tokio::test(start_paused = true)]
async fn chaos_suspended_for_hours_at_most_the_tries_of_one_round_go_out() {
    let rig = rig(BreakerSettings { half_open_max_in_flight: 1, ..exact() }, 5);
    rig.faults.set_dead(Some(Cause::Refused));
    let key = "k".into();
    let put = || rig.store().put_opts(&key, "v".into(), object_store::PutOptions::default());
    for _ in 0..10 {
        put().await.unwrap_err();
    }
    rig.faults.set_dead(None);
    // The machine sleeps; calls wake up together, and the backend does not answer the first.
    tokio::time::advance(Duration::from_secs(8 * 3_600)).await;
    rig.faults.clear_calls();
    rig.faults.script(Op::Put, "k", 0, Fault::Hang);
    let calls = (0..100).map(|_| put());
    let answers = futures::future::join_all(calls).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(rig.faults.calls().len(), 1, "one early try");
    assert_eq!(rig.state(CallKind::Upload), State::Open);
    pass(Duration::from_secs(300)).await;
    for _ in 0..10 {
        put().await.unwrap();
    }
    assert_eq!(rig.state(CallKind::Upload), State::Closed);
    rig.assert_all_given_back();
}

#[tokio::test(start_paused = true)]
async fn chaos_flapping_every_second_a_plan_is_published_and_the_breaker_turns_no_oftener_than_cooldowns() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(exact(), 6);
    let files = items(dir.path(), &["a", "b", "c", "d"], 5_000, &mut Rng::seeded(6));
    let mut up = publisher(&rig.client, 1, None);
    let faults = rig.faults.clone();
    let flap = async {
        loop {
            faults.set_dead(Some(Cause::Reset));
            pass(Duration::from_secs(1)).await;
            faults.set_dead(None);
            pass(Duration::from_secs(1)).await;
        }
    };
    let publish = async {
        for number in 1..=4u64 {
            until_published(&rig, &mut up, &plan(number, &files[..usize::try_from(number).unwrap()])).await;
        }
    };
    futures::future::select(std::pin::pin!(flap), std::pin::pin!(publish)).await;
    rig.faults.set_dead(None);
    let opened: u64 = CallKind::ALL.iter().map(|&kind| rig.guard().status(kind).totals.opened).sum();
    let secs = rig.clock.passed().as_secs();
    println!("four plans in {secs} s, opened {opened}");
    assert!(opened <= 3 * (secs / 300 + 1));
    judge(rig.store()).await;
}
