//! Runs the built command on a directory of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A directory for a database, with room beside it for other files.
pub(crate) struct Place {
    home: TempDir,
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_akidb"))
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    /// With a database of three rows: dimension 2, cosine, `lang:text year:int tags:text_list`.
    pub(crate) fn with_rows() -> Self {
        let place = Self::new();
        let file = place.file(
            "rows.jsonl",
            "{\"id\":\"a\",\"vector\":[1,0],\"lang\":\"en\",\"year\":2001,\"title\":\"first\"}\n\
             {\"id\":\"b\",\"vector\":[0.8,0.6],\"lang\":\"de\",\"year\":2002,\"tags\":[\"x\",\"y\"]}\n\
             {\"id\":\"c\",\"vector\":[0,1],\"lang\":\"en\",\"year\":2003}\n",
        );
        let fields = ["--field", "lang:text", "--field", "year:int", "--field", "tags:text_list"];
        place
            .ok(&[&["import", "docs", file.to_str().unwrap(), "--create", "--no-flush"][..], &fields]
                .concat());
        place
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.home.path().join("db")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file beside the database.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    pub(crate) fn run(&self, args: &[&str]) -> Run {
        self.run_with(args, b"")
    }

    /// Runs with this on standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Run {
        let mut command = program();
        command.arg("--db").arg(self.db()).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that reads no input may be gone before it is written.
        let _ = child.stdin.take().unwrap().write_all(input);
        Run::of(child.wait_with_output().unwrap())
    }

    /// Runs what must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}: {run:?}");
        run.out
    }

    /// Runs with `--json` what must succeed: its objects.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        objects(&self.ok(&[args, &["--json"]].concat()))
    }

    /// Runs what must fail with this exit code: what it said.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, code, "{args:?}: {run:?}");
        assert!(!run.err.contains("panicked"), "{args:?}: {run:?}");
        assert!(!run.err.is_empty(), "{args:?} failed without a word");
        run.err
    }

    /// Every file of the database with its content: equal before and after what changes nothing.
    pub(crate) fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        files_below(&self.db()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// Files of the database with this ending, sorted.
    pub(crate) fn files(&self, ending: &str) -> Vec<PathBuf> {
        files_below(&self.db()).into_iter().filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
    }
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is text");
        let code = output.status.code().expect("the command ended by itself");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

pub(crate) fn objects(lines: &str) -> Vec<Value> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"))).collect()
}

/// The keys of an object, sorted, joined by blanks.
pub(crate) fn keys(object: &Value) -> String {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}

pub(crate) fn ids(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["id"].as_str().unwrap()).collect()
}
