//! Paths in JSON: a name that is no UTF-8 is shown with replacement characters, as it is to people.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

pub(crate) fn lossy_path<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    path.to_string_lossy().serialize(to)
}

pub(crate) fn lossy_paths<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
pub(crate) fn lossy_path_if_any<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
    path.as_deref().map(Path::to_string_lossy).serialize(to)
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
pub(crate) fn lossy_place<S: Serializer>(place: &Option<(PathBuf, u64)>, to: S) -> Result<S::Ok, S::Error> {
    place.as_ref().map(|(path, offset)| (path.to_string_lossy(), offset)).serialize(to)
}

#[expect(clippy::ref_option, reason = "the signature that serde asks for")]
pub(crate) fn lossy_cut<S: Serializer>(
    cut: &Option<(PathBuf, u64, u64, u64)>,
    to: S,
) -> Result<S::Ok, S::Error> {
    cut.as_ref()
        .map(|(path, offset, bytes, frames)| (path.to_string_lossy(), offset, bytes, frames))
        .serialize(to)
}
