//! Reads every byte of a database at rest and compares it with its checksum.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Fs, RealFs};
use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Manifest, Store};
use crate::named_snapshots;
use crate::paths::{lossy_path, lossy_paths, lossy_place};
use crate::unfinished;

mod log;
mod rows;
mod segments;

pub use rows::{TouchedRows, UnreadIds};

use segments::Files;

/// What a verification found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verification {
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Everything that is not as it was written.
    pub damages: Vec<FileDamage>,
    /// What could not be looked at, which is no damage: rights, or too many open files.
    pub unread: Vec<UnreadFile>,
    /// Bytes behind the last whole frame of the log that could be a torn tail: file and offset. Not damage.
    #[serde(serialize_with = "lossy_place")]
    pub torn_tail: Option<(PathBuf, u64)>,
    /// Segments that `akidb repair segment FILE --drop` gave up, and deletion vectors of such, which only older manifests
    /// without a name still name. Not damage.
    #[serde(serialize_with = "lossy_paths")]
    pub set_aside: Vec<PathBuf>,
}

/// A file that could not be looked at.
#[derive(Clone, Debug, Serialize)]
pub struct UnreadFile {
    /// The file.
    #[serde(serialize_with = "lossy_path")]
    pub file: PathBuf,
    /// What the machine said.
    pub what: String,
    /// What gives access to it.
    pub help: String,
}

/// A damaged place.
#[derive(Clone, Debug, Serialize)]
pub struct FileDamage {
    /// The file.
    #[serde(serialize_with = "lossy_path")]
    pub file: PathBuf,
    /// First byte of the damaged block.
    pub offset: Option<u64>,
    /// What lies there.
    pub what: String,
    /// The rows it touches; in a segment or a deletion vector only.
    pub rows: Option<TouchedRows>,
    /// The newest of the kept manifests that name the file, if the newest of all does not: no row of the database is
    /// touched, only what that manifest is kept for.
    pub manifest: Option<u64>,
    /// Named snapshots that show the file. While there are any a segment that was given up is damage all the same.
    pub snapshots: Vec<String>,
    /// The command that mends it.
    pub help: String,
}

/// Verifies the database in a directory: every kept manifest, every file that one of them names, the log. Beside a living
/// writer what that one removes meanwhile is no damage, what it writes meanwhile is not looked at, and the log's tail may
/// look torn. Changes nothing; blocks for the time the bytes take to read.
///
/// # Errors
/// `NotFound` if there is no database. Damage is no error here: it is what the answer lists.
pub fn verify(dir: impl AsRef<Path>) -> Result<Verification> {
    verify_on(Arc::new(RealFs), dir)
}

/// As [`verify`], on another file system.
///
/// # Errors
/// As [`verify`].
pub fn verify_on(fs: Arc<dyn Fs>, dir: impl AsRef<Path>) -> Result<Verification> {
    let dir = dir.as_ref();
    let mut found = Verification::default();
    let store = Store::new(Arc::clone(&fs), dir.join("manifest"));
    let newest = match store.newest() {
        Ok(Some(newest)) => newest.manifest,
        Ok(None) => {
            if let Err(error) = unfinished::refuse(&*fs, dir) {
                found.add(&error, dir);
                return Ok(found);
            }
            return Err(no_database(dir));
        }
        Err(error) => {
            found.add(&error, store.dir());
            return Ok(found);
        }
    };
    let mut files = Files::new(&*fs, dir, named_snapshots::names_of_files(&store, &newest));
    files.of(&store, &newest, true, &mut found);
    // From the newest down: a damage is told with the newest manifest that names the file.
    for number in store.numbers()?.into_iter().rev() {
        let path = store.path(number);
        match store.load(number) {
            Ok(older) if number < newest.number => files.of(&store, &older.manifest, false, &mut found),
            Ok(_) => {}
            // Beside a writer: it expired meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound && is_passed(&store, number) => continue,
            Err(error) => found.add_manifest(&error, &newest, number, &path),
        }
        found.files += 1;
        found.bytes += fs.metadata(&path).map_or(0, |m| m.len);
    }
    named_are_there(&store, &newest, &mut found)?;
    log::verify(&fs, dir, &store, &mut found);
    Ok(found)
}

impl FileDamage {
    fn of(error: &Error, file: &Path) -> Self {
        Self {
            file: error.file().map_or_else(|| file.to_path_buf(), Path::to_path_buf),
            offset: error.offset(),
            what: error.message().to_owned(),
            rows: None,
            manifest: None,
            snapshots: Vec::new(),
            help: error.help().unwrap_or("restore the database with `akidb restore URL DIR`").to_owned(),
        }
    }
}

impl Verification {
    fn add(&mut self, error: &Error, file: &Path) {
        if !self.note_unread(error, file) {
            self.damages.push(FileDamage::of(error, file));
        }
    }

    /// Whether the error tells nothing of the file's bytes, because they could not be had; it is noted as that, once a file.
    fn note_unread(&mut self, error: &Error, file: &Path) -> bool {
        if error.kind() != ErrorKind::Unavailable || error.is_damage() {
            return false;
        }
        let file = error.file().unwrap_or(file).to_path_buf();
        if self.unread.iter().all(|unread| unread.file != file) {
            let (what, help) = (error.message().to_owned(), error.access_help().to_owned());
            self.unread.push(UnreadFile { file, what, help });
        }
        true
    }

    /// An older manifest that cannot be read: nothing of the database is in it, only what it is kept for.
    fn add_manifest(&mut self, error: &Error, newest: &Manifest, number: u64, path: &Path) {
        if self.note_unread(error, path) {
            return;
        }
        self.add(error, path);
        let Some(damage) = self.damages.last_mut().filter(|_| number < newest.number) else { return };
        let named = newest.snapshots.iter().filter(|named| named.manifest == number);
        damage.snapshots = named.map(|named| named.name.clone()).collect();
        damage.help = match damage.snapshots.first() {
            Some(name) => format!("let the name go: `akidb snapshot rm {name}`"),
            None => "it goes when it expires; until then no file of a collection is removed".to_owned(),
        };
    }
}

fn no_database(dir: &Path) -> Error {
    Error::new(ErrorKind::NotFound, "AKI-0221", format!("{} holds no database", dir.display()))
}

/// Whether there is a newer manifest than this one by now.
fn is_passed(store: &Store, number: u64) -> bool {
    store.numbers().is_ok_and(|numbers| numbers.last().is_some_and(|newest| *newest > number))
}

/// A manifest that a person keeps and that is gone is damage, unless that person let it go meanwhile.
fn named_are_there(store: &Store, newest: &Manifest, found: &mut Verification) -> Result<()> {
    let numbers = store.numbers()?;
    let gone = newest.snapshots.iter().filter(|named| !numbers.contains(&named.manifest));
    let gone: Vec<_> = gone.collect();
    if gone.is_empty() {
        return Ok(());
    }
    let now = store.newest()?.map_or_else(Vec::new, |now| now.manifest.snapshots);
    for named in gone.into_iter().filter(|named| now.contains(named)) {
        found.damages.push(FileDamage {
            file: store.path(named.manifest),
            offset: None,
            what: format!("the manifest of snapshot \"{}\" is gone", named.name),
            rows: None,
            manifest: None,
            snapshots: vec![named.name.clone()],
            help: format!("let the name go: `akidb snapshot rm {}`", named.name),
        });
    }
    Ok(())
}
