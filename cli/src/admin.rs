//! Asking a running `akidb serve`: where it is, and one plain HTTP request at a time.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use crate::failure::{Failure, Result};
use crate::serve::auth::Token;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server gives up on an answer before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// More than any answer has.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// Which running database is meant, if one is.
#[derive(Args, Clone, Debug)]
pub(crate) struct Admin {
    /// Ask the `akidb serve` at this URL, such as http://127.0.0.1:8080, instead of the directory
    #[arg(long, global = true, env = "AKIDB_ADMIN", value_name = "URL")]
    admin: Option<String>,
    /// The token it asks for. Better by AKIDB_TOKEN or --token-file: other users see the arguments of
    /// a process. AKIDB_TOKEN counts where neither option is given
    #[arg(long, global = true, conflicts_with = "token_file")]
    token: Option<String>,
    /// A file with the token it asks for
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl Admin {
    /// The server to ask, if one is named.
    pub(crate) fn server(&self) -> Result<Option<Server>> {
        let Some(url) = self.admin.as_deref().filter(|url| !url.is_empty()) else { return Ok(None) };
        let place = url.strip_prefix("http://").map(|place| place.trim_end_matches('/'));
        let place = place.filter(|place| !place.is_empty() && !place.contains(['/', '@', '?', '#', ' ']));
        let Some(place) = place else {
            return Err(Failure::usage(format!("--admin {url:?} is no address of an `akidb serve`"))
                .help("write http://HOST:PORT; there is no TLS and no path there"));
        };
        let has_port = place.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { place.to_owned() } else { format!("{place}:8080") };
        Ok(Some(Server { host, token: Token::chosen(self.token.as_deref(), self.token_file.as_deref())? }))
    }
}

/// An `akidb serve` somewhere.
#[derive(Debug)]
pub(crate) struct Server {
    host: String,
    token: Option<Token>,
}

impl Server {
    /// Makes one request; the answer's JSON, or the failure that the server tells of.
    pub(crate) fn ask(&self, method: &str, path: &str, wishes: &Value) -> Result<Value> {
        let answer =
            self.exchange(&self.request(method, path, wishes)).map_err(|cause| self.silent(&cause))?;
        let (status, body) = parse(&answer).ok_or_else(|| self.foreign("an answer that is no HTTP"))?;
        let value: Value = serde_json::from_slice(body)
            .map_err(|_| self.foreign(&format!("status {status} and something that is no JSON")))?;
        if status == 200 {
            return Ok(value);
        }
        Err(Failure::told(&value).unwrap_or_else(|| self.foreign(&format!("status {status}"))))
    }

    /// Wishes travel in the query, but for a POST, whose body they are.
    fn request(&self, method: &str, path: &str, wishes: &Value) -> String {
        let (query, body) = match (method, wishes) {
            (_, Value::Null) => (String::new(), String::new()),
            ("POST", wishes) => (String::new(), wishes.to_string()),
            (_, wishes) => (query(wishes), String::new()),
        };
        let token = self
            .token
            .as_ref()
            .map_or(String::new(), |token| format!("Authorization: Bearer {}\r\n", token.reveal()));
        format!(
            "{method} {path}{query} HTTP/1.1\r\nHost: {}\r\n{token}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        )
    }

    fn exchange(&self, request: &str) -> std::io::Result<Vec<u8>> {
        let mut failure = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in self.host.to_socket_addrs()? {
            let mut stream = match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => stream,
                Err(cause) => {
                    failure = cause;
                    continue;
                }
            };
            stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
            return Ok(answer);
        }
        Err(failure)
    }

    fn silent(&self, cause: &std::io::Error) -> Failure {
        Failure::no_server(format!("no `akidb serve` answers at http://{}: {cause}", self.host))
            .help("start it, or correct --admin (AKIDB_ADMIN); without it the verbs of `akidb dlq` read the directory")
    }

    fn foreign(&self, what: &str) -> Failure {
        Failure::no_server(format!("what answers at http://{} is no `akidb serve`: {what}", self.host)).help(
            "--admin is the address of the admin routes, 127.0.0.1:8080 unless set; /metrics has another",
        )
    }
}

/// The plain values of an object as a query.
fn query(wishes: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let given = wishes.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let pairs: Vec<String> = given.map(|(key, value)| format!("{key}={}", escaped(&text(value)))).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

/// Everything but letters, digits and the marks that mean nothing in a URL as `%41`.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(one).collect()
}

/// Status and body of an answer that is whole.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (str::from_utf8(&answer[..end]).ok()?, &answer[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") && value.trim().parse() != Ok(body.len()) {
            return None;
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return None;
        }
    }
    Some((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin(url: &str) -> Admin {
        Admin { admin: Some(url.to_owned()), token: None, token_file: None }
    }

    #[test]
    fn an_address_is_read_with_or_without_a_port() {
        for (url, host) in [
            ("http://localhost", "localhost:8080"),
            ("http://localhost:81/", "localhost:81"),
            ("http://[::1]", "[::1]:8080"),
            ("http://[::1]:82", "[::1]:82"),
        ] {
            assert_eq!(admin(url).server().unwrap().unwrap().host, host);
        }
        assert!(admin("").server().unwrap().is_none());
        for wrong in
            ["localhost:8080", "https://localhost", "http://", "http://a/b", "http://user@a", "http://a b"]
        {
            assert!(admin(wrong).server().is_err(), "{wrong}");
        }
    }

    #[test]
    fn wishes_are_escaped_in_a_query() {
        let wishes = serde_json::json!({ "backend": "a b&c=d/ä", "class": null, "limit": 3 });
        assert_eq!(query(&wishes), "?backend=a%20b%26c%3Dd%2F%C3%A4&limit=3");
        assert_eq!(query(&serde_json::json!({ "class": null })), "");
    }

    #[test]
    fn an_answer_counts_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(parse(whole), Some((200, &b"{}"[..])));
        assert_eq!(parse(&whole[..whole.len() - 1]), None);
        assert_eq!(parse(b"HTTP/1.1 404 Not Found\r\n\r\nx"), Some((404, &b"x"[..])));
        for broken in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"] {
            assert_eq!(parse(broken), None);
        }
    }
}
