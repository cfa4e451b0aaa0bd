//! What a request asks for: the pairs of its query and the keys of its JSON body, taken one by one; what is left over
//! is refused, so that a slip never widens what is done.

use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::http::Uri;
use serde_json::Value;

use crate::failure::{Failure, Result};

/// Bytes of a body, at most: it names what is meant and carries nothing.
const MAX_BODY_BYTES: usize = 16 << 10;

/// The wishes of a request.
#[derive(Debug, Default)]
pub(crate) struct Asked(BTreeMap<String, String>);

impl Asked {
    /// Those of the query.
    pub(crate) fn of_query(uri: &Uri) -> Result<Self> {
        let mut asked = Self::default();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
            asked.add(unescaped(key)?, unescaped(value)?)?;
        }
        Ok(asked)
    }

    /// Those of the query and of the body, which is empty or a JSON object of plain values.
    pub(crate) async fn of(uri: &Uri, body: Body) -> Result<Self> {
        let mut asked = Self::of_query(uri)?;
        let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|cause| {
            Failure::too_large(format!("the body has over {MAX_BODY_BYTES} bytes, or broke off: {cause}"))
        })?;
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(asked);
        }
        let value: Value = serde_json::from_slice(&body)
            .map_err(|error| Failure::request(format!("the body is no JSON: {error}")))?;
        let Value::Object(object) = value else {
            return Err(Failure::request("the body is no JSON object"));
        };
        for (key, value) in object {
            match value {
                Value::Null => {}
                Value::String(text) => asked.add(key, text)?,
                Value::Bool(_) | Value::Number(_) => asked.add(key, value.to_string())?,
                _ => {
                    return Err(Failure::request(format!(
                        "\"{key}\" is a list or an object, not a plain value"
                    )));
                }
            }
        }
        Ok(asked)
    }

    fn add(&mut self, key: String, value: String) -> Result<()> {
        match self.0.insert(key.clone(), value) {
            None => Ok(()),
            Some(_) => Err(Failure::request(format!("\"{key}\" is given twice"))),
        }
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    /// A number from 1 to `most`; `unless` it is given, that one.
    pub(crate) fn number(&mut self, key: &str, unless: usize, most: usize) -> Result<usize> {
        let Some(text) = self.0.remove(key) else { return Ok(unless) };
        match text.parse() {
            Ok(number) if (1..=most).contains(&number) => Ok(number),
            _ => Err(Failure::request(format!("{key}: {text:?} is no number from 1 to {most}"))),
        }
    }

    /// Yes or no; no if it is not given.
    pub(crate) fn flag(&mut self, key: &str) -> Result<bool> {
        match self.0.remove(key).as_deref() {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(Failure::request(format!("{key}: {other:?} is neither true nor false"))),
        }
    }

    /// That was all.
    pub(crate) fn nothing_else(self, known: &str) -> Result<()> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(key) => Err(Failure::request(format!("{key:?} is not known here; known: {known}"))),
        }
    }
}

/// `%41` is A, `+` is a blank.
fn unescaped(text: &str) -> Result<String> {
    let broken = || Failure::request(format!("{text:?} is escaped wrongly"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit().ok_or_else(broken)?, digit().ok_or_else(broken)?);
                u8::try_from(high * 16 + low).map_err(|_| broken())?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Asked> {
        Asked::of_query(&format!("/admin/dlq?{text}").parse().unwrap())
    }

    #[test]
    fn a_query_is_taken_pair_by_pair_and_the_rest_refused() {
        let mut asked = query("backend=a%2Fb+c&limit=3&forget").unwrap();
        assert_eq!(asked.text("backend").as_deref(), Some("a/b c"));
        assert_eq!(asked.number("limit", 5, 10).unwrap(), 3);
        assert!(asked.flag("forget").unwrap());
        asked.nothing_else("").unwrap();
        assert!(
            query("bakend=a").unwrap().nothing_else("backend").unwrap_err().to_string().contains("bakend")
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for wrong in ["a=%", "a=%4", "a=%zz", "a=%ff", "a=1&a=2", "a&a"] {
            assert!(query(wrong).is_err(), "{wrong}");
        }
        for wrong in ["limit=0", "limit=11", "limit=-1", "limit=x", "limit=99999999999999999999"] {
            assert!(query(wrong).unwrap().number("limit", 5, 10).is_err(), "{wrong}");
        }
        assert!(query("forget=maybe").unwrap().flag("forget").is_err());
        assert!(!query("").unwrap().flag("forget").unwrap());
    }
}
