//! Many searches at once: what each alone would give, on one moment; and searches nobody waits for any more.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use akidb::{Collection, Db, ErrorKind, Hit, Metric, NewRow, Schema};
use akidb_host::Rng;
use serde_json::json;

const DIM: u16 = 64;

fn vector(n: u64) -> Vec<f32> {
    let mut random = Rng::seeded(n);
    (0..DIM).map(|_| (random.f64() - 0.5) as f32 + (n % 7) as f32 * 0.1).collect()
}

/// Two segments with codes, overwritten and deleted rows in them, and fresh rows.
fn filled(db: &Db) -> Collection {
    let docs = db.create_collection("docs", Schema::new(DIM, Metric::Cosine).int("bucket")).unwrap();
    let write = |numbers: std::ops::Range<u64>, version: u64| {
        let row = |n: u64| {
            let payload = json!({"bucket": n % 10, "version": version});
            NewRow::new(format!("row-{n}"), vector(n + version * 1_000_003), payload).unwrap()
        };
        docs.upsert_batch(&numbers.map(row).collect::<Vec<_>>()).unwrap();
    };
    write(0..2_000, 0);
    db.flush().unwrap();
    write(1_500..3_500, 1);
    db.flush().unwrap();
    write(3_400..3_900, 2);
    (0..3_900).step_by(13).for_each(|n| assert!(docs.delete(format!("row-{n}")).unwrap()));
    docs
}

#[test]
fn a_batch_answers_as_its_searches_do_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let docs = filled(&db);
    // Near each other, so that they share rows; one twice.
    let mut vectors: Vec<Vec<f32>> = (0..20).map(|n| vector(9_000_000 + n % 19)).collect();
    vectors.push(vector(1_700));
    let check = |alone: &dyn Fn(&[f32]) -> Vec<Hit>, together: Vec<Vec<Hit>>| {
        assert_eq!(together.len(), vectors.len());
        for (vector, hits) in vectors.iter().zip(together) {
            assert_eq!(hits, alone(vector));
        }
    };
    check(&|v| docs.search(v).run().unwrap(), docs.search_batch(&vectors).run().unwrap());
    check(
        &|v| docs.search(v).k(30).exact().with_vector(true).run().unwrap(),
        docs.search_batch(&vectors).k(30).exact().with_vector(true).run().unwrap(),
    );
    check(
        &|v| docs.search(v).filter("bucket = 2").with_payload(false).recall(0.9).run().unwrap(),
        docs.search_batch(&vectors).filter("bucket = 2").with_payload(false).recall(0.9).run().unwrap(),
    );
    check(
        &|v| docs.search(v).effort(24).run().unwrap(),
        wait(docs.search_batch(&vectors).effort(24).run_async()).unwrap(),
    );
    assert_eq!(docs.search_batch(&[[0.0f32; 0]; 0]).run().unwrap(), Vec::<Vec<Hit>>::new());
    db.close().unwrap();
}

#[test]
fn what_is_wrong_with_a_batch_is_told_before_anything_is_searched() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let docs = filled(&db);
    let mut vectors = vec![vector(1), vector(2), vector(3)];
    vectors[2][5] = f32::NAN;
    let error = docs.search_batch(&vectors).run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("vector 2"), "{error}");
    vectors[1].pop();
    let error = docs.search_batch(&vectors).run().unwrap_err();
    assert!(error.to_string().contains("vector 1"), "{error}");
    let error = docs.search_batch(&[vector(1)]).k(0).run().unwrap_err();
    assert_eq!(error.code(), "AKI-0230");
    let error = docs.search_batch(&vec![vector(1); 4_097]).run().unwrap_err();
    assert_eq!(error.code(), "AKI-0234");
    let error = docs.search_batch(&vec![vector(1); 101]).k(10_000).run().unwrap_err();
    assert_eq!(error.code(), "AKI-0234", "a million rows and more at the same time");
    let error = docs.search_batch(&[vector(1)]).filter("bucket <").run().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    db.close().unwrap();
}

#[test]
fn searches_that_nobody_waits_for_leave_the_database_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path()).unwrap();
    let docs = filled(&db);
    for n in 0..200 {
        let (query, other) = (vector(n), vector(n + 1));
        let mut alone = pin!(docs.search(&query).exact().run_async());
        let mut batch = pin!(docs.search_batch(&[&query, &other]).run_async());
        let mut context = Context::from_waker(Waker::noop());
        let _ = alone.as_mut().poll(&mut context);
        let _ = batch.as_mut().poll(&mut context);
    }
    let query = vector(7);
    assert_eq!(wait(docs.search(&query).run_async()).unwrap(), docs.search(&query).run().unwrap());
    db.close().unwrap();
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}
