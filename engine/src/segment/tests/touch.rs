//! What open and reads touch: no more than they say.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use akidb_host::{Access, Advice, DirEntry, File, Fs, FsStats, LockGuard, LogRegion, Metadata, Region};

use super::*;
use crate::segment::check::BLOCK_LEN;

/// The real file system, counting bytes read.
#[derive(Debug, Default)]
struct Counting {
    read: Arc<AtomicU64>,
}

#[derive(Debug)]
struct CountingFile(Arc<dyn File>, Arc<AtomicU64>);

impl File for CountingFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.0.read_at(buf, offset)?;
        self.1.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn zero_fill(&self, from: u64, to: u64) -> io::Result<()> {
        self.0.zero_fill(from, to)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
    fn advise(&self, advice: Advice) {
        self.0.advise(advice);
    }
    fn map(&self) -> io::Result<Region> {
        self.0.map()
    }
    fn map_log(&self, len: u64) -> io::Result<LogRegion> {
        self.0.map_log(len)
    }
}

impl Fs for Counting {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let file = RealFs.open(path, access)?;
        Ok(Arc::new(CountingFile(file, Arc::clone(&self.read))))
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        RealFs.create_new(path)
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        RealFs.create_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.hard_link(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealFs.unlink(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        RealFs.list(dir)
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        RealFs.metadata(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealFs.sync_dir(dir)
    }
    fn statfs(&self, path: &Path) -> io::Result<FsStats> {
        RealFs.statfs(path)
    }
    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        RealFs.try_lock(path)
    }
}

#[test]
fn bytes_verified_are_at_most_bytes_touched_plus_one_block_each_and_open_reads_256_kib() {
    let schema = every_type(384);
    let written = Written::new(schema.clone(), rows(&schema, 20_000, 8));
    let fs = Counting::default();
    let segment = Segment::open(&fs, &written.path(), &written.meta, &schema).unwrap();
    let opened = fs.read.load(Ordering::Relaxed);
    println!("open read {opened} of {} bytes", written.meta.size);
    assert!(opened <= 256 * 1024, "open read {opened} bytes");
    assert_eq!(segment.touched().verified_bytes, 0, "open touches nothing but the tail");
    let block = BLOCK_LEN as u64;
    let mut calls = 0;
    for row in (0..20_000).step_by(331) {
        calls += 1;
        segment.vector(row).unwrap();
        // An unaligned stretch reaches into one block at either end.
        let touched = segment.touched();
        assert!(touched.verified_bytes <= touched.touched_bytes + 2 * calls * block);
    }
    let touched = segment.touched();
    assert_eq!(
        fs.read.load(Ordering::Relaxed) - opened,
        touched.verified_bytes,
        "every byte read was checked"
    );
    segment.vector(0).unwrap();
    assert_eq!(segment.touched(), touched, "a second touch costs nothing");
    // One id: the hash blocks around its place, its row, and one page of ids.
    segment.find(&written.rows[12_345].1.id).unwrap().unwrap();
    let after = segment.touched();
    println!("one find verified {} bytes", after.verified_bytes - touched.verified_bytes);
    assert!(after.verified_bytes - touched.verified_bytes <= 8 * block);
}

#[test]
fn a_flip_after_open_and_before_first_touch_is_an_error_that_names_file_offset_and_rows() {
    let schema = every_type(384);
    let written = Written::new(schema.clone(), rows(&schema, 500, 8));
    let segment = written.open().unwrap();
    segment.vector(0).unwrap();
    let at = written.meta.vectors[0] + 400 * 384 * 4 + 5;
    let mut bytes = written.bytes();
    bytes[usize::try_from(at).unwrap()] ^= 4;
    // The same inode, as a disk that decays under an open file: the map sees it too.
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(written.path()).unwrap();
    file.write_all_at(&bytes[usize::try_from(at).unwrap()..][..1], at).unwrap();
    let error = segment.vector(400).unwrap_err();
    assert_eq!(error.code(), "AKI-0504");
    assert_eq!(error.file(), Some(&*written.path()));
    assert_eq!(error.offset(), Some(at / BLOCK_LEN as u64 * BLOCK_LEN as u64));
    assert!(error.message().contains("column vector, rows 0 to 499"), "{error}");
    assert!(segment.vector(0).is_ok(), "what was found right stays readable");
    assert_eq!(segment.damages().unwrap().damages.len(), 1);
}

#[test]
fn a_file_cut_short_after_open_is_an_error_not_a_signal() {
    let schema = every_type(384);
    let written = Written::new(schema.clone(), rows(&schema, 500, 8));
    let segment = written.open().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(written.path()).unwrap();
    file.set_len(written.meta.vectors[0] + 100_000).unwrap();
    let error = segment.vector(450).unwrap_err();
    assert_eq!(error.code(), "AKI-0503");
    assert!(segment.verify().is_err());
}
