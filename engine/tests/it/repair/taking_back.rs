//! A file is taken back from a backend.

use std::path::Path;
use std::sync::Arc;

use akidb::{BackendSettings, ErrorKind};
use akidb_host::Fs;

use super::{assert_reads, drop_on, filled, home, newest, open, rot_vector, segment, without_lost};

#[test]
fn a_file_taken_back_after_it_was_given_up_brings_no_row_back_and_says_so() {
    let copy = tempfile::tempdir().unwrap();
    let url = format!("file://{}", copy.path().display());
    let (disk, model) = filled(12, Some(&url));
    let (left, _) = without_lost(&model);
    let backend = BackendSettings::new("copy", &url).unwrap();
    let file = segment(&disk);
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let back =
        |dry_run| akidb::repair_segment_from_on(Arc::clone(&fs), &backend, &file, dry_run).unwrap().done;
    assert!(!back(true).contains("no row"), "it is live");
    rot_vector(&disk, &file);
    let last = newest(&disk).number;
    let looked = akidb::repair_segment_drop_on(Arc::clone(&fs), &file, true).unwrap();
    let done = drop_on(Arc::clone(&fs), &file).unwrap();
    assert!(looked.done.contains("this is final") && done.done.contains("this is final"), "{done:?}");
    let said = format!("; only manifest {last} and older name it: no row of the database comes back");
    for dry_run in [true, false] {
        assert!(back(dry_run).ends_with(&said), "{}", back(dry_run));
    }
    assert_eq!(
        akidb::verify_on(Arc::clone(&fs), "/db").unwrap().set_aside.len(),
        0,
        "older manifests are whole"
    );
    assert_reads(&disk, &left, "taken back too late");
}

#[test]
fn a_file_is_taken_back_only_if_the_backend_has_the_right_one() {
    let copy = tempfile::tempdir().unwrap();
    let url = format!("file://{}", copy.path().display());
    let (disk, model) = filled(7, Some(&url));
    let fs: Arc<dyn Fs> = Arc::new(disk.clone());
    let backend = BackendSettings::new("copy", &url).unwrap();
    let back = |file: &Path| akidb::repair_segment_from_on(Arc::clone(&fs), &backend, file, false);
    let (file, dir) = (segment(&disk), home(&disk));
    let object = copy.path().join(file.strip_prefix("/db").unwrap());
    let vectors = disk.list(&dir.join("dv")).unwrap();
    let vector = dir.join("dv").join(&vectors.last().expect("a deletion vector is a file").name);

    // Missing, both of them.
    disk.unlink(&file).unwrap();
    disk.unlink(&vector).unwrap();
    let shut = open(Arc::clone(&fs), None).unwrap_err();
    assert!(shut.help().unwrap().contains("akidb repair segment"), "{shut:?}");
    let refused = drop_on(Arc::clone(&fs), &vector).unwrap_err();
    assert_eq!(refused.code(), "AKI-0287", "dead rows would live again: {refused}");
    let elsewhere = back(Path::new("/db/x.parquet")).unwrap_err();
    assert_eq!(elsewhere.code(), "AKI-0284", "{elsewhere}");
    let unknown = back(&file.with_file_name("00000009-00000009-00000009.parquet")).unwrap_err();
    assert_eq!((unknown.kind(), unknown.code()), (ErrorKind::NotFound, "AKI-0285"), "{unknown}");

    let right = std::fs::read(&object).unwrap();
    let mut wrong = right.clone();
    wrong[5_000] ^= 1;
    std::fs::write(&object, wrong).unwrap();
    let error = back(&file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.help().unwrap().contains("--drop"), "{error:?}");
    assert!(disk.metadata(&file).is_err(), "nothing wrong gets the name");
    std::fs::remove_file(&object).unwrap();
    assert_eq!(back(&file).unwrap_err().kind(), ErrorKind::NotFound);
    std::fs::write(&object, right).unwrap();

    let looked = akidb::repair_segment_from_on(Arc::clone(&fs), &backend, &file, true).unwrap();
    assert!(looked.dry_run && disk.metadata(&file).is_err());
    back(&file).unwrap();
    back(&vector).unwrap();
    assert_eq!(akidb::verify_on(Arc::clone(&fs), "/db").unwrap().damages.len(), 0);
    assert_reads(&disk, &model, "taken back");
}
