//! A directory as a backend: object_store's local file system with fsync on.

mod directory;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use directory::{Directory, checked};

use crate::backend::{Backend, Kind};
use crate::class::Class;
use crate::config::BackendConfig;
use crate::error::{Error, ErrorKind, Result};

/// A directory that is to be made is made by the first call that finds it missing: one that cannot be made, on a disk that
/// is not mounted say, is a backend that is down, and none of its calls ends an open.
pub(crate) fn open(config: &BackendConfig, create: bool) -> Result<Backend> {
    let dir = directory(config)?;
    let down = |cause| {
        let message = format!("cannot use the directory {}", dir.display());
        Error::new(ErrorKind::Unavailable, Class::Transient, &config.name, message).because(cause)
    };
    if create {
        // A program may change to another directory before the first call.
        let dir = std::path::absolute(&dir).map_err(down)?;
        return Ok(Backend::assemble(config, Kind::Local, Arc::new(Directory::to_be_made(dir))));
    }
    if !dir.try_exists().map_err(down)? {
        let message = format!("nothing was published here: there is no directory {}", dir.display());
        return Err(Error::new(ErrorKind::NotFound, Class::NotFound, &config.name, message).at(&config.url));
    }
    let store = checked(&dir).map_err(down)?;
    Ok(Backend::assemble(config, Kind::Local, Arc::new(store)))
}

/// The directory that a `file://` URL names: what follows is the path as it is, with nothing in it that stands for something
/// else, so that `file://$PWD/copy` is that directory whatever `$PWD` is. `None` for any other URL.
#[must_use]
pub fn directory_of(url: &str) -> Option<&Path> {
    url.strip_prefix("file://").map(Path::new).filter(|path| path.is_absolute())
}

fn directory(config: &BackendConfig) -> Result<PathBuf> {
    if !config.url.starts_with("file://") {
        return Ok(PathBuf::from(&config.url));
    }
    let dir = directory_of(&config.url).ok_or_else(|| {
        Error::invalid(&config.name, "url: file:// needs an absolute path, as in file:///data/backup")
    })?;
    match decoded(dir) {
        // A copy must not begin anew beside the one that is there.
        Some(other) if !dir.exists() && other.exists() => Err(Error::invalid(
            &config.name,
            format!(
                "url: the path after file:// is taken as it is, and there is no {}; for the directory {} write file://{}",
                dir.display(),
                other.display(),
                other.display()
            ),
        )),
        _ => Ok(dir.to_path_buf()),
    }
}

/// What earlier versions took a path with `%20` and the like for.
fn decoded(dir: &Path) -> Option<PathBuf> {
    let text = dir.to_str().filter(|text| text.contains('%'))?;
    let url = format!("file://{}", text.replace('#', "%23").replace('?', "%3F"));
    url::Url::parse(&url).ok()?.to_file_path().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;

    #[tokio::test]
    async fn a_url_and_a_path_name_the_same_directory_and_it_is_created() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a b/c");
        let by_path = crate::open(&BackendConfig::new("l", path.to_str().unwrap())).unwrap();
        let url = format!("file://{}", path.display());
        let by_url = crate::open(&BackendConfig::new("l", url)).unwrap();
        by_path.store().put(&"k".into(), "v".into()).await.unwrap();
        let read = by_url.store().get(&"k".into()).await.unwrap().bytes().await.unwrap();
        assert_eq!(&read[..], b"v");
        assert!(crate::open(&BackendConfig::new("l", "file://host/x")).is_err());
    }

    #[tokio::test]
    async fn what_is_only_read_is_not_made() {
        let home = tempfile::tempdir().unwrap();
        let config = BackendConfig::new("l", home.path().join("slip").display().to_string());
        let error = crate::open_to_read(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        let made = crate::open(&config).unwrap();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
        made.store().put(&"k".into(), "v".into()).await.unwrap();
        crate::open_to_read(&config).unwrap();
    }

    #[tokio::test]
    async fn what_is_read_and_is_no_directory_is_a_backend_that_is_down() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, b"").unwrap();
        for place in [file.clone(), file.join("below")] {
            let error =
                crate::open_to_read(&BackendConfig::new("l", place.display().to_string())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.to_string().contains(&place.display().to_string()), "{error}");
        }
    }

    #[tokio::test]
    async fn the_path_of_a_url_is_taken_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        for name in ["copy #1", "what?", "50%", "a%20b"] {
            let dir = home.path().join(name);
            let made = crate::open(&BackendConfig::new("l", format!("file://{}", dir.display()))).unwrap();
            made.store().put(&"k".into(), "v".into()).await.unwrap();
            assert!(dir.join("k").is_file(), "{name}");
        }
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 4);
        assert_eq!(directory_of("file://relative"), None);
        assert_eq!(directory_of("s3://bucket"), None);
    }

    #[test]
    fn a_url_that_meant_another_directory_before_makes_none_beside_it() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("a b")).unwrap();
        let url = format!("file://{}/a%20b", home.path().display());
        let error = crate::open(&BackendConfig::new("l", url)).unwrap_err();
        assert!(error.to_string().contains("write file://") && error.to_string().contains("/a b"), "{error}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
