//! `akidb bench`: every figure that scripts rely on is there. What the figures are is no test's business.

use std::path::Path;

use crate::support::{Place, keys};

#[test]
fn the_log_s_figures_are_one_object() {
    let place = Place::new();
    let dir = place.path("disk");
    std::fs::create_dir(&dir).unwrap();
    let found = place.json(&["bench", "wal", "--seconds", "0.2", "--dir", dir.to_str().unwrap()]);
    let figures = found.last().unwrap();
    assert_eq!(
        keys(figures),
        "ack_p50_us ack_p99_us batch_16 device_kib_per_ack floor_p50_us floor_p99_us load memory_per_sec \
         memory_sustained_per_sec ratio_1 ratio_16 ratio_16_sim300us ratio_256_async ratio_64 reopen_64mib_ms \
         replay_gb_per_sec rotation_p999_ratio rounds scheduling seconds syncs_per_ack_1 write_path"
    );
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "everything is removed");
}

#[test]
fn the_upserts_figures_are_one_object() {
    let place = Place::new();
    let dir = place.path("disk");
    std::fs::create_dir(&dir).unwrap();
    let args = ["bench", "upsert", "--seconds", "0.1", "--dir", dir.to_str().unwrap()];
    let found = place.json(&args);
    assert_eq!(
        keys(&found[0]),
        "floor_p50_us floor_p99_us floor_per_sec load ratio record_bytes scheduling upsert_p50_us upsert_p99_us \
         upserts upserts_per_sec"
    );
    let text = place.ok(&args);
    assert!(text.contains("of the floor's rate") && text.contains("scheduling: "), "{text}");
    place.fails(2, &["bench", "wal", "--dir", place.path("nothing").to_str().unwrap()]);
    place.fails(2, &["bench", "wal", "--write-path", "magic"]);
}

#[test]
fn the_searches_figures_are_one_object_and_exact_search_finds_all() {
    let place = Place::new();
    let dir = place.path("disk");
    std::fs::create_dir(&dir).unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/sample/wordnet-2k");
    let page = place.path("page");
    let (sample, disk, page) = (sample.to_str().unwrap(), dir.to_str().unwrap(), page.to_str().unwrap());
    let args = ["bench", "search", "--data", sample, "--dir", disk, "--queries", "20", "--rounds", "1"];
    let found = place.json(&[&args[..], &["--report", page]].concat());
    let figures = found.last().unwrap();
    assert_eq!(
        keys(figures),
        "build_cpu_seconds build_cpu_us_per_row cpu_qps_090 cpu_qps_095 cpu_qps_099 cpu_qps_at_default_effort dim \
         exact_filtered_cpu_qps exact_scan_cpu_qps file_bytes file_bytes_over_raw filter first_search_cpu_ms \
         index_bytes_per_row ingest_cpu_seconds k load parts queries ratio_to_exact_095 ratio_to_exact_099 \
         recall_at_default_effort rounds rows rss_mib searchable_rows_per_cpu_second segments threads wall_qps_090 \
         wall_qps_095 wall_qps_099"
    );
    let (rows, dim, segments) = (&figures["rows"], &figures["dim"], &figures["segments"]);
    assert_eq!((rows.as_u64(), dim.as_u64(), segments.as_u64()), (Some(2_000), Some(384), Some(1)));
    let filters: Vec<&str> = found.iter().filter_map(|line| line["curve"]["filter"].as_str()).collect();
    assert!(
        filters.contains(&"bucket < 10") && filters.iter().any(|f| f.starts_with("lexname = ")),
        "{filters:?}"
    );
    let exact: Vec<&serde_json::Value> =
        found.iter().filter(|line| line["curve"]["effort"] == "exact").collect();
    assert!(!exact.is_empty() && exact.iter().all(|line| line["curve"]["recall"] == 1.0), "{exact:?}");
    let html = std::fs::read_to_string(place.path("page").join("search.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("bucket &lt; 10"), "{html}");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "everything is removed");
}

#[test]
fn a_bench_of_searches_takes_filters_and_parquet_and_names_what_is_no_good() {
    let place = Place::with_rows();
    let dir = place.path("disk");
    std::fs::create_dir(&dir).unwrap();
    let source = place.path("source");
    std::fs::create_dir(&source).unwrap();
    let args = ["bench", "search", "--data", source.to_str().unwrap(), "--dir", dir.to_str().unwrap()];
    place.fails(2, &args);
    let lines: String =
        (0..40).map(|n| format!("{{\"id\":\"r{n:02}\",\"vector\":[{n},1],\"year\":{n}}}\n")).collect();
    let lines = place.file("forty.jsonl", lines);
    place.ok(&["import", "forty", lines.to_str().unwrap(), "--create"]);
    let segments = place.files(".parquet");
    std::fs::copy(segments.last().unwrap(), source.join("rows.parquet")).unwrap();
    let with_filter = [&args[..], &["--filter", "year < 7", "--metric", "l2", "--rounds", "1"]].concat();
    let found = place.json(&with_filter);
    let figures = found.last().unwrap();
    assert_eq!(
        (figures["rows"].as_u64(), figures["queries"].as_u64()),
        (Some(36), Some(4)),
        "a tenth is held out"
    );
    assert_eq!(
        (figures["filter"].as_str(), figures["recall_at_default_effort"].as_f64()),
        (Some("year < 7"), Some(1.0))
    );
    let text = place.ok(&with_filter);
    assert!(text.contains("searches a CPU second at recall") && text.contains("year < 7"), "{text}");
    place.fails(2, &[&args[..], &["--filter", "nothing < 7"]].concat());
    std::fs::write(source.join("rows.parquet"), "PAR1").unwrap();
    let error = place.fails(2, &args);
    assert!(error.contains("cannot be read as Parquet") && error.contains("rows.parquet"), "{error}");
}

#[test]
fn a_soak_loses_nothing_in_two_kills_and_its_figures_are_one_object() {
    let place = Place::new();
    let dir = place.path("disk");
    std::fs::create_dir(&dir).unwrap();
    let dir = dir.to_str().unwrap();
    let found = place.json(&["bench", "soak", "--quick", "--seed", "7", "--dir", dir]);
    let figures = found.last().unwrap();
    assert_eq!(
        keys(figures),
        "budget_mib bytes_counted_from_mib bytes_over_raw_max bytes_over_raw_settled comparisons deletes dim \
         disk_mib_max_before disk_mib_max_by_kind disk_mib_settled_by_kind durability exact_search_p50_ms files_max \
         files_max_by_kind files_settled floor_p50_us kills length_over_raw_max length_over_raw_settled load \
         longest_opens lost_rows manifest_keep open_call_ms_max open_cpu_ms_max open_ms_max opens raw_bytes_per_row recall \
         recall_min recalls rows rss_anon_mib_max rss_anon_over_budget_mib_max rss_file_mib_max scheduling \
         search_cpu_p50_last_over_first search_cpu_p99_last_over_first search_cpu_p99_ms \
         search_p50_last_over_first search_p50_ms search_p99_first_ms search_p99_last_ms \
         search_p99_last_over_first search_p99_ms searches seconds seed settle_seconds stalls upserts \
         workload write_amplification write_max_ms write_p50_us write_p99_us wrong_rows"
    );
    let of = |key: &str| figures[key].as_u64();
    assert_eq!((of("lost_rows"), of("wrong_rows"), of("upserts")), (Some(0), Some(0), Some(20_000)));
    assert_eq!(
        (of("kills"), of("opens"), of("comparisons")),
        (Some(2), Some(4), Some(4)),
        "one after each start, and at the end"
    );
    assert!(of("rows").is_some_and(|rows| (13_000..15_000).contains(&rows)), "{figures}");
    assert!(found[0]["sample"]["files"].is_u64(), "{}", found[0]);
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "everything is removed");
}

#[test]
fn a_soak_of_deletes_on_vectors_of_one_s_own_ends_with_as_many_rows_as_it_began() {
    let place = Place::new();
    let dir = place.path("disk");
    std::fs::create_dir(&dir).unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/sample/wordnet-2k");
    let (sample, dir) = (sample.to_str().unwrap(), dir.to_str().unwrap());
    let args =
        ["bench", "soak", "--workload", "delete", "--rows", "300", "--minutes", "0.02", "--kills", "1"];
    let args = [&args[..], &["--data", sample, "--dir", dir]].concat();
    let text = place.ok(&args);
    assert!(text.contains("of 384 dimensions; 1 kills") && text.contains(": 0 lost, 0 there"), "{text}");
    place.fails(2, &[&args[..], &["--dim", "7"]].concat());
    place.fails(2, &["bench", "soak", "--quick", "--rows", "300"]);
    place.fails(2, &["bench", "soak", "--minutes", "0"]);
}
