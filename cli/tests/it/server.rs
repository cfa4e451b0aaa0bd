//! A running `akidb serve` and a plain HTTP client, for tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use akidb_host::{Clock, RealClock, RealSpawn, Spawn};
use serde_json::Value;

use crate::support::{Place, Run, objects, program};

/// Nothing here takes as long on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// A server, killed when it is dropped.
pub(crate) struct Server {
    child: Option<Child>,
    pub(crate) admin: String,
    pub(crate) metrics: String,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The code of the failure; every failure is told in the same form.
    pub(crate) fn code(&self) -> String {
        let object = self.json();
        let error = &object["error"];
        assert!(error["message"].is_string() && error["kind"].is_string(), "{self:?}");
        assert!(self.head.to_ascii_lowercase().contains("content-type: application/json"), "{self:?}");
        error["code"].as_str().unwrap().to_owned()
    }
}

impl Server {
    /// Starts it on free ports and waits for its ready line.
    pub(crate) fn start(place: &Place, args: &[&str]) -> Self {
        Self::start_with(place, args, &[])
    }

    pub(crate) fn start_with(place: &Place, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = program();
        command.arg("--db").arg(place.db());
        command.arg("serve").args(args);
        for listen in ["--listen", "--metrics-listen"] {
            if !args.contains(&listen) {
                command.args([listen, "127.0.0.1:0"]);
            }
        }
        command.envs(environment.iter().copied());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let (say, said) = channel();
        let read = move || {
            let mut line = String::new();
            let _ = lines.read_line(&mut line);
            let _ = say.send(line);
        };
        let job = RealSpawn.job("ready", Box::new(read)).unwrap();
        let Ok(line) = said.recv_timeout(LONG) else {
            child.kill().unwrap();
            panic!("no ready line: {:?}", child.wait_with_output());
        };
        job.join();
        if line.is_empty() {
            panic!("it ended: {:?}", child.wait_with_output());
        }
        let ready = objects(&line).remove(0);
        assert_eq!((&ready["ready"], ready["pid"].as_u64()), (&Value::Bool(true), Some(child.id().into())));
        let text = |key: &str| ready[key].as_str().unwrap().to_owned();
        Self { admin: text("admin"), metrics: text("metrics"), child: Some(child) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.admin)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        self.ask("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Response {
        self.ask("POST", path, &[], body)
    }

    /// A request to the admin address.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text += "Host: localhost\r\n";
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        exchange(&self.admin, &format!("{text}\r\n{body}"))
    }

    /// What `/metrics` says.
    pub(crate) fn scrape(&self, headers: &str) -> Response {
        let text = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
        exchange(&self.metrics, &text)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end; a server that does not end is killed and the test fails.
    pub(crate) fn ended(mut self) -> Run {
        let child = self.child.take().unwrap();
        let pid = child.id();
        let (say, said) = channel();
        let wait = move || {
            let _ = say.send(child.wait_with_output());
        };
        let job = RealSpawn.job("wait", Box::new(wait)).unwrap();
        let Ok(output) = said.recv_timeout(LONG) else {
            let _ = std::process::Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status();
            panic!("it did not end");
        };
        job.join();
        Run::of(output.unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Looks until there is something to see; a test that waits for ever fails.
pub(crate) fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let started = RealClock.now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(RealClock.now().duration_since(started) < LONG, "waited in vain");
    }
}

/// Looks until it is so.
pub(crate) fn until_so(mut look: impl FnMut() -> bool) {
    until(|| look().then_some(()));
}

/// Sends these bytes and reads the answer to its end.
pub(crate) fn exchange(address: &str, text: &str) -> Response {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    // A server that has seen enough may close before it has read everything.
    let _ = stream.write_all(text.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let answer = String::from_utf8(bytes).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Response { status, head: head.to_owned(), body: body.to_owned() }
}
