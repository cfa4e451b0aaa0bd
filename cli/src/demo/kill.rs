//! The demo's other half of the child: reads its acknowledgements and kills it at a random moment.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use akidb_host::{Clock, RealClock, Rng};

use crate::failure::{Failure, Result};

/// The child is killed after this many acknowledgements at least.
const MIN_ACKS: u64 = 200;
/// And after at most this many more.
const MORE_ACKS: u64 = 400;
/// Then a moment of up to this long passes, so that the kill falls anywhere inside a write.
const MOMENT_MICROS: u64 = 3_000;
const SIGKILL: i32 = 9;

/// One acknowledgement, as it was read from the child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    /// Number of the row.
    pub(crate) n: u64,
    /// Its LSN.
    pub(crate) lsn: String,
    /// How long its upsert took.
    pub(crate) micros: u64,
}

/// A child that does not outlive its parent's interest.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Either may fail only because the child is gone, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the child on the database in `dir`, kills it, and returns every acknowledgement it gave.
pub(crate) fn write_and_kill(dir: &Path, rng: &mut Rng) -> Result<Vec<Ack>> {
    let failed = |doing: &str, cause| Failure::io(dir, doing, &cause);
    let program = std::env::current_exe().map_err(|cause| failed("finding this program", cause))?;
    let mut command = Command::new(program);
    command.arg("demo-writer").arg(dir).stdin(Stdio::null()).stdout(Stdio::piped());
    let child = command.spawn().map_err(|cause| failed("starting the child", cause))?;
    let mut child = Killed(child);
    let Some(stdout) = child.0.stdout.take() else { unreachable!("the child's output is a pipe") };
    let mut acks = Acks { lines: BufReader::new(stdout), read: Vec::new() };

    let enough = MIN_ACKS + rng.below(MORE_ACKS);
    let moment = Duration::from_micros(rng.below(MOMENT_MICROS));
    while (acks.read.len() as u64) < enough && acks.next()? {}
    let started = RealClock.now();
    while RealClock.now().duration_since(started) < moment {
        std::hint::spin_loop();
    }
    child.0.kill().map_err(|cause| failed("killing the child", cause))?;
    // What it said before it died was acknowledged too.
    while acks.next()? {}
    let status = child.0.wait().map_err(|cause| failed("waiting for the child", cause))?;
    if status.signal() != Some(SIGKILL) {
        return Err(Failure::broken_promise(format!(
            "the child ended by itself ({status}) before it was killed"
        )));
    }
    Ok(acks.read)
}

struct Acks {
    lines: BufReader<ChildStdout>,
    read: Vec<Ack>,
}

impl Acks {
    /// Reads one more; `false` at the end. Half a line is no acknowledgement that was read.
    fn next(&mut self) -> Result<bool> {
        let mut line = String::new();
        self.lines
            .read_line(&mut line)
            .map_err(|cause| Failure::io(Path::new("-"), "reading the child's acknowledgements", &cause))?;
        let Some(whole) = line.strip_suffix('\n') else { return Ok(false) };
        let ack = parse(whole).ok_or_else(|| {
            Failure::broken_promise(format!("the child wrote {whole:?}, which is no acknowledgement"))
        })?;
        self.read.push(ack);
        Ok(true)
    }
}

fn parse(line: &str) -> Option<Ack> {
    let mut words = line.split(' ');
    let (n, lsn, micros) = (words.next()?, words.next()?, words.next()?);
    Some(Ack { n: n.parse().ok()?, lsn: lsn.to_owned(), micros: micros.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_is_number_lsn_and_time() {
        let ack = Ack { n: 7, lsn: "2:9".into(), micros: 1_234 };
        assert_eq!(parse("7 2:9 1234"), Some(ack));
        assert_eq!(parse("7 2:9"), None);
        assert_eq!(parse(""), None);
    }
}
