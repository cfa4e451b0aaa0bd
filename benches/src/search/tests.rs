//! Whole runs on small sources.

use std::fs;
use std::path::Path;

use super::*;

fn no_parquet(path: &Path) -> Result<Box<dyn RowsFile>, SearchError> {
    Err(SearchError::input(path, "no reader here"))
}

fn find(dir: &Path) -> Result<SearchSource, SearchError> {
    SearchSource::find(dir, &no_parquet)
}

fn plan(dir: &Path) -> SearchBench {
    SearchBench {
        dir: dir.to_path_buf(),
        rows: None,
        k: 10,
        queries: 5,
        metric: Metric::L2,
        one_segment: true,
        filter: None,
        usual_filters: false,
        threads: 1,
        rounds: 1,
    }
}

/// `rows` rows on a line, as `.fvecs`.
fn fvecs(path: &Path, rows: u16) {
    let row = |n: u16| [2_i32.to_le_bytes(), f32::from(n).to_le_bytes(), 1_f32.to_le_bytes()].concat();
    fs::write(path, (0..rows).flat_map(row).collect::<Vec<u8>>()).unwrap();
}

#[test]
fn a_run_holds_rows_out_and_cleans_up() {
    let (source, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fvecs(&source.path().join("small_base.fvecs"), 60);
    let line = |n: usize| format!("{{\"id\": {n}, \"lsn\": 1, \"bucket\": {}, \"n\": {n}}}\n", n % 100);
    let payload: String = (0..60).map(line).collect();
    let packed = zstd::stream::encode_all(payload.as_bytes(), 1).unwrap();
    fs::write(source.path().join("payload.jsonl.zst"), packed).unwrap();
    let found = find(source.path()).unwrap();
    assert_eq!(found.queries(9).unwrap()[0], [54.0, 1.0], "the last tenth is held out");
    let asked = SearchBench { filter: Some("n >= 20".into()), usual_filters: true, ..plan(work.path()) };
    let report = bench_search(&asked, &found).unwrap();
    let figures = &report.figures;
    assert_eq!((figures.rows, figures.dim, figures.segments, figures.queries), (54, 2, 1, 5));
    assert_eq!((figures.filter.as_deref(), figures.recall_at_default_effort), (Some("n >= 20"), 1.0));
    let exact: Vec<&CurvePoint> = report.curves.iter().filter(|p| p.effort == "exact").collect();
    assert_eq!(exact.len(), 5, "none, the one asked for, three on bucket: {exact:?}");
    assert!(exact.iter().all(|point| point.recall == 1.0), "{exact:?}");
    assert!(figures.cpu_qps_090.is_some() && figures.exact_filtered_cpu_qps.is_some(), "{figures:?}");
    assert!(figures.file_bytes > 54 * 8 && figures.file_bytes_over_raw > 1.0, "{figures:?}");
    assert_eq!(figures.file_bytes, figures.parts.values().sum::<u64>());
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0, "everything is removed");
    let page =
        fs::read_to_string(report.write_page(&work.path().join("page"), "a <machine>").unwrap()).unwrap();
    assert!(page.contains("<svg") && page.contains("bucket &lt; 10") && page.contains("a &lt;machine&gt;"));
    assert!(!page.contains("http") || !page.contains("src="), "it loads nothing");
}

#[test]
fn several_threads_and_the_first_rows_only() {
    let (source, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fvecs(&source.path().join("base.fvecs"), 50);
    fvecs(&source.path().join("query.fvecs"), 3);
    let asked =
        SearchBench { rows: Some(20), threads: 2, rounds: 2, one_segment: false, ..plan(work.path()) };
    let report = bench_search(&asked, &find(source.path()).unwrap()).unwrap();
    assert_eq!((report.figures.rows, report.figures.queries, report.figures.threads), (20, 3, 2));
    assert!(report.figures.exact_filtered_cpu_qps.is_none() && report.figures.wall_qps_099.is_some());
}

#[test]
fn a_source_that_is_no_good_is_named() {
    let (dir, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let refusal =
        |dir: &Path| find(dir).and_then(|s| bench_search(&plan(work.path()), &s)).unwrap_err().to_string();
    assert!(refusal(dir.path()).contains("there is no base*.npy"));
    assert!(refusal(&dir.path().join("nothing")).contains("listing the directory"));
    fs::write(dir.path().join("base.fvecs"), [9]).unwrap();
    assert!(refusal(dir.path()).contains("ends inside the dimension"));
    fvecs(&dir.path().join("base.fvecs"), 40);
    fs::write(dir.path().join("payload.jsonl"), "{\"n\": 1}\n[]\n").unwrap();
    assert!(refusal(dir.path()).contains("payload.jsonl: line 2 is no JSON object"));
    fs::write(dir.path().join("payload.jsonl"), "{}\n{}\n").unwrap();
    assert!(refusal(dir.path()).contains("it has no line 3"));
    fs::remove_file(dir.path().join("payload.jsonl")).unwrap();
    let bad = SearchBench { filter: Some("n <".into()), ..plan(work.path()) };
    assert!(bench_search(&bad, &find(dir.path()).unwrap()).is_err());
    let none = SearchBench { queries: 0, ..plan(work.path()) };
    assert!(matches!(bench_search(&none, &find(dir.path()).unwrap()), Err(SearchError::Plan(_))));
    fvecs(&dir.path().join("base2.fvecs"), 40);
    assert!(refusal(dir.path()).contains("base.fvecs and base2.fvecs both are"));
    fs::remove_file(dir.path().join("base2.fvecs")).unwrap();
    fs::rename(dir.path().join("base.fvecs"), dir.path().join("rows.parquet")).unwrap();
    assert!(refusal(dir.path()).contains("no reader here"));
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 0, "everything is removed");
}
