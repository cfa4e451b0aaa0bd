//! The log of a database that somebody may be writing to meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{Fs, RealClock, RealSpawn};
use akidb_wal::{Log, Options};

use super::{UnreadFile, Verification, no_database};
use crate::error::Error;
use crate::log::{LOOKS, from_wal};
use crate::manifest::{Manifest, Store};

/// What one reading of the log found: what is wrong, and where its tail could be torn.
type Look = (Vec<Error>, Option<(PathBuf, u64)>);

/// Reads the log from the floor of the manifest that is the newest now: a writer lets go of what lies below it, and reuses
/// those files. For the same reason nothing is called damage that a second look does not find in the same place.
pub(super) fn verify(fs: &Arc<dyn Fs>, dir: &Path, store: &Store, found: &mut Verification) {
    let wal = dir.join("wal");
    for entry in fs.list(&wal).unwrap_or_default() {
        found.files += 1;
        found.bytes += fs.metadata(&wal.join(&entry.name)).map_or(0, |m| m.len);
    }
    let mut before = None;
    for _ in 0..LOOKS {
        let newest = match store.newest().and_then(|newest| newest.ok_or_else(|| no_database(dir))) {
            Ok(newest) => newest.manifest,
            Err(error) => return found.add(&error, store.dir()),
        };
        let (errors, torn_tail) = look(fs, &wal, &newest);
        let places = errors.iter().map(Error::place).collect::<Vec<_>>();
        if errors.is_empty() || before.as_ref() == Some(&places) {
            found.torn_tail = torn_tail;
            return errors.iter().for_each(|error| found.add(error, &wal));
        }
        before = Some(places);
    }
    found.unread.push(UnreadFile {
        file: wal,
        what: "the log changed each time it was read".to_owned(),
        help: "look again when less is written, or stop the writer for it".to_owned(),
    });
}

fn look(fs: &Arc<dyn Fs>, wal: &Path, newest: &Manifest) -> Look {
    let options = Options {
        dir: wal.to_path_buf(),
        fs: Arc::clone(fs),
        clock: Arc::new(RealClock),
        spawn: Arc::new(RealSpawn),
        config: akidb_wal::Config::default(),
        min_epoch: newest.writer_epoch,
        floor: newest.floor,
        read_only: true,
    };
    match Log::open(options) {
        Err(error) => (vec![from_wal(&error)], None),
        Ok((_log, recovered)) => {
            let torn_tail = recovered.cut.as_ref().map(|cut| (cut.file.clone(), cut.offset));
            let records = recovered.records.iter();
            (records.filter_map(|record| record.err().map(|error| from_wal(&error))).collect(), torn_tail)
        }
    }
}
