//! A file system that asks a test before each call that changes something.

/// What a hooked call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `Appender::append` or `write_parts`: a copy into the log's map.
    LogAppend,
    /// `Appender::publish`.
    LogPublish,
}
