//! What a server said when it refused: a status that object_store has no word for, read by type.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::class::{Class, Op};

/// A refusal in the chain of a store error's sources.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    retry_after: Option<Duration>,
    /// The server's own name for it, as `SlowDown`; empty if it gave none.
    code: String,
    /// The server's own name for the request.
    request_id: Option<String>,
    said: String,
    /// What the operator should look at, if that is known.
    hint: Option<String>,
}

/// Names of "not now, there is no room": with 400 or 403, as if the request or the credentials were at fault.
const QUOTA: [&str; 2] = ["XMinioAdminBucketQuotaExceeded", "QuotaExceeded"];

const SAID_LEN_BYTES: usize = 512;
/// A longer name of a request is no name.
const REQUEST_ID_LEN_BYTES: usize = 128;

impl Refusal {
    /// A refusal with this status and body.
    pub(crate) fn new(status: u16, retry_after: Option<Duration>, said: String) -> Self {
        let code = element(&said, "Code").unwrap_or_default().to_owned();
        let hint = match code.as_str() {
            "NoSuchBucket" => Some("the bucket does not exist; check `url`, or create it".to_owned()),
            code if QUOTA.contains(&code) => Some(
                "the quota of the bucket is used up; raise it or make room, and uploads resume by themselves"
                    .to_owned(),
            ),
            _ => None,
        };
        let mut said = said;
        let end = (0..=said.len().min(SAID_LEN_BYTES)).rev().find(|&at| said.is_char_boundary(at));
        said.truncate(end.unwrap_or(0));
        Self { status, retry_after, code, request_id: None, said, hint }
    }

    /// The same for the request of this name.
    pub(crate) fn of_request(mut self, name: Option<&str>) -> Self {
        let is_name = |name: &&str| {
            (1..=REQUEST_ID_LEN_BYTES).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        self.request_id = name.map(str::trim).filter(is_name).map(str::to_owned);
        self
    }

    /// The same for a request that went to the wrong region, which the server may have named.
    pub(crate) fn of_region(mut self, named: Option<&str>) -> Self {
        self.hint = Some(match named {
            Some(region) => format!("the bucket is in region '{region}'; set `region` to that"),
            None => "the bucket is in another region; set `region` and `endpoint` to its own".to_owned(),
        });
        self
    }

    /// How it is treated.
    pub(crate) fn class(&self, op: Op) -> Class {
        let open = |otherwise| if op.is_ambiguous_without_answer() { Class::Ambiguous } else { otherwise };
        if matches!(self.code.as_str(), "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") {
            return Class::Auth;
        }
        match self.code.as_str() {
            // The body stalled on its way; so it is said with 400.
            "RequestTimeout" => return open(Class::Timeout),
            // Damaged or cut off on its way, and not stored.
            "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" => {
                return Class::Transient;
            }
            // It asks for less: of nothing that is put, until there is room.
            code if QUOTA.contains(&code) => return Class::Throttle,
            _ => {}
        }
        match self.status {
            401 | 403 => Class::Auth,
            429 | 503 => Class::Throttle,
            408 => open(Class::Timeout),
            300..=499 | 501 | 505 => Class::Permanent,
            _ => open(Class::Transient),
        }
    }

    pub(crate) fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

/// Whether an error says that the bucket is not there: no retry helps, and it is not a missing object either.
pub(crate) fn is_missing_bucket(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code == "NoSuchBucket") {
            return true;
        }
        next = error.source();
    }
    false
}

/// The text of the first element of this name; enough for the flat error documents of S3.
pub(crate) fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if let Some(hint) = &self.hint {
            write!(f, ": {hint}")?;
        }
        if !self.said.is_empty() {
            write!(f, ": {}", self.said)?;
        }
        Ok(())
    }
}

impl StdError for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_is_cut_between_letters_and_its_code_is_kept() {
        let said = format!("<Error><Code>SlowDown</Code><Message>{}</Message></Error>", "é".repeat(600));
        let refusal = Refusal::new(200, None, said);
        assert_eq!(refusal.code, "SlowDown");
        assert!(refusal.to_string().len() < 600);
    }

    #[test]
    fn a_400_of_a_bad_moment_or_of_a_full_bucket_is_not_for_ever() {
        for (status, code, class) in [
            (400, "RequestTimeout", Class::Timeout),
            (400, "IncompleteBody", Class::Transient),
            (400, "BadDigest", Class::Transient),
            (400, "XAmzContentSHA256Mismatch", Class::Transient),
            (400, "XMinioAdminBucketQuotaExceeded", Class::Throttle),
            (403, "QuotaExceeded", Class::Throttle),
            (400, "EntityTooLarge", Class::Permanent),
            (400, "InvalidDigest", Class::Permanent),
        ] {
            let refusal = Refusal::new(status, None, format!("<Error><Code>{code}</Code></Error>"));
            assert_eq!(refusal.class(Op::Put), class, "{code}");
            assert_eq!(
                refusal.to_string().contains("quota of the bucket"),
                class == Class::Throttle,
                "{code}"
            );
        }
        let stalled = Refusal::new(400, None, "<Error><Code>RequestTimeout</Code></Error>".to_owned());
        assert_eq!(stalled.class(Op::Create), Class::Ambiguous);
    }

    #[test]
    fn an_expired_token_is_about_credentials_whatever_its_status() {
        let refusal = Refusal::new(400, None, "<Error><Code>ExpiredToken</Code></Error>".to_owned());
        assert_eq!(refusal.class(Op::Put), Class::Auth);
        assert_eq!(Refusal::new(400, None, String::new()).class(Op::Put), Class::Permanent);
    }
}
