//! Async writers: tasks of a tokio runtime that await the log's own future.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use akidb_wal::{Appended, ErrorKind, Log};
use tokio::runtime::Builder;

use super::slot::{Slot, Written};
use super::{Error, Result};

/// Runs `tasks` tasks on `workers` threads until `time` is over, each awaiting its record before the next.
pub(crate) fn tasks(
    log: &Arc<Log>,
    record: &Arc<[u8]>,
    tasks: usize,
    workers: usize,
    time: Duration,
) -> Result<Slot> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .build()
        .map_err(Error::at("start the threads of", "the async tasks"))?;
    let start = Arc::new(tokio::sync::Barrier::new(tasks));
    let running: Vec<_> = (0..tasks)
        .map(|_| {
            let (log, record, start) = (Arc::clone(log), Arc::clone(record), Arc::clone(&start));
            runtime.spawn(async move {
                start.wait().await;
                write_until(&log, &record, time).await
            })
        })
        .collect();
    let written = runtime.block_on(async {
        let mut written = Vec::with_capacity(tasks);
        for task in running {
            written.push(task.await.expect("a task of the bench does not panic")?);
        }
        Ok::<_, Error>(written)
    })?;
    Ok(Slot::of(written))
}

async fn write_until(log: &Log, record: &[u8], time: Duration) -> Result<Written> {
    let mut written = Written::begin(time);
    let until = written.start + time;
    loop {
        let appended = append(log, record).await?;
        log.synced(appended.last).await?;
        if !written.ack(until) {
            return Ok(written);
        }
    }
}

/// Never blocks a thread of the runtime: waits for the next file as a task.
async fn append(log: &Log, record: &[u8]) -> Result<Appended> {
    loop {
        match log.append_nowait(&[record]) {
            Err(error) if matches!(error.kind(), ErrorKind::NoRoomYet) => {
                poll_fn(|cx| log.poll_room(&[record], cx)).await?;
            }
            answer => return Ok(answer?),
        }
    }
}
