//! The server killed in the middle of puts, and started again by `scripts/with-s3`.

use akidb_backends::Multiparts;
use akidb_backends::fault::FaultStore;

use super::*;

fn pid() -> String {
    std::fs::read_to_string(variable("PID_FILE")).unwrap()
}

/// Kills the server that runs now.
fn kill() {
    let killed = std::process::Command::new("kill").args(["-9", &pid()]).status().unwrap();
    assert!(killed.success());
}

/// Publishes until it is done. Gives the failures before.
async fn until_published(up: &mut Publisher, plan: &FilePlan) -> u64 {
    let mut failures = 0;
    while let Err(error) = up.publish(plan).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        failures += 1;
        pass(Duration::from_millis(200)).await;
    }
    failures
}

#[expect(clippy::disallowed_methods, reason = "a real server takes real time to start")]
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test]
async fn the_server_is_killed_in_the_middle_of_puts_and_every_document_stays_true() {
    let _server = SERVER.write().await;
    let dir = tempfile::tempdir().unwrap();
    let config = config();
    let plain = akidb_backends::open(&config).unwrap();
    let calls = FaultStore::new(Arc::clone(plain.store()));
    let counted = plain.decorated(|_| Arc::new(calls.clone()));
    let journal = Arc::new(Multiparts::open(real_fs(), dir.path(), "live"));
    let mut up = publisher(&counted, 1).with_multiparts(Arc::clone(&journal));
    let mut items: Vec<_> = (0..60).map(|n| item(dir.path(), &format!("{n}.parquet"), 10_000 + n)).collect();
    items.push(item(dir.path(), "large.parquet", 12 << 20));
    up.publish(&plan(1, &items[..20])).await.unwrap();
    calls.clear_calls();
    let before = pid();
    let second = plan(2, &items);
    let kill_midway = async {
        while calls.calls().len() < 30 {
            pass(Duration::from_millis(1)).await;
        }
        kill();
    };
    let work = async { futures::future::join(until_published(&mut up, &second), kill_midway).await };
    let (failures, ()) = tokio::time::timeout(Duration::from_secs(90), work).await.expect("it comes back");
    assert_ne!(pid(), before, "the server was killed and started again");
    println!("published after {failures} failed attempts");
    assert_eq!((journal.leftovers(), journal.under_way()), (0, 0));
    // What every document names is there, byte for byte, on a server that has been killed.
    let restorer = Restorer::new(client(&akidb_backends::open(&config).unwrap(), 9), Arc::new(RealSpawn));
    let numbers = restorer.numbers().unwrap();
    let newest = restorer.newest().unwrap();
    assert_eq!(newest.content.as_ref().unwrap().local_number, 2);
    for number in numbers {
        let Ok(document) = restorer.document(number) else { continue };
        if document.content.is_none() {
            continue;
        }
        let to = dir.path().join(format!("restored-{number}"));
        restorer.fetch_all(&document, &real_fs(), &to, |_| {}).unwrap();
        for file in &document.content.unwrap().files {
            let local = items.iter().find(|item| item.key == file.key).unwrap();
            assert_eq!(std::fs::read(to.join(&file.key)).unwrap(), std::fs::read(&local.local).unwrap());
        }
    }
    clean(&plain).await;
}
