//! The typed classes of failures, and what can be asked of a store.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a failed call is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Did not arrive, or the server had a bad moment.
    Transient,
    /// The server asks for less.
    Throttle,
    /// No answer within the deadline; the call can be repeated as it is.
    Timeout,
    /// No usable answer to a call that may not simply be repeated: look first.
    Ambiguous,
    /// A condition was not met; for a create, look whose object is there.
    Conflict,
    /// Repeating cannot help.
    Permanent,
    /// Credentials or rights.
    Auth,
    /// The object (or its bucket) is not there.
    NotFound,
    /// Our own file could not be read or failed its checksum.
    Local,
    /// The breaker is open: nothing was asked of the backend.
    Refused,
}

/// What was asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Bytes of an object.
    Get,
    /// An object's size and date.
    Head,
    /// Names under a prefix.
    List,
    /// Store, replacing what was there.
    Put,
    /// Store unless something is there.
    Create,
    /// One part of a multipart upload, or its start.
    Part,
    /// The end of a multipart upload.
    Complete,
    /// Remove.
    Delete,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Put => "put",
            Self::Create => "conditional put",
            Self::Part => "multipart put",
            Self::Complete => "multipart completion",
            Self::Delete => "delete",
        })
    }
}

impl Op {
    /// Whether a lost answer leaves open what a repetition would do.
    #[must_use]
    pub fn is_ambiguous_without_answer(self) -> bool {
        matches!(self, Self::Create | Self::Complete)
    }

    /// The class of a call without an answer, which is `otherwise` where repeating is the same.
    pub(crate) fn unanswered(self, otherwise: Class) -> Class {
        if self.is_ambiguous_without_answer() { Class::Ambiguous } else { otherwise }
    }

    /// A completion that was applied, and whose answer was lost, meets "no such upload" when repeated.
    pub(crate) fn not_found(self) -> Class {
        if self == Self::Complete { Class::Ambiguous } else { Class::NotFound }
    }
}
