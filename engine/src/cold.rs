//! A database that lies on a backend alone, opened for reading: its segments are read there, piece by piece.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_backends::{
    Backend, BackendConfig, Client, ClockSleep, Document, LimiterSettings, Piece, Reader, Sleep,
};
use bytes::Bytes;

use crate::apply::Applier;
use crate::catalog::{Catalog, LiveSegment};
use crate::config::Settings;
use crate::deletion_vector::{self, DeletionVector, DeletionVectorRef, VectorFile};
use crate::engine::{Engine, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::lsn::Lsn;
use crate::manifest::{CollectionMeta, Manifest, NamedFile, file_name};
use crate::recovery::{RecoveryReport, empty_collection, memory};
use crate::segment::{ColdFile, Remote, Segment, fetch_tails};
use crate::segment_meta::SegmentMeta;
use crate::upload::{backend_config, from_backend, of_breakers};

/// Calls under way at first: a round of a search must not wait for itself.
const START_IN_FLIGHT: u32 = 128;

/// Opens what the one backend of the settings, or the one store of `place`, holds: its newest document. The directory of
/// `place` holds what is fetched, in files without names.
///
/// # Errors
/// `Invalid` unless there is one backend; `NotFound` if nothing was published there; `Unavailable`; `Corrupt` naming the
/// object.
pub(crate) fn open(place: Place, settings: &Settings) -> Result<(Arc<Engine>, RecoveryReport)> {
    let limits = Limits::new(settings, &place.memory);
    let (reader, url) = reader(&place, settings)?;
    let document = reader.newest().map_err(|error| from_backend(&error))?;
    let manifest = manifest_of(&document, &url)?;
    let dir = &place.dir;
    place.fs.create_dir_all(dir).map_err(|cause| Error::io("AKI-0261", dir, "could not create", &cause))?;
    let remote: Arc<dyn Remote> = Arc::new(Objects(reader));
    let objects = Place::clone(&place);
    let backend = Cold { place: objects, remote, url };
    let catalog = backend.catalog(&manifest, &limits)?;
    let flushed = manifest.collections.iter().map(|c| c.flushed_lsn).max();
    let applier = Applier::new(memory(&limits, &manifest), catalog, manifest.floor.pred());
    applier.change(|published, apply| {
        let flushed = flushed.unwrap_or(Lsn::ZERO);
        if flushed > published.visible() {
            published.set_visible(flushed, apply);
        }
    });
    let report =
        RecoveryReport { manifest: manifest.number, epoch: manifest.writer_epoch, ..Default::default() };
    let engine = Arc::new(Engine::cold(place, limits, applier));
    engine.measure_disk();
    Ok((engine, report))
}

fn reader(place: &Place, settings: &Settings) -> Result<(Reader, String)> {
    let attempts = settings.engine.upload_attempts;
    let backend = match (&settings.backends[..], &place.stores[..]) {
        ([one], []) => akidb_backends::open_to_read(&of_breakers(settings, backend_config(one, attempts))),
        ([], [(name, store)]) => {
            let config = BackendConfig { attempts, ..BackendConfig::new(name, store.to_string()) };
            Backend::over(&of_breakers(settings, config), Arc::clone(store))
        }
        (backends, stores) => {
            let message =
                format!("a database is read from one backend; {} are given", backends.len() + stores.len());
            return Err(Error::invalid("AKI-0263", message).help_is("name the one to read from"));
        }
    };
    let backend = backend.map_err(|error| from_backend(&error))?;
    let (mut rng, clock) = (place.rng.child(), Arc::clone(&place.clock));
    let sleep: Arc<dyn Sleep> = Arc::new(ClockSleep(Arc::clone(&clock)));
    let limiter = LimiterSettings { start_in_flight: START_IN_FLIGHT, ..LimiterSettings::default() };
    let url = backend.place().trim_end_matches('/').to_owned();
    let guarded = backend.guarded_within(limiter, clock, Arc::clone(&sleep), rng.u64());
    let reader = Reader::start(Client::new(guarded, sleep, rng), &*place.spawn);
    Ok((reader.map_err(|error| from_backend(&error))?, url))
}

/// What mends a damaged manifest on a backend.
const DAMAGED_HELP: &str = "the manifest is damaged on its backend: read from another backend, or upload to a fresh prefix from the database";

fn manifest_of(document: &Document, url: &str) -> Result<Manifest> {
    let Some(content) = &document.content else {
        return Err(Error::new(ErrorKind::NotFound, "AKI-0260", format!("nothing was published at {url}")));
    };
    let path = PathBuf::from(format!("{url}/manifest/{}", file_name(content.local_number)));
    let decoded = Manifest::decode(&path, content.text.as_bytes()).map_err(|error| match error.kind() {
        // The directory's own mending would name a place on the backend.
        ErrorKind::Corrupt => error.help_is(DAMAGED_HELP),
        _ => error,
    });
    Ok(decoded?.manifest)
}

/// What is needed to open segments where they lie.
struct Cold {
    place: Place,
    remote: Arc<dyn Remote>,
    url: String,
}

impl Cold {
    /// Every collection of the manifest, with the tails of all segments: two rounds of requests, the first for deletion
    /// vectors.
    fn catalog(&self, manifest: &Manifest, limits: &Limits) -> Result<Catalog> {
        let dead = self.deletion_vectors(manifest)?;
        let mut files = BTreeMap::new();
        for (collection, meta) in segments_of(manifest) {
            files.insert(key_of(collection, meta), Arc::new(self.file(collection, meta)?));
        }
        let tails: Vec<_> = segments_of(manifest).map(|(c, meta)| (&files[&key_of(c, meta)], meta)).collect();
        fetch_tails(&tails)?;
        let mut catalog = limits.empty_catalog(&self.place.memory);
        for entry in &manifest.collections {
            let mut segments = Vec::with_capacity(entry.segments.len());
            for meta in &entry.segments {
                let key = key_of(entry, meta);
                let segment = Segment::open_cold(&files[&key], meta, entry.schema())?;
                let dead = dead.get(&key).cloned().unwrap_or_default();
                segments.push(Arc::new(LiveSegment::new(segment, dead)));
            }
            let dir = self.place.collection_dir(&entry.dir);
            let state = empty_collection(entry, dir, entry.schema().clone(), segments, &self.place.memory);
            catalog.insert(state);
        }
        Ok(catalog)
    }

    fn file(&self, collection: &CollectionMeta, meta: &SegmentMeta) -> Result<ColdFile> {
        let key = key_of(collection, meta);
        let path = self.place.dir.join(format!("{:016x}.cold", self.place.rng.u64()));
        let place = PathBuf::from(format!("{}/{key}", self.url));
        ColdFile::create(&*self.place.fs, &path, Arc::clone(&self.remote), &key, place, meta.size)
    }

    /// By the keys of their segments.
    fn deletion_vectors(&self, manifest: &Manifest) -> Result<BTreeMap<String, DeletionVector>> {
        let files = manifest.files().filter(|file| file.is_deletion_vector);
        let piece = |file: NamedFile<'_>| {
            let key: Arc<str> = format!("collections/{}", file.below_collections()).into();
            (key, 0..file.size)
        };
        let pieces: Vec<(Arc<str>, Range<u64>)> = files.map(piece).collect();
        let fetched = if pieces.is_empty() { Vec::new() } else { self.remote.fetch(pieces.clone())? };
        let keys = pieces.into_iter().map(|(key, _)| key);
        let fetched: BTreeMap<Arc<str>, Bytes> = keys.zip(fetched).collect();
        let mut found = BTreeMap::new();
        for (collection, meta) in segments_of(manifest) {
            let dead = match &meta.deletion_vector {
                None => continue,
                Some(reference @ DeletionVectorRef::Inline { .. }) => {
                    deletion_vector::inline(reference, meta.rows)
                }
                Some(reference @ DeletionVectorRef::File { file, size, .. }) => {
                    let key = format!("collections/{}/dv/{file}", collection.dir);
                    let bytes = fetched.get(key.as_str()).cloned().unwrap_or_default();
                    self.deletion_vector((key.into(), 0..*size), bytes, reference, meta.rows)
                }
            };
            found.insert(key_of(collection, meta), dead?);
        }
        Ok(found)
    }

    /// A damaged one is fetched once more.
    fn deletion_vector(
        &self,
        piece: (Arc<str>, Range<u64>),
        bytes: Bytes,
        reference: &DeletionVectorRef,
        rows: u32,
    ) -> Result<DeletionVector> {
        let path = Path::new(&self.url).join(&*piece.0);
        let read = |bytes| VectorFile::new(path.clone(), bytes, reference)?.read(reference, rows);
        read(bytes).or_else(|error| match error.kind() {
            ErrorKind::Corrupt => read(self.remote.fetch(vec![piece])?.pop().unwrap_or_default()),
            _ => Err(error),
        })
    }
}

fn segments_of(manifest: &Manifest) -> impl Iterator<Item = (&CollectionMeta, &SegmentMeta)> {
    manifest.collections.iter().flat_map(|entry| entry.segments.iter().map(move |meta| (entry, meta)))
}

fn key_of(collection: &CollectionMeta, meta: &SegmentMeta) -> String {
    format!("collections/{}/{}", collection.dir, meta.file)
}

/// A backend's reader in the engine's words.
#[derive(Debug)]
struct Objects(Reader);

impl Remote for Objects {
    fn fetch(&self, pieces: Vec<(Arc<str>, Range<u64>)>) -> Result<Vec<Bytes>> {
        let piece = |(key, range): (Arc<str>, Range<u64>)| Piece { key: (*key).to_owned(), range };
        let fetched = self.0.fetch(pieces.into_iter().map(piece).collect());
        fetched.map_err(|error| match error.kind() {
            akidb_backends::ErrorKind::NotFound => from_backend(&error).help_is(
                "the writer has removed what this handle reads; open again to read its newest state",
            ),
            _ => from_backend(&error),
        })
    }
}
