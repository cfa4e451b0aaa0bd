//! Every kind of damage to the log is mended by the very command that its error names, typed as it stands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Run, ids, objects, program};

/// Bytes of a log file before its first frame, and where its header's copy stands.
const HEADER_PAGE: usize = 4096;
const HEADER_COPY: usize = 2048;

/// A database whose path a shell would take apart, with one row in each of several log files.
struct Log {
    home: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        let log = Self { home: tempfile::tempdir().unwrap() };
        log.ok(&["init", "docs", "--dim", "2"]);
        for id in ["a", "b", "c", "d"] {
            log.ok(&["upsert", "docs", id, "--vector", "1,1"]);
        }
        assert!(log.files().len() >= 4, "{:?}", log.files());
        log
    }

    fn db(&self) -> PathBuf {
        self.home.path().join("Ann's data")
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(program().arg("--db").arg(self.db()).args(args).output().unwrap())
    }

    fn ok(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {run:?}");
        run.out
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.db().join("wal")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "wal")).collect();
        files.sort();
        files
    }

    fn rows(&self) -> Vec<String> {
        let found = objects(&self.ok(&["ls", "docs", "--json"]));
        ids(&found).into_iter().map(str::to_owned).collect()
    }
}

/// Types the command between back quotes into a shell, from another directory.
fn type_in(message: &str) -> Run {
    let command = message.split('`').nth(1).unwrap_or_else(|| panic!("no command in {message}"));
    let program = Path::new(env!("CARGO_BIN_EXE_akidb")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    Run::of(Command::new("sh").arg("-c").arg(command).env("PATH", path).current_dir("/").output().unwrap())
}

#[test]
fn the_command_that_an_error_names_mends_the_log() {
    let edit = |file: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(file).unwrap();
        change(&mut bytes);
        fs::write(file, bytes).unwrap();
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 5] = [
        // The row's frame is the second one: START has 96 bytes.
        ("a flipped bit", &|file| edit(file, &|bytes| bytes[HEADER_PAGE + 96 + 50] ^= 1)),
        ("a flipped bit in the first frame", &|file| edit(file, &|bytes| bytes[HEADER_PAGE + 50] ^= 1)),
        ("both headers", &|file| {
            edit(file, &|bytes| {
                bytes[20] ^= 1;
                bytes[HEADER_COPY + 20] ^= 1;
            });
        }),
        ("a missing file", &|file| fs::remove_file(file).unwrap()),
        ("a file cut short", &|file| edit(file, &|bytes| bytes.truncate(HEADER_PAGE + 100))),
    ];
    for (what, damage) in damages {
        let log = Log::new();
        assert_eq!(log.rows(), ["a", "b", "c", "d"]);
        let files = log.files();
        // The file of row b, so that rows stand before and behind.
        damage(&files[files.len() - 3]);
        let read = log.run(&["ls", "docs"]);
        assert_eq!(read.code, 3, "{what}: {read:?}");
        let file = files[files.len() - 3].file_name().unwrap().to_str().unwrap();
        assert!(read.err.contains(file), "{what}: {read:?}");

        let mended = type_in(&read.err);
        assert_eq!(mended.code, 0, "{what}: {mended:?}");
        assert_eq!(log.rows(), ["a"], "{what}: what stands before the damage is there");
        log.ok(&["verify"]);
        log.ok(&["upsert", "docs", "e", "--vector", "1,1"]);
        assert_eq!(log.rows(), ["a", "e"], "{what}: the log goes on");
        let kept = fs::read_dir(log.db().join("wal")).unwrap().map(|entry| entry.unwrap().file_name());
        let kept: Vec<_> = kept.filter(|name| name.to_string_lossy().contains(".damaged-")).collect();
        assert!(kept.len() >= 2, "{what}: later files are kept aside: {kept:?}");
    }
}
