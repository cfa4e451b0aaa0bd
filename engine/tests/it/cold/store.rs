//! A store in memory that counts what is read of segments: requests, bytes and rounds; and one that fails as told.
//!
//! A get is of round n if it began after some get of round n - 1 had ended. None ends before all that began with it are
//! under way: it yields to the reader's other requests until no more of them begin.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use akidb::object_store::memory::InMemory;
use akidb::object_store::path::Path;
use akidb::object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, stream};

/// Times a get gives way to others after the last of them began.
const YIELDS: u32 = 20;

/// What was read of segments since the last look.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) gets: u64,
    pub(super) bytes: u64,
    pub(super) rounds: u64,
    pub(super) ranges: Vec<(String, Range<u64>)>,
}

/// What goes wrong with gets of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Wrong {
    #[default]
    Nothing,
    /// One in so many fails.
    Every(u64),
    /// One in so many comes with a bit flipped, in no block twice.
    FlipsEvery(u64),
    /// All fail.
    Dead,
}

#[derive(Default)]
struct State {
    counts: Counts,
    begun: u64,
    ended_round: u64,
    wrong: Wrong,
    flipped: HashSet<(String, u64)>,
}

/// Clones share everything.
#[derive(Clone, Default)]
pub(super) struct CountingStore(Arc<(InMemory, Mutex<State>)>);

impl CountingStore {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.1.lock().unwrap()
    }

    fn inner(&self) -> &InMemory {
        &self.0.0
    }

    /// The counts since the last call.
    pub(super) fn take(&self) -> Counts {
        let mut state = self.lock();
        state.ended_round = 0;
        std::mem::take(&mut state.counts)
    }

    pub(super) fn set_wrong(&self, wrong: Wrong) {
        self.lock().wrong = wrong;
    }

    /// Keys and sizes of what lies under a prefix.
    pub(super) fn objects(&self, prefix: &str) -> Vec<(String, u64)> {
        let listed = self.inner().list(Some(&Path::from(prefix))).collect::<Vec<_>>().now_or_never().unwrap();
        listed
            .into_iter()
            .map(|meta| meta.unwrap())
            .map(|meta| (meta.location.to_string(), meta.size))
            .collect()
    }

    /// Flips a bit of an object as it lies there.
    pub(super) fn flip_at_rest(&self, key: &str, offset: u64) {
        let path = Path::from(key);
        let turn = async {
            let bytes = self.inner().get(&path).await.unwrap().bytes().await.unwrap();
            let mut bytes = bytes.to_vec();
            bytes[usize::try_from(offset).unwrap()] ^= 1;
            self.inner().put(&path, bytes.into()).await.unwrap();
        };
        turn.now_or_never().unwrap();
    }

    /// Notes a get; gives its number and its round.
    fn begin(&self, path: &Path, range: Range<u64>) -> (u64, u64) {
        let mut state = self.lock();
        state.begun += 1;
        let round = state.ended_round + 1;
        let counts = &mut state.counts;
        counts.gets += 1;
        counts.bytes += range.end - range.start;
        counts.rounds = counts.rounds.max(round);
        counts.ranges.push((path.to_string(), range));
        (state.begun, round)
    }

    async fn until_all_are_under_way(&self) {
        let (mut begun, mut yields) = (0, 0);
        while yields < YIELDS {
            tokio::task::yield_now().await;
            let now = self.lock().begun;
            (begun, yields) = if now == begun { (begun, yields + 1) } else { (now, 0) };
        }
    }

    async fn get_of_segment(&self, path: &Path, options: GetOptions, range: Range<u64>) -> Result<GetResult> {
        let middle = u64::midpoint(range.start, range.end);
        let (n, round) = self.begin(path, range);
        self.until_all_are_under_way().await;
        let result = self.inner().get_opts(path, options).await;
        match self.end(n, round, (path.to_string(), middle / 16_384)) {
            Wrong::Nothing => result,
            Wrong::FlipsEvery(_) => flipped(result?).await,
            Wrong::Every(_) | Wrong::Dead => Err(reset()),
        }
    }

    /// Notes the end of a get; what goes wrong with it.
    fn end(&self, n: u64, round: u64, block: (String, u64)) -> Wrong {
        let mut state = self.lock();
        state.ended_round = state.ended_round.max(round);
        let wrong = state.wrong;
        let goes_wrong = match wrong {
            Wrong::Nothing => false,
            Wrong::Dead => true,
            Wrong::Every(every) => n.is_multiple_of(every),
            Wrong::FlipsEvery(every) => n.is_multiple_of(every) && state.flipped.insert(block),
        };
        if goes_wrong { wrong } else { Wrong::Nothing }
    }
}

fn reset() -> Error {
    let source = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    Error::Generic { store: "counting", source: Box::new(source) }
}

async fn flipped(result: GetResult) -> Result<GetResult> {
    let (meta, range, attributes) = (result.meta.clone(), result.range.clone(), result.attributes.clone());
    let mut bytes = result.bytes().await?.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    let payload = GetResultPayload::Stream(stream::iter([Ok(bytes.into())]).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions: Default::default() })
}

#[async_trait]
impl ObjectStore for CountingStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.inner().put_opts(path, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner().put_multipart_opts(path, opts).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        match &options.range {
            Some(GetRange::Bounded(range)) if path.as_ref().ends_with(".parquet") && !options.head => {
                let range = range.clone();
                self.get_of_segment(path, options, range).await
            }
            _ => self.inner().get_opts(path, options).await,
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner().delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner().list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner().list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner().copy_opts(from, to, options).await
    }
}

impl fmt::Debug for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CountingStore")
    }
}

impl fmt::Display for CountingStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory://counting")
    }
}
