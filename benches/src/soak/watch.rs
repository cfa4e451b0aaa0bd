//! What a running process and the directory of its database take: memory, files, bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of a block as `st_blocks` counts.
const BLOCK: u64 = 512;

/// Files below a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) count: u64,
    /// As long as they are.
    pub(super) bytes: u64,
    /// What the disk keeps for them.
    pub(super) allocated: u64,
    /// By ending: how many, and what the disk keeps for them.
    pub(super) by_kind: BTreeMap<String, (u64, u64)>,
}

impl Files {
    /// Looks below `dir`; what is removed meanwhile is not counted.
    pub(super) fn below(dir: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        files.look(dir)?;
        Ok(files)
    }

    fn look(&mut self, dir: &Path) -> io::Result<()> {
        let Some(entries) = unless_gone(fs::read_dir(dir))? else { return Ok(()) };
        for entry in entries {
            let path = entry?.path();
            let Some(found) = unless_gone(fs::symlink_metadata(&path))? else { continue };
            if found.is_dir() {
                self.look(&path)?;
                continue;
            }
            self.count += 1;
            self.bytes += found.len();
            self.allocated += found.blocks() * BLOCK;
            let kind = kind_of(&path);
            let (count, allocated) = self.by_kind.entry(kind.to_owned()).or_default();
            *count += 1;
            *allocated += found.blocks() * BLOCK;
        }
        Ok(())
    }
}

/// A file's ending. Spare log files have a temporary name for as long as nothing needs them: they are the log's.
fn kind_of(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.ends_with(".wal.tmp") {
        return "wal";
    }
    path.extension().and_then(|ending| ending.to_str()).unwrap_or("none")
}

fn unless_gone<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Memory of a process, MiB: what is its own, and pages of files that the kernel takes back when it needs them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Memory {
    pub(super) anon_mib: f64,
    pub(super) file_mib: f64,
}

/// `None` once the process is gone.
pub(super) fn memory_of(process: u32) -> Option<Memory> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let mib = |name| Some(number_of(&status, name)? as f64 / 1_024.0);
    Some(Memory { anon_mib: mib("RssAnon:")?, file_mib: mib("RssFile:")? })
}

/// Bytes that a process had written to storage, as far as it is known; those the kernel has yet to write count.
pub(super) fn written_by(process: u32) -> Option<u64> {
    number_of(&fs::read_to_string(format!("/proc/{process}/io")).ok()?, "write_bytes:")
}

fn number_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_below_and_a_hole_is_not_allocated() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("wal")).unwrap();
        fs::write(dir.path().join("LOCK"), "x").unwrap();
        fs::File::create(dir.path().join("wal/a.wal")).unwrap().set_len(1 << 20).unwrap();
        let found = Files::below(dir.path()).unwrap();
        assert_eq!((found.count, found.bytes), (2, (1 << 20) + 1));
        assert!(found.allocated < 1 << 20, "{found:?}");
        assert_eq!((found.by_kind["wal"].0, found.by_kind["none"].0), (1, 1));
        assert_eq!(Files::below(&dir.path().join("nothing")).unwrap(), Files::default());
    }

    #[test]
    fn this_process_has_memory_and_no_process_has_none() {
        assert!(memory_of(std::process::id()).unwrap().anon_mib > 0.0);
        assert_eq!((memory_of(0), written_by(0)), (None, None));
        assert_eq!(number_of("a: 1\nwrite_bytes: 77\n", "write_bytes:"), Some(77));
    }
}
