//! From a backend back onto a disk: the document, then every file it names, each checked.

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, mpsc};

use akidb_host::{Access, File, Fs, Spawn};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;

use crate::class::{Class, Op};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::numbered::{self, Document, RemoteFile};
use crate::plan::check_key;
use crate::retry::Tries;

/// Reads a backend without claiming anything. Its calls block, and may be made from anywhere: each runs on a
/// thread and a runtime of its own. Inside a runtime, give it a backend that this runtime has not used (see
/// [`crate::Backend`]).
#[derive(Clone, Debug)]
pub struct Restorer {
    client: Client,
    spawn: Arc<dyn Spawn>,
}

impl Restorer {
    /// A restorer from a backend.
    #[must_use]
    pub fn new(client: Client, spawn: Arc<dyn Spawn>) -> Self {
        Self { client, spawn }
    }

    /// The newest document that publishes something.
    ///
    /// # Errors
    /// `NotFound` if nothing was ever published there; `Corrupt` if the newest document is damaged.
    pub fn newest(&self) -> Result<Document> {
        let client = self.client.clone();
        self.run(async move {
            let newest = numbered::newest(&client).await?;
            published(&client, newest.map(|sealed| sealed.document), "nothing was published here")
        })
    }

    /// The document of this number.
    ///
    /// # Errors
    /// `NotFound` if there is none, or it publishes nothing; `Corrupt` if it is damaged.
    pub fn document(&self, number: u64) -> Result<Document> {
        let client = self.client.clone();
        self.run(async move {
            let found = numbered::read(&client, number).await?;
            published(&client, found.map(|sealed| sealed.document), "no such document")
                .map_err(|e| e.at(&numbered::key_of(number)))
        })
    }

    /// The numbers of the documents that are kept, rising.
    ///
    /// # Errors
    /// What the backend answered.
    pub fn numbers(&self) -> Result<Vec<u64>> {
        let client = self.client.clone();
        self.run(async move {
            let mut numbers = numbered::numbers(&client).await?;
            numbers.sort_unstable();
            Ok(numbers)
        })
    }

    /// Brings one file to `to`, synced under its final name only when its length and checksum are right. A
    /// right file that is there already is left alone, so an interrupted restore goes on where it stopped.
    ///
    /// # Errors
    /// `Corrupt` if the object is not what the document says; `NotFound` if it is gone; with class `Local` if
    /// the disk refuses.
    pub fn download(&self, file: &RemoteFile, fs: &Arc<dyn Fs>, to: &Path) -> Result<()> {
        let (client, file, fs, to) = (self.client.clone(), file.clone(), Arc::clone(fs), to.to_owned());
        self.run(async move { download(&client, &file, fs.as_ref(), &to).await })
    }

    /// Brings every file of the document below `dir`, each at its key, telling `each` after one is there.
    /// The caller then writes its own manifest from the document's text.
    ///
    /// # Errors
    /// As [`Restorer::download`]; files brought so far stay.
    pub fn fetch_all(
        &self,
        document: &Document,
        fs: &Arc<dyn Fs>,
        dir: &Path,
        each: impl FnMut(&RemoteFile) + Send + 'static,
    ) -> Result<()> {
        let files = document.content.as_ref().map(|content| content.files.clone()).unwrap_or_default();
        let (client, fs, dir, mut each) = (self.client.clone(), Arc::clone(fs), dir.to_owned(), each);
        self.run(async move {
            for file in &files {
                check_key(client.name(), &file.key)?;
                download(&client, file, fs.as_ref(), &dir.join(&file.key)).await?;
                each(file);
            }
            Ok(())
        })
    }

    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let failed = |what: &str| Error::new(ErrorKind::Internal, Class::Permanent, self.client.name(), what);
        let (send, receive) = mpsc::sync_channel(1);
        let name = self.client.name().to_owned();
        let job = self.spawn.job(
            "akidb-restore",
            Box::new(move || {
                let done = runtime(&name).and_then(|runtime| runtime.block_on(work));
                let _ = send.send(done);
            }),
        );
        let job = job.map_err(|e| failed("cannot start a thread").because(e))?;
        let ended = job.join();
        receive
            .try_recv()
            .map_err(|_| failed(if ended { "the reader left no answer" } else { "the reader panicked" }))?
    }
}

/// A runtime for the current thread, which must not be inside another.
pub(crate) fn runtime(backend: &str) -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| {
        Error::new(ErrorKind::Internal, Class::Permanent, backend, "cannot start a runtime").because(e)
    })
}

pub(crate) fn published(client: &Client, document: Option<Document>, missing: &str) -> Result<Document> {
    document
        .filter(|document| document.content.is_some())
        .ok_or_else(|| Error::new(ErrorKind::NotFound, Class::NotFound, client.name(), missing))
}

async fn download(client: &Client, file: &RemoteFile, fs: &dyn Fs, to: &Path) -> Result<()> {
    let disk =
        |e: std::io::Error| Error::local(client.name(), to, "cannot write the restored file").because(e);
    if is_there_already(file, fs, to) {
        return Ok(());
    }
    let dir = to.parent().ok_or_else(|| Error::invalid(client.name(), "a target without a directory"))?;
    fs.create_dir_all(dir).map_err(disk)?;
    let tmp = to.with_extension("restoring");
    let mut tries = Tries::default();
    loop {
        let error = match receive(client, file, fs, &tmp).await {
            Ok(()) => break,
            Err(error) => error,
        };
        let _ = fs.unlink(&tmp);
        match client.pause_after(&error, &mut tries) {
            Some(pause) => client.sleep().pause(pause).await,
            None => return Err(error),
        }
    }
    fs.rename(&tmp, to).and_then(|()| fs.sync_dir(dir)).map_err(disk)
}

/// One attempt: all bytes into `tmp`, checked against the document and synced.
async fn receive(client: &Client, file: &RemoteFile, fs: &dyn Fs, tmp: &Path) -> Result<()> {
    let disk =
        |e: std::io::Error| Error::local(client.name(), tmp, "cannot write the restored file").because(e);
    let wrong = |what: String| Error::corrupt(client.name(), &file.key, what);
    match fs.unlink(tmp) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(disk(e)),
        _ => {}
    }
    let out = fs.create_new(tmp).map_err(disk)?;
    let path = client.path(&file.key)?;
    let start = client.backend().store().get(&path);
    let mut chunks = client.once(Op::Get, &file.key, 0, start).await?.into_stream();
    let mut crc = crc32fast::Hasher::new();
    let mut len = 0u64;
    loop {
        // A deadline a chunk: a big object may take its time, but not stand still.
        let chunk = client.once(Op::Get, &file.key, 0, chunks.try_next()).await?;
        let Some(chunk): Option<Bytes> = chunk else { break };
        if len + chunk.len() as u64 > file.len {
            return Err(wrong(format!("object is longer than the {} bytes its document says", file.len)));
        }
        crc.update(&chunk);
        out.write_at(&chunk, len).map_err(disk)?;
        len += chunk.len() as u64;
    }
    let crc32 = crc.finalize();
    if len != file.len {
        return Err(wrong(format!("object has {len} bytes, its document says {}", file.len)).at_offset(len));
    }
    if crc32 != file.crc32 {
        return Err(wrong(format!("object's checksum is {crc32:08x}, its document says {:08x}", file.crc32)));
    }
    out.sync_all().map_err(disk)
}

fn is_there_already(file: &RemoteFile, fs: &dyn Fs, path: &Path) -> bool {
    let Ok(there) = fs.open(path, Access::Read) else { return false };
    there.len().is_ok_and(|len| len == file.len)
        && local_crc32(there.as_ref()).is_ok_and(|crc| crc == file.crc32)
}

fn local_crc32(file: &dyn File) -> std::io::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let n = file.read_at(&mut buf, at)?;
        if n == 0 {
            return Ok(crc.finalize());
        }
        crc.update(&buf[..n]);
        at += n as u64;
    }
}
