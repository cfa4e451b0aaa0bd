//! The rows that go with a segment: their ids, as far as they can be read, one JSON object a line.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use akidb_host::{File, Fs, RealClock, RealSpawn};
use serde::Serialize;
use serde_json::json;

use super::Named;
use crate::deletion_vector::DeletionVector;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::paths::lossy_path_if_any;
use crate::record::Record;
use crate::segment::Segment;

/// So many ids stand in the report itself.
const SHOWN: usize = 20;
const WRITE_BYTES: usize = 64 * 1024;

/// The live rows that go with a segment. A row whose id the log has written or deleted again since is none of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LostRows {
    /// Name of their collection.
    pub collection: String,
    /// How many; an upper bound where `ids_unread` or `dead_rows_unknown` say that not all is known.
    pub rows: u64,
    /// Their ids, the first 20. All stand in `list`, as `{"id":ID,"row":NUMBER}`.
    pub ids: Vec<Id>,
    /// Those of them whose ids cannot be read. In `list`: `{"rows":[FIRST,LAST],"between":[ID,ID]}`.
    pub ids_unread: u64,
    /// The deletion vector cannot be read: rows that were dead are named too.
    pub dead_rows_unknown: bool,
    /// The file that names them; none where only a look was taken.
    #[serde(serialize_with = "lossy_path_if_any")]
    pub list: Option<PathBuf>,
}

/// What is known of the rows of a segment that is to be given up.
pub(super) struct Going<'a> {
    pub(super) named: &'a Named,
    /// None if it cannot be opened.
    pub(super) segment: Option<Arc<Segment>>,
    /// None if they are not known.
    pub(super) dead: Option<DeletionVector>,
}

impl Going<'_> {
    /// Shows every line of the list, and counts.
    pub(super) fn list(
        &self,
        written_again: &HashSet<Vec<u8>>,
        line: &mut dyn FnMut(&serde_json::Value) -> io::Result<()>,
    ) -> io::Result<LostRows> {
        let mut lost = LostRows {
            collection: self.named.collection.name.clone(),
            dead_rows_unknown: self.dead.is_none(),
            ..LostRows::default()
        };
        let Some(segment) = &self.segment else {
            let between = &self.named.meta.ids;
            self.unread(0..self.named.meta.rows, between, &mut lost, line)?;
            return Ok(lost);
        };
        let (mut run, mut failed): (Option<Range<u32>>, _) = (None, Ok(()));
        segment.show_ids(0..segment.rows(), &mut |row, id| {
            let told = match id {
                None => {
                    run = Some(run.take().map_or(row..row + 1, |run| run.start..row + 1));
                    return;
                }
                Some(id) => self.end_of(run.take(), segment, &mut lost, line).and_then(|()| {
                    if self.is_dead(row) || written_again.contains(&id.key()) {
                        return Ok(());
                    }
                    lost.rows += 1;
                    line(&json!({ "id": id, "row": row }))?;
                    if lost.ids.len() < SHOWN {
                        lost.ids.push(id);
                    }
                    Ok(())
                }),
            };
            if failed.is_ok() {
                failed = told;
            }
        });
        failed?;
        self.end_of(run, segment, &mut lost, line)?;
        Ok(lost)
    }

    fn end_of(
        &self,
        run: Option<Range<u32>>,
        segment: &Segment,
        lost: &mut LostRows,
        line: &mut dyn FnMut(&serde_json::Value) -> io::Result<()>,
    ) -> io::Result<()> {
        match run {
            Some(run) => self.unread(run.clone(), &segment.ids_around(&run), lost, line),
            None => Ok(()),
        }
    }

    fn unread(
        &self,
        rows: Range<u32>,
        between: &[String; 2],
        lost: &mut LostRows,
        line: &mut dyn FnMut(&serde_json::Value) -> io::Result<()>,
    ) -> io::Result<()> {
        let dead = self.dead.as_ref().map_or(0, |dead| dead.count_in(rows.clone()));
        let live = u64::from(rows.end - rows.start) - dead;
        if live == 0 {
            return Ok(());
        }
        lost.rows += live;
        lost.ids_unread += live;
        line(&json!({ "rows": [rows.start, rows.end - 1], "between": between }))
    }

    fn is_dead(&self, row: u32) -> bool {
        self.dead.as_ref().is_some_and(|dead| dead.contains(row))
    }
}

/// The keys that the log writes or deletes again in this collection, behind what its segments hold. Where the log cannot be
/// read, those up to there: then rows are named as lost that are not.
pub(super) fn written_again(fs: &Arc<dyn Fs>, named: &Named) -> HashSet<Vec<u8>> {
    let manifest = &named.manifest.manifest;
    let options = akidb_wal::Options {
        dir: named.home.join("wal"),
        fs: Arc::clone(fs),
        clock: Arc::new(RealClock),
        spawn: Arc::new(RealSpawn),
        config: akidb_wal::Config::default(),
        min_epoch: manifest.writer_epoch,
        floor: manifest.floor,
        read_only: true,
    };
    let mut keys = HashSet::new();
    let Ok((_log, recovered)) = akidb_wal::Log::open(options) else { return keys };
    for record in recovered.records.iter().map_while(std::result::Result::ok) {
        let decoded = Record::decode(record.bytes).ok();
        let ours = decoded.filter(|decoded| decoded.collection == named.collection.id);
        if let Some(ours) = ours.filter(|_| record.lsn > named.collection.flushed_lsn) {
            keys.insert(ours.key.to_vec());
        }
    }
    keys
}

/// Writes the list as `dir/name`, synced before it has its name.
pub(super) fn write_list(
    fs: &dyn Fs,
    dir: &Path,
    name: &str,
    going: &Going<'_>,
    written_again: &HashSet<Vec<u8>>,
) -> Result<LostRows> {
    let (path, tmp) = (dir.join(name), dir.join(format!("{name}.tmp")));
    let written = (|| {
        match fs.unlink(&tmp) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let file = fs.create_new(&tmp)?;
        let (mut buffer, mut at) = (Vec::new(), 0);
        let mut lost = going.list(written_again, &mut |line| {
            serde_json::to_writer(&mut buffer, line)?;
            buffer.push(b'\n');
            if buffer.len() >= WRITE_BYTES { drain(&*file, &mut buffer, &mut at) } else { Ok(()) }
        })?;
        drain(&*file, &mut buffer, &mut at)?;
        file.sync_all()?;
        fs.rename(&tmp, &path)?;
        fs.sync_dir(dir)?;
        lost.list = Some(path.clone());
        Ok(lost)
    })();
    written.map_err(|cause| Error::io("AKI-0286", &path, "writing the list of the ids that are lost", &cause))
}

fn drain(file: &dyn File, buffer: &mut Vec<u8>, at: &mut u64) -> io::Result<()> {
    file.write_at(buffer, *at)?;
    *at += buffer.len() as u64;
    buffer.clear();
    Ok(())
}
