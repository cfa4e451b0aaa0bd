//! Objects read in pieces, many at the same time, for callers that block: a database that lies on a backend alone.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::mpsc::{SyncSender, sync_channel};

use akidb_host::Spawn;
use bytes::Bytes;
use futures::stream::{self, FuturesUnordered};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::class::Class;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::numbered::{self, Document};
use crate::plan::check_key;
use crate::restore::{published, runtime};

/// Ranges asked for at the same time by one call; the backend's limiter may let fewer pass.
const AT_ONCE: usize = 128;

/// Reads a backend without claiming anything, on a thread and a runtime of its own that live as long as it does. Its
/// calls block the thread that makes them, whatever that thread is, and may be made by many at the same time.
pub struct Reader {
    client: Client,
    work: UnboundedSender<Work>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A piece of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The object's key below the backend's prefix.
    pub key: String,
    /// Which bytes of it.
    pub range: Range<u64>,
}

impl Reader {
    /// A reader of a backend that no other runtime uses. Its thread ends when it is dropped.
    ///
    /// # Errors
    /// `Internal`: no thread can be had.
    pub fn start(client: Client, spawn: &dyn Spawn) -> Result<Self> {
        let (work, jobs) = unbounded_channel();
        let name = client.name().to_owned();
        let serving = Box::new(move || match runtime(&name) {
            Ok(runtime) => runtime.block_on(serve(jobs)),
            // Whoever asks finds that nobody answers.
            Err(error) => tracing::error!(%error, "a reader of a backend cannot run"),
        });
        match spawn.job("akidb-reader", serving) {
            Ok(_) => Ok(Self { client, work }),
            Err(cause) => Err(failed(&client, "cannot start a thread").because(cause)),
        }
    }

    /// The newest document that publishes something.
    ///
    /// # Errors
    /// `NotFound` if nothing was ever published there; `Corrupt` if the newest document is damaged; `Unavailable`.
    pub fn newest(&self) -> Result<Document> {
        let client = self.client.clone();
        self.run(async move {
            let newest = numbered::newest(&client).await?;
            published(&client, newest.map(|sealed| sealed.document), "nothing was published here")
        })
    }

    /// All these pieces, in their order; the whole call is one round of requests.
    ///
    /// # Errors
    /// The first that cannot be had: `Corrupt` if an object ends before its piece does; `NotFound`; `Unavailable`.
    pub fn fetch(&self, pieces: Vec<Piece>) -> Result<Vec<Bytes>> {
        let client = self.client.clone();
        self.run(async move {
            let all = stream::iter(pieces).map(|piece| fetch_one(&client, piece));
            all.buffered(AT_ONCE).try_collect().await
        })
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let (answer, answered): (SyncSender<Result<T>>, _) = sync_channel(1);
        let work = Box::pin(async move {
            // Nobody waits any more: then nobody misses it.
            let _ = answer.send(work.await);
        });
        let gone = || failed(&self.client, "the reader's thread has ended");
        self.work.send(work).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("backend", &self.client.name()).finish_non_exhaustive()
    }
}

/// Runs what is asked for, all of it at the same time, until the reader is dropped.
async fn serve(mut jobs: UnboundedReceiver<Work>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(job) => under_way.push(job),
                None => return,
            },
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
        }
    }
}

async fn fetch_one(client: &Client, piece: Piece) -> Result<Bytes> {
    check_key(client.name(), &piece.key)?;
    let bytes = client.get_range(&piece.key, piece.range.clone()).await?;
    if bytes.len() as u64 != piece.range.end - piece.range.start {
        let what = format!("object ends before byte {}, its document says it does not", piece.range.end);
        return Err(Error::corrupt(client.name(), &piece.key, what).at_offset(piece.range.start));
    }
    Ok(bytes)
}

fn failed(client: &Client, what: &str) -> Error {
    Error::new(ErrorKind::Internal, Class::Permanent, client.name(), what)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use akidb_host::{RealSpawn, Rng};
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};

    use super::*;
    use crate::backend::Backend;
    use crate::class::Op;
    use crate::fault::{Cause, Fault, FaultStore};
    use crate::retry::TokioSleep;

    fn reader(store: Arc<dyn ObjectStore>) -> Reader {
        let client = Client::new(Backend::from_store("there", store), Arc::new(TokioSleep), Rng::seeded(1));
        Reader::start(client, &RealSpawn).unwrap()
    }

    fn piece(key: &str, range: Range<u64>) -> Piece {
        Piece { key: key.to_owned(), range }
    }

    fn stored() -> Arc<InMemory> {
        let store = Arc::new(InMemory::new());
        let put = async { store.put(&Path::from("a/b"), (0u8..100).collect::<Vec<_>>().into()).await };
        runtime("there").unwrap().block_on(put).unwrap();
        store
    }

    #[test]
    fn pieces_come_in_their_order_and_what_is_not_there_is_said() {
        let reader = reader(stored());
        let pieces = vec![piece("a/b", 90..100), piece("a/b", 0..3), piece("a/b", 50..51)];
        let bytes = reader.fetch(pieces).unwrap();
        assert_eq!(bytes[0][..], (90u8..100).collect::<Vec<_>>());
        assert_eq!((&bytes[1][..], &bytes[2][..]), (&[0, 1, 2][..], &[50][..]));
        let short = reader.fetch(vec![piece("a/b", 90..101)]).unwrap_err();
        assert_eq!((short.kind(), short.file(), short.offset()), (ErrorKind::Corrupt, Some("a/b"), Some(90)));
        assert_eq!(reader.fetch(vec![piece("a/c", 0..1)]).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(reader.newest().unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(reader.fetch(Vec::new()).unwrap(), Vec::<Bytes>::new());
    }

    #[test]
    fn a_call_from_inside_a_runtime_neither_panics_nor_waits_for_that_runtime() {
        let reader = reader(stored());
        let inside = async { reader.fetch(vec![piece("a/b", 1..2)]) };
        let bytes = runtime("there").unwrap().block_on(inside).unwrap();
        assert_eq!(bytes[0][..], [1]);
    }

    #[test]
    fn a_failed_get_is_tried_again_and_a_dead_backend_is_unavailable() {
        let store = FaultStore::new(stored());
        let reader = reader(Arc::new(store.clone()));
        store.script(Op::Get, "a/b", 0, Fault::Fail(Cause::Reset));
        assert_eq!(reader.fetch(vec![piece("a/b", 7..8)]).unwrap()[0][..], [7]);
        store.set_dead(Some(Cause::Refused));
        assert_eq!(reader.fetch(vec![piece("a/b", 7..8)]).unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
