//! Settings files as people write them: right, mistyped, contradictory, and ahead of what is built.

use std::path::Path;

use super::keys::TABLES;
use super::*;
use crate::error::ErrorKind;

const GUIDE: &str = include_str!("../../../docs/operations/settings.md");

#[track_caller]
fn refused(text: &str, code: &str, parts: &[&str]) -> Error {
    let e = Settings::from_toml(text).expect_err("it was accepted");
    assert_eq!((e.kind(), e.code()), (ErrorKind::Invalid, code), "{e}");
    for part in parts {
        assert!(e.message().contains(part), "{part:?} is not in: {e}");
    }
    e
}

fn accepted(text: &str) -> Settings {
    Settings::from_toml(text).unwrap_or_else(|e| panic!("{e}"))
}

/// The keys of the earlier system, with its values.
const SEED: &str = r#"
[storage]
tiering_policy = "mirror"
s3_endpoint = "http://localhost:9000"
s3_bucket = "akidb"
s3_region = "us-east-1"
s3_access_key = "AKIDEXAMPLE"
s3_secret_key = "wJalrXUtnFEMI"
circuit_breaker_enabled = true

[storage.circuit_breaker_config]
failure_threshold = 0.5
window_duration_secs = 60
cooldown_duration_secs = 300
half_open_successes = 10

[storage.dlq_config]
max_size = 10000
ttl_seconds = 604800
persistence_path = "/data/dlq/dlq.json"
cleanup_interval_seconds = 3600
"#;

#[test]
fn the_earlier_systems_file_is_read_and_says_what_has_no_effect_yet() {
    let s = accepted(SEED);
    assert_eq!((s.tiering, s.backends.len()), (Tiering::Mirror, 1));
    let b = &s.backends[0];
    assert_eq!((b.name.as_str(), b.kind, b.url.as_str()), ("s3", BackendKind::S3, "s3://akidb"));
    assert_eq!(b.endpoint.as_deref(), Some("http://localhost:9000"));
    assert!(b.allow_http, "an endpoint that says http:// is the short form's permission");
    assert_eq!(b.secret_key.as_ref().map(Secret::reveal), Some("wJalrXUtnFEMI"));
    assert!(s.without_effect.is_empty() && s.circuit_breaker_enabled && b.required);
    assert_eq!((s.dlq_config.max_size, s.dlq_config.ttl_seconds), (10_000, 604_800));
    assert_eq!(s.dlq_config.persistence_path.as_deref(), Some(Path::new("/data/dlq/dlq.json")));
    s.check().unwrap();
}

#[test]
fn what_is_not_built_is_refused_by_name_and_line() {
    refused(
        "[storage]\ncache_size_mb = 512",
        "AKI-0404",
        &["line 2", "storage.cache_size_mb", "later version"],
    );
    refused("[storage]\ntiering_policy = \"cache\"", "AKI-0404", &["line 2", "tiering_policy", "mirror"]);
    refused("[storage]\ntiering_policy = \"backend_only\"", "AKI-0404", &["backend_only"]);
}

#[test]
fn dead_letters_have_settings_and_a_backend_may_be_one_that_nobody_waits_for() {
    let s = accepted(
        "[storage.dlq_config]\nmax_size = 7\noverflow = \"reject\"\npersistence_path = \"/a/b.json\"\ncompress = true",
    );
    assert!(s.dlq_config.compress);
    assert_eq!((s.dlq_config.max_size, s.dlq_config.overflow), (7, akidb_backends::Overflow::Reject));
    assert_eq!(accepted(&s.to_string()), s);
    refused("[storage.dlq_config]\nmax_size = 0", "AKI-0405", &["line 2", "storage.dlq_config.max_size"]);
    refused("[storage.dlq_config]\nmax_size = \"x\"", "AKI-0403", &["line 2", "storage.dlq_config.max_size"]);
    let two = "[[backends]]\nname = \"a\"\nurl = \"file:///a\"\n\
               [[backends]]\nname = \"b\"\nurl = \"file:///b\"\nrequired = false\n\
               single_writer_unchecked = true\n\
               [engine]\nmax_pending_bytes = \"2 GiB\"";
    let s = accepted(two);
    assert_eq!((s.backends[0].required, s.backends[1].required), (true, false));
    let unchecked = s.backends.iter().map(|b| crate::upload::backend_config(b, 1).single_writer_unchecked);
    assert_eq!(unchecked.collect::<Vec<_>>(), [false, true]);
    assert_eq!(s.engine.max_pending_bytes, Some(2 << 30));
    assert_eq!(accepted(&s.to_string()), s);
    refused("[engine]\nmax_pending_bytes = 1", "AKI-0405", &["line 2", "engine.max_pending_bytes"]);
}

#[test]
fn the_breakers_settings_have_an_effect_and_are_checked() {
    let s = accepted("[storage]\ncircuit_breaker_enabled = false");
    assert!(!s.circuit_breaker_enabled && s.without_effect.is_empty());
    let s = accepted("[storage.circuit_breaker_config]\nfailure_threshold = 0.7\ncooldown_duration_secs = 5");
    let b = &s.circuit_breaker_config;
    assert_eq!((b.failure_threshold, b.cooldown_duration_secs, b.window_duration_secs), (0.7, 5, 60));
    assert_eq!(accepted(&s.to_string()), s);
    for (value, why) in
        [("failure_threshold = 1.5", "1.5 is not 0 to 1"), ("half_open_successes = 0", "1 to 255")]
    {
        let key = format!("storage.circuit_breaker_config.{}", value.split(' ').next().unwrap());
        let text = format!("[storage.circuit_breaker_config]\n{value}");
        refused(&text, "AKI-0405", &["line 2", &key, why]);
    }
}

#[test]
fn an_empty_file_is_the_defaults_and_the_defaults_hold() {
    let s = accepted("");
    assert_eq!(s, Settings::default());
    assert_eq!(s.tiering, Tiering::Local);
    s.check().unwrap();
    assert_eq!(s.engine.min_free_disk(10 << 30), (10 << 30) / 20);
    assert_eq!(s.engine.min_free_disk(1 << 40), 1 << 30);
}

#[test]
fn an_unknown_key_is_named_with_path_line_and_a_guess() {
    refused(
        "[engine]\n\nmemtable_byte = 1",
        "AKI-0402",
        &["line 3", "engine.memtable_byte", "\"memtable_bytes\""],
    );
    refused("[storag]\nx = 1", "AKI-0402", &["line 1", "\"storag\"", "\"storage\""]);
    refused("[storage]\nmax_size = 1", "AKI-0402", &["storage.dlq_config.max_size"]);
    refused("[storage.dlq_config]\nzzz = 1", "AKI-0402", &["storage.dlq_config.zzz", "valid here: max_size"]);
    let second = "[[backends]]\nname = \"a\"\nurl = \"file:///b\"\n[[backends]]\nendpiont = \"x\"";
    refused(second, "AKI-0402", &["line 5", "backends[1].endpiont", "\"endpoint\""]);
    let first = "[engine]\nzeta = 1\n[[backends]]\nalpha = 1";
    refused(first, "AKI-0402", &["line 2", "engine.zeta"]);
    refused("wal_max_bytes = 1", "AKI-0402", &["line 1", "engine.wal_max_bytes"]);
}

#[test]
fn a_wrong_type_is_named_with_path_and_line() {
    refused("[engine]\nmanifest_keep = \"many\"", "AKI-0403", &["line 2", "engine.manifest_keep", "many"]);
    refused("[engine]\nmanifest_keep = -1", "AKI-0403", &["line 2", "engine.manifest_keep"]);
    refused(
        "[engine]\nmemtable_bytes = \"a lot\"",
        "AKI-0403",
        &["line 2", "engine.memtable_bytes", "32 MiB"],
    );
    refused("[engine]\nmemtable_bytes = -5", "AKI-0403", &["engine.memtable_bytes"]);
    refused("[engine]\nmemtable_bytes = true", "AKI-0403", &["engine.memtable_bytes"]);
    refused("storage = 3", "AKI-0403", &["line 1", "storage: expected a table", "integer"]);
    refused("\n[backends]\nname = \"a\"", "AKI-0403", &["line 2", "[[backends]]"]);
    refused("[storage]\ncircuit_breaker_config = [0.5]", "AKI-0403", &["line 2", "expected a table"]);
    refused("[[backends]]\nname = \"a\"", "AKI-0403", &["line 1", "url"]);
    refused("[storage.circuit_breaker_config]\nfailure_threshold = \"half\"", "AKI-0403", &["line 2"]);
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    refused("[engine]\nmemtable_bytes = = 3", "AKI-0401", &["line 2"]);
    refused("[engine]\nupload_attempts = 3\nupload_attempts = 4", "AKI-0401", &["line 3"]);
}

#[test]
fn sizes_are_numbers_or_words() {
    let of = |value: &str| accepted(&format!("[engine]\nmemtable_bytes = {value}")).engine.memtable_bytes;
    assert_eq!(of("65536"), 65_536);
    assert_eq!(of("\"32 MiB\""), 32 << 20);
    assert_eq!(of("\"1.5MiB\""), 3 << 19);
    assert_eq!(of("\"32 MB\""), 32_000_000);
    let free = accepted("[engine]\nmin_free_disk_bytes = 0").engine;
    assert_eq!(free.min_free_disk(1 << 40), 0);
}

#[test]
fn values_out_of_range_or_against_each_other_are_refused() {
    refused("[engine]\nmemtable_bytes = 1000", "AKI-0405", &["line 2", "65536 to 1073741824"]);
    refused(
        "[engine]\nwal_max_bytes = \"64 MiB\"",
        "AKI-0405",
        &["line 2", "engine.wal_max_bytes", "at least"],
    );
    refused("[engine]\nupload_attempts = 0", "AKI-0405", &["engine.upload_attempts"]);
    refused("[storage]\ntiering_policy = \"mirror\"", "AKI-0405", &["line 2", "needs a backend"]);
    let local = "[[backends]]\nname = \"a\"\nurl = \"file:///b\"\n[storage]\ntiering_policy = \"local\"";
    refused(local, "AKI-0405", &["line 5", "keeps no copies"]);
    refused("[storage]\ntiering_policy = \"locl\"", "AKI-0405", &["none of"]);
    refused("[storage]\n\ns3_region = \"x\"", "AKI-0405", &["line 3", "s3_bucket must be given"]);
    refused(
        "[storage]\ns3_bucket = \"abc\"\ns3_access_key = \"k\"",
        "AKI-0405",
        &["s3_secret_key", "come together"],
    );
    refused("[storage]\ns3_bucket = \"abc/prefix\"", "AKI-0405", &["line 2", "[[backends]]"]);
    let mut made = Settings::default();
    made.engine.manifest_keep = 0;
    assert_eq!(made.check().unwrap_err().code(), "AKI-0405");
}

#[test]
fn a_backend_is_a_directory_or_a_bucket_and_minio_is_s3() {
    let one = |rest: &str| format!("[[backends]]\nname = \"b\"\n{rest}");
    let s = accepted(&one("url = \"file:///var/copies\""));
    assert_eq!((s.tiering, s.backends[0].kind), (Tiering::Mirror, BackendKind::Local));
    for rest in
        ["url = \"minio://bucket/some/prefix/\"", "kind = \"minio\"\nurl = \"s3://bucket/some/prefix\""]
    {
        let s = accepted(&one(rest));
        assert_eq!(
            (s.backends[0].kind, s.backends[0].url.as_str()),
            (BackendKind::S3, "s3://bucket/some/prefix")
        );
    }
    let clear = "url = \"s3://bucket\"\nendpoint = \"http://127.0.0.1:9000\"";
    refused(&one(clear), "AKI-0405", &["line 4", "backends[0].endpoint", "allow_http = true"]);
    accepted(&one(&format!("{clear}\nallow_http = true")));
    refused(&one("url = \"/var/copies\""), "AKI-0405", &["line 3", "did you mean \"file:///var/copies\""]);
    for bad in ["file://var", "file:///a/../b", "s3://", "s3://UP", "s3://ab", "s3://bucket/a/../b", "gs://x"]
    {
        refused(&one(&format!("url = \"{bad}\"")), "AKI-0405", &["line 3", "backends[0].url"]);
    }
    refused(&one("kind = \"local\"\nurl = \"s3://bucket\""), "AKI-0405", &["line 3", "does not fit"]);
    refused(&one("kind = \"gcs\"\nurl = \"s3://bucket\""), "AKI-0405", &["minio"]);
    refused(
        &one("url = \"file:///b\"\nregion = \"x\""),
        "AKI-0405",
        &["backends[0].region", "no such setting"],
    );
    let twice = format!("{0}\n{0}", one("url = \"file:///b\""));
    refused(&twice, "AKI-0405", &["line 5", "backends[1].name", "two backends"]);
    for name in ["", "../x", "A", "-a", "a b"] {
        let text = format!("[[backends]]\nname = \"{name}\"\nurl = \"file:///b\"");
        refused(&text, "AKI-0405", &["line 2", "is not a name"]);
    }
    let clash = "[storage]\ns3_bucket = \"abc\"\n[[backends]]\nname = \"s3\"\nurl = \"file:///b\"";
    refused(clash, "AKI-0405", &["line 2", "storage.s3_bucket"]);
    assert!(BackendSettings::new("x", "ftp://y").is_err());
}

#[test]
fn a_secret_shows_in_no_print_and_no_error() {
    let s = accepted(SEED);
    for shown in [format!("{s:?}"), s.to_string(), format!("{:#?}", s.backends)] {
        assert!(!shown.contains("AKIDEXAMPLE") && !shown.contains("wJalrXUtnFEMI"), "{shown}");
        assert!(shown.contains("***"));
    }
    for text in [
        "[storage]\ns3_secret_key = 77665544",
        "[storage]\ns3_secret_key = [\"77665544\"]",
        "[storage]\ns3_secret_key = 77665544 \"x",
        "[storage]\ns3_secret_key = \"77665544",
        "[storage]\ns3_bucket = \"77665544:secret@bucket\"",
        "[[backends]]\nname = \"b\"\nurl = \"s3://77665544:x@bucket/p\"",
        "[[backends]]\nname = \"b\"\nurl = \"s3://bucket\"\nendpoint = \"https://77665544:x@host\"",
        "[[backends]]\nname = \"b\"\nurl = \"s3://bucket\"\nsecret_key = {a = 77665544}",
        "[storage]\ns3_secret_key = \"77665544\"",
    ] {
        let e = Settings::from_toml(text).unwrap_err();
        assert!(!format!("{e} {e:?}").contains("77665544"), "{e}");
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same_settings() {
    let text = "[engine]\nmemtable_bytes = \"8 MiB\"\nmin_free_disk_bytes = \"1 GiB\"\n[[backends]]\n\
                name = \"b\"\nurl = \"file:///copies/\\\"quoted\\\" \\\\ é\"";
    let s = accepted(text);
    assert_eq!(accepted(&s.to_string()), s);
}

#[test]
fn a_file_that_cannot_be_read_and_one_that_is_wrong_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("akidb.toml");
    let e = Settings::from_file(&path).unwrap_err();
    assert_eq!((e.kind(), e.code(), e.file()), (ErrorKind::NotFound, "AKI-0407", Some(path.as_path())));
    std::fs::write(&path, "[engine]\nuplod_attempts = 1").unwrap();
    let e = Settings::from_file(&path).unwrap_err();
    assert_eq!((e.code(), e.file(), e.offset()), ("AKI-0402", Some(path.as_path()), Some(9)));
    std::fs::write(&path, [b'#', 0xff]).unwrap();
    assert_eq!(Settings::from_file(&path).unwrap_err().code(), "AKI-0407");
}

#[test]
fn the_guide_explains_every_key_and_every_example_in_it_is_accepted() {
    for (table, keys) in TABLES {
        for key in keys.iter().filter(|_| !table.is_empty()) {
            assert!(
                GUIDE.contains(&format!("| `{key}` |")),
                "docs/operations/settings.md lacks {table}.{key}"
            );
        }
    }
    let examples: Vec<&str> =
        GUIDE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 2);
    for example in examples {
        accepted(example);
    }
}

#[test]
fn every_key_of_the_table_is_one_the_reader_knows() {
    // A key the table lists and the reader does not know would fail on its name, not on its type.
    for (table, keys) in TABLES.iter().filter(|(table, _)| !table.is_empty()) {
        for key in *keys {
            let head = if *table == "backends" { "[[backends]]" } else { &format!("[{table}]") };
            let text = format!("{head}\n{key} = 1979-05-27");
            let e = Settings::from_toml(&text).unwrap_err();
            assert_eq!(e.code(), "AKI-0403", "{table}.{key}: {e}");
            assert!(!e.message().contains("unknown field"), "{e}");
        }
    }
}
