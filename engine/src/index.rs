//! The vector index of a segment as bytes: a segment stores both parts and gives them back without looking inside.

/// A vector index, ready to be stored in the file of its segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexBytes {
    /// What a search reads first, whole: the body of the section HEAD.
    pub(crate) head: Vec<u8>,
    /// What it reads ranges of: the body of the section CODES.
    pub(crate) codes: Vec<u8>,
}
