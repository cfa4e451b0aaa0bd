//! The writer's process as its parent holds it.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use akidb_host::{RealSpawn, Spawn};

use super::said::{Orders, STOP, Said};
use super::{SoakBench, SoakError};

/// Lines that wait to be looked at.
const MAX_WAITING: usize = 4_096;

/// A running writer; it does not outlive its parent's interest.
#[derive(Debug)]
pub(super) struct Writer {
    child: Child,
    input: Option<ChildStdin>,
    /// What it says, to the last line it could end.
    pub(super) said: Receiver<Said>,
}

impl Writer {
    pub(super) fn start(plan: &SoakBench, orders: &Orders) -> Result<Self, SoakError> {
        let failed = |cause| SoakError::file(&plan.program, "starting", cause);
        let mut command = Command::new(&plan.program);
        command.args(&plan.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (tell, said) = sync_channel(MAX_WAITING);
        let mut writer = Self { child, input, said };
        let Some(output) = output else { unreachable!("the writer's output is a pipe") };
        RealSpawn.job("soak-listen", Box::new(move || listen(output, &tell))).map_err(failed)?;
        let mut line = serde_json::to_vec(orders).map_err(io::Error::from).map_err(failed)?;
        line.push(b'\n');
        writer.order(&line).map_err(failed)?;
        Ok(writer)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    fn order(&mut self, line: &[u8]) -> io::Result<()> {
        self.input.as_mut().map_or(Ok(()), |input| input.write_all(line))
    }

    /// Tells it to write no more.
    pub(super) fn stop(&mut self) {
        // One that is gone shows in what it says no more.
        let _ = self.order(format!("{STOP}\n").as_bytes());
    }

    /// Tells it to close the database and end.
    pub(super) fn close(&mut self) {
        self.input = None;
    }

    /// SIGKILL: it gets no chance to tidy up.
    pub(super) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Either may fail only because it is gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Half a line is nothing that was said.
fn listen(output: ChildStdout, tell: &SyncSender<Said>) {
    let mut lines = BufReader::new(output);
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|read| read > 0) && line.ends_with('\n') {
        let Ok(said) = serde_json::from_str(&line) else { return };
        if tell.send(said).is_err() {
            return;
        }
        line.clear();
    }
}
