//! What a failed command says, and the exit code that goes with it.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use akidb::{Error, ErrorKind, Fate};
use serde::{Deserialize, Serialize};

use crate::remedy;

/// The result of a verb.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Exit codes, stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Nothing found, or a failure of no other class.
    NoResult = 1,
    /// The command or its input is wrong; the same command will fail again.
    Usage = 2,
    /// Damaged data was found.
    Damaged = 3,
    /// A backend or the disk does not answer now.
    Unavailable = 4,
}

impl Exit {
    /// The number the shell sees.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

/// What the places of an imported file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Lines of text.
    Line,
    /// Rows of a table or matrix.
    Row,
}

/// A failed command.
#[derive(Clone, Debug)]
pub(crate) struct Failure(Box<Report>);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Report {
    kind: Cow<'static, str>,
    code: Cow<'static, str>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy")]
    file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fate: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
    exit: u8,
    /// The reader of our output went away: nobody is left to tell.
    #[serde(skip)]
    silent: bool,
}

/// A path that is no text, as people are shown it.
#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
fn lossy<S: serde::Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(Path::to_string_lossy).serialize(to)
}

impl Failure {
    fn new(exit: Exit, kind: &'static str, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Report {
            kind: Cow::Borrowed(kind),
            code: Cow::Borrowed(code),
            message: message.into(),
            file: None,
            offset: None,
            line: None,
            row: None,
            fate: None,
            note: None,
            help: None,
            exit: exit.code(),
            silent: false,
        }))
    }

    /// The command or its input is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "Invalid", "AKI-0901", message)
    }

    /// What was asked for is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NoResult, "NotFound", "AKI-0902", message)
    }

    /// A file to import is not what it should be.
    pub(crate) fn input(file: &Path, message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "Invalid", "AKI-0903", message).at(file)
    }

    /// The machine refused a call on a file that is not the database's.
    pub(crate) fn io(file: &Path, doing: &str, cause: &io::Error) -> Self {
        let exit = if cause.kind() == io::ErrorKind::NotFound { Exit::Usage } else { Exit::NoResult };
        Self::new(exit, "Io", "AKI-0904", format!("{doing}: {cause}")).at(file)
    }

    /// A check of ours found that a promise was not kept.
    pub(crate) fn broken_promise(message: impl Into<String>) -> Self {
        Self::new(Exit::NoResult, "Broken", "AKI-0905", message)
    }

    /// Damage was found and has been listed.
    pub(crate) fn damaged(message: impl Into<String>) -> Self {
        Self::new(Exit::Damaged, "Corrupt", "AKI-0906", message)
    }

    /// An address cannot be listened on.
    pub(crate) fn address(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, "Unavailable", "AKI-0907", message)
    }

    /// Files that are there could not be looked at; they have been listed.
    pub(crate) fn unread(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, "Unavailable", "AKI-0522", message)
    }

    /// The disk or a backend is not fit to be used; what is wrong has been listed.
    pub(crate) fn unfit(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, "Unavailable", "AKI-0914", message)
    }

    /// What a server told of a failure, in the form of [`Failure::json`]; `None` if it is in no such form.
    pub(crate) fn told(answer: &serde_json::Value) -> Option<Self> {
        Report::deserialize(answer.get("error")?).ok().map(|report| Self(Box::new(report)))
    }

    /// No server answers.
    pub(crate) fn no_server(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, "Unavailable", "AKI-0915", message)
    }

    /// What is asked for lives in a process, and none is named.
    pub(crate) fn in_process(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "Invalid", "AKI-0916", message)
    }

    /// A request without the right token.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "Unauthorized", "AKI-0908", message)
            .help("send the token that `akidb serve` was started with: AKIDB_TOKEN, or --token-file FILE")
    }

    /// A request that a web page may have made.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "Forbidden", "AKI-0909", message)
            .help("start `akidb serve` with a token, or with --insecure")
    }

    /// A path that is not served.
    pub(crate) fn no_route(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "NotFound", "AKI-0910", message).help(ROUTES)
    }

    /// A path that is served by other methods.
    pub(crate) fn no_method(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "NotAllowed", "AKI-0910", message).help(ROUTES)
    }

    /// A request whose query or body makes no sense.
    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "Invalid", "AKI-0911", message)
    }

    /// A request whose body is too large.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "TooLarge", "AKI-0911", message)
    }

    /// A request that took too long.
    pub(crate) fn too_late(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, "Unavailable", "AKI-0912", message)
    }

    /// The database takes no writes.
    pub(crate) fn not_ready(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, "NotReady", "AKI-0913", message)
    }

    /// Names the file.
    pub(crate) fn at(mut self, file: &Path) -> Self {
        self.0.file.get_or_insert_with(|| file.to_path_buf());
        self
    }

    /// Names the line or row of an imported file, from 1.
    pub(crate) fn place(mut self, unit: Unit, number: u64) -> Self {
        match unit {
            Unit::Line => self.0.line = Some(number),
            Unit::Row => self.0.row = Some(number),
        }
        self
    }

    /// Adds what else the reader must know.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.0.note = Some(note.into());
        self
    }

    /// Says what mends it, unless the cause already did.
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.0.help.get_or_insert_with(|| help.into());
        self
    }

    /// Names the database in each command that the failure names.
    pub(crate) fn runnable(mut self, db: &Path) -> Self {
        self.0.message = remedy::runnable(&self.0.message, db);
        self.0.note = self.0.note.map(|note| remedy::runnable(&note, db));
        self.0.help = self.0.help.map(|help| remedy::runnable(&help, db));
        self
    }

    /// Leaves out the fate of the write: the verb writes nothing.
    pub(crate) fn without_fate(mut self) -> Self {
        self.0.fate = None;
        self
    }

    /// Leaves out the fate of a write that was part of a longer job, unless it is not known: that must be said.
    pub(crate) fn without_partial_fate(self) -> Self {
        if self.0.fate.as_deref() == Some(UNKNOWN) { self } else { self.without_fate() }
    }

    /// What happened and in which line or row, in one line.
    pub(crate) fn in_short(&self) -> String {
        let place = |(unit, number): (&str, u64)| format!(" ({unit} {number})");
        let places = [self.0.line.map(|n| ("line", n)), self.0.row.map(|n| ("row", n))];
        let places: String = places.into_iter().flatten().map(place).collect();
        format!("{}{places}", self.0.message)
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    /// What can be done about it, in a word.
    pub(crate) fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The number the shell sees.
    pub(crate) fn exit_code(&self) -> u8 {
        self.0.exit
    }

    /// Whether there is nobody left to tell.
    pub(crate) fn is_silent(&self) -> bool {
        self.0.silent
    }

    /// One JSON object with the single key `error`.
    pub(crate) fn json(&self) -> String {
        let object = serde_json::json!({ "error": &*self.0 });
        object.to_string()
    }
}

const ROUTES: &str = "docs/operations/serve.md lists what is served";
const UNKNOWN: &str = "whether the write survives is known after a reopen";

fn exit_of(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Invalid => Exit::Usage,
        ErrorKind::Corrupt => Exit::Damaged,
        ErrorKind::Unavailable => Exit::Unavailable,
        _ => Exit::NoResult,
    }
}

fn name_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Invalid => "Invalid",
        ErrorKind::NotFound => "NotFound",
        ErrorKind::Conflict => "Conflict",
        ErrorKind::Full { .. } => "Full",
        ErrorKind::NoSpace => "NoSpace",
        ErrorKind::Locked => "Locked",
        ErrorKind::Unavailable => "Unavailable",
        ErrorKind::Corrupt => "Corrupt",
        ErrorKind::NewerFormat => "NewerFormat",
        ErrorKind::Fenced => "Fenced",
        ErrorKind::Poisoned => "Poisoned",
        ErrorKind::Closed => "Closed",
        _ => "Internal",
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        let mut failure = Self::new(exit_of(kind), name_of(kind), error.code(), error.message());
        failure.0.file = error.file().map(Path::to_path_buf);
        failure.0.offset = error.offset();
        failure.0.help = error.help().map(str::to_owned);
        failure.0.fate = Some(Cow::Borrowed(match error.fate() {
            Fate::NotWritten => "nothing was written",
            Fate::Durable => "the write is durable",
            Fate::Unknown if error.is_in_part() => "in part: what was written before it stays",
            Fate::Unknown => UNKNOWN,
        }));
        failure
    }
}

/// A failure of standard output. A reader who has seen enough (`| head`) is no failure to speak of.
impl From<io::Error> for Failure {
    fn from(cause: io::Error) -> Self {
        let mut failure =
            Self::new(Exit::NoResult, "Io", "AKI-0904", format!("writing to standard output: {cause}"));
        failure.0.silent = cause.kind() == io::ErrorKind::BrokenPipe;
        failure
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.0;
        write!(f, "error: {} [{}]", report.message, report.code)?;
        if let Some(file) = &report.file {
            write!(f, "\n  file: {}", file.display())?;
            if let Some(offset) = report.offset {
                write!(f, ", byte {offset}")?;
            }
        }
        if let Some(line) = report.line {
            write!(f, "\n  line: {line}")?;
        }
        if let Some(row) = report.row {
            write!(f, "\n  row: {row}")?;
        }
        if let Some(fate) = &report.fate {
            write!(f, "\n  fate: {fate}")?;
        }
        if let Some(note) = &report.note {
            write!(f, "\n  note: {note}")?;
        }
        if let Some(help) = &report.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_where_and_what_mends_it() {
        let failure = Failure::input(Path::new("rows.jsonl"), "not a JSON object")
            .place(Unit::Line, 7)
            .note("6 rows before it were imported and stay")
            .help("mend line 7 and run the import again");
        assert_eq!(
            failure.to_string(),
            "error: not a JSON object [AKI-0903]\n  file: rows.jsonl\n  line: 7\n  \
             note: 6 rows before it were imported and stay\n  help: mend line 7 and run the import again"
        );
        assert_eq!(failure.exit_code(), 2);
        let object: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
        assert_eq!(object["error"]["line"], 7);
        assert_eq!(object["error"]["exit"], 2);
    }

    #[test]
    fn a_path_that_is_no_text_is_told_all_the_same() {
        use std::os::unix::ffi::OsStrExt;

        let file = Path::new(std::ffi::OsStr::from_bytes(b"rows-\xff.jsonl"));
        let object: serde_json::Value = serde_json::from_str(&Failure::input(file, "no").json()).unwrap();
        assert_eq!(object["error"]["file"], "rows-\u{fffd}.jsonl");
    }

    #[test]
    fn an_error_of_the_engine_keeps_its_code_and_decides_the_exit() {
        let error = akidb::Id::from("").check().unwrap_err();
        let failure = Failure::from(error);
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("[AKI-0101]\n  fate: nothing was written"), "{failure}");
        assert!(!failure.without_fate().to_string().contains("fate"));
    }

    #[test]
    fn a_reader_who_went_away_is_told_nothing() {
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_silent());
        assert!(!Failure::from(io::Error::from(io::ErrorKind::StorageFull)).is_silent());
    }
}
