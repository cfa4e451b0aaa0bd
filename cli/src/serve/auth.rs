//! Who may ask: a bearer token where one is set; else only what comes from this machine and from no web page.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::hint::black_box;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::failure::{Failure, Result};
use crate::serve::Served;

/// A token that can be guessed is none.
const MIN_TOKEN_BYTES: usize = 16;
const VARIABLE: &str = "AKIDB_TOKEN";

/// The secret that a caller must know; never printed.
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

impl Token {
    /// The one that options and files name; without any, the one of the environment. An empty variable is none.
    pub(crate) fn chosen(given: Option<&str>, file: Option<&Path>) -> Result<Option<Self>> {
        Self::among(given, file, std::env::var_os(VARIABLE).filter(|text| !text.is_empty()))
    }

    /// As [`Token::chosen`], for a server: an empty variable says that somebody meant to set one, and it would ask nobody for it.
    pub(crate) fn asked_for(given: Option<&str>, file: Option<&Path>) -> Result<Option<Self>> {
        let is_empty = std::env::var_os(VARIABLE).is_some_and(|text| text.is_empty());
        match Self::chosen(given, file)? {
            None if is_empty => {
                Err(Failure::usage(format!("{VARIABLE} is set and empty, so no token would be asked for"))
                    .help(format!("give it a token, or unset {VARIABLE}")))
            }
            chosen => Ok(chosen),
        }
    }

    fn among(
        given: Option<&str>,
        file: Option<&Path>,
        environment: Option<OsString>,
    ) -> Result<Option<Self>> {
        let text = match (given, file) {
            (Some(text), _) => text.to_owned(),
            (None, Some(file)) => {
                fs::read_to_string(file).map_err(|cause| Failure::io(file, "reading the token", &cause))?
            }
            (None, None) => match environment {
                // What is no text is no plain ASCII either, and is refused below.
                Some(text) => text.to_string_lossy().into_owned(),
                None => return Ok(None),
            },
        };
        let text = text.trim();
        if text.len() < MIN_TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::usage(format!(
                "the token is shorter than {MIN_TOKEN_BYTES} characters, or has others than plain ASCII"
            ))
            .help("make one: head -c 32 /dev/urandom | base64"));
        }
        Ok(Some(Self(text.to_owned())))
    }

    /// The text for an `Authorization` header.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Takes the same time wherever the first difference is; only the length can be measured.
    fn is(&self, other: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let differs = own
            .iter()
            .zip(other)
            .fold(own.len() ^ other.len(), |differs, (a, b)| black_box(differs | usize::from(a ^ b)));
        differs == 0
    }
}

/// What stands before every route.
#[derive(Debug)]
pub(crate) struct Gate {
    token: Option<Token>,
    any_host: bool,
}

impl Gate {
    pub(crate) fn new(token: Option<Token>, insecure: bool) -> Self {
        Self { token, any_host: insecure }
    }

    fn check(&self, method: &Method, headers: &HeaderMap) -> Result<()> {
        if let Some(token) = &self.token {
            let given = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
            let given = given.and_then(|value| value.strip_prefix(b"Bearer "));
            return match given {
                Some(given) if token.is(given) => Ok(()),
                Some(_) => Err(Failure::unauthorized("the token is not the right one")),
                None => Err(Failure::unauthorized("a token is needed: Authorization: Bearer TOKEN")),
            };
        }
        // Without a token the browser of somebody on this machine must not be made to ask: by a name that a page's
        // owner points here, or by a form.
        if !self.any_host && !headers.get(HOST).is_some_and(|host| is_this_machine(host.as_bytes())) {
            return Err(Failure::forbidden(
                "without a token only localhost is answered, by that name or its address",
            ));
        }
        if headers.contains_key(ORIGIN) && method != Method::GET {
            return Err(Failure::forbidden("without a token no web page may change anything"));
        }
        Ok(())
    }
}

/// Whether a `Host` header means loopback, with or without a port.
fn is_this_machine(host: &[u8]) -> bool {
    let Ok(host) = str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Lets a request through, or answers it.
pub(crate) async fn guard(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    match served.gate.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_token_is_compared_to_its_end() {
        let token = Token::chosen(Some(" 0123456789abcdef\n"), None).unwrap().unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for wrong in ["", "0123456789abcde", "0123456789abcdeg", "0123456789abcdef0", "1123456789abcdef"] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token(***)");
        assert!(Token::chosen(Some("short"), None).is_err());
        assert!(Token::chosen(Some("0123456789 abcdef"), None).is_err());
    }

    #[test]
    fn with_a_token_nothing_else_opens_the_gate() {
        let gate = Gate::new(Token::chosen(Some("0123456789abcdef"), None).unwrap(), true);
        let check = |value: &str| gate.check(&Method::GET, &headers(&[("authorization", value)]));
        assert!(check("Bearer 0123456789abcdef").is_ok());
        for wrong in ["0123456789abcdef", "bearer 0123456789abcdef", "Basic 0123456789abcdef", "Bearer "] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(gate.check(&Method::GET, &headers(&[("host", "localhost")])).is_err());
    }

    #[test]
    fn a_file_beats_the_environment_and_an_option_beats_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "the-token-of-the-file\n").unwrap();
        let of = |given: Option<&str>, file: Option<&Path>| {
            let environment = Some("the-token-of-the-environment".into());
            Token::among(given, file, environment).unwrap().unwrap().reveal().to_owned()
        };
        assert_eq!(of(None, Some(file.path())), "the-token-of-the-file");
        assert_eq!(of(Some("the-token-of-the-option"), None), "the-token-of-the-option");
        assert_eq!(of(None, None), "the-token-of-the-environment");
        assert!(Token::among(None, None, None).unwrap().is_none());
        let no_text = std::os::unix::ffi::OsStringExt::from_vec(b"0123456789abcdef\xff".to_vec());
        assert!(Token::among(None, None, Some(no_text)).is_err());
    }

    #[test]
    fn without_a_token_only_this_machine_is_answered_and_no_page() {
        let gate = Gate::new(None, false);
        let check =
            |method: Method, pairs: &[(&'static str, &str)]| gate.check(&method, &headers(pairs)).is_ok();
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.8.8.8", "[::1]:8080", "[::1]"] {
            assert!(check(Method::POST, &[("host", host)]), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "192.168.0.1", "[::2]", "127.0.0.1.evil.example"]
        {
            assert!(!check(Method::GET, &[("host", host)]), "{host}");
        }
        assert!(!check(Method::POST, &[("host", "localhost"), ("origin", "http://evil.example")]));
        assert!(check(Method::GET, &[("host", "localhost"), ("origin", "http://evil.example")]));
        assert!(Gate::new(None, true).check(&Method::GET, &headers(&[("host", "akidb.example")])).is_ok());
    }
}
