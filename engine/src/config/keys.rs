//! The table of every key, where a key stands in a text, and which key a slip was meant to be.

use std::ops::Range;

use serde_json::to_string as quoted;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Every table and its keys. docs/operations/settings.md explains each; a test compares the two.
pub(super) const TABLES: [(&str, &[&str]); 6] = [
    ("", &["storage", "backends", "engine"]),
    (
        "storage",
        &[
            "tiering_policy",
            "cache_size_mb",
            "s3_endpoint",
            "s3_bucket",
            "s3_region",
            "s3_access_key",
            "s3_secret_key",
            "circuit_breaker_enabled",
            "circuit_breaker_config",
            "dlq_config",
        ],
    ),
    (
        "storage.circuit_breaker_config",
        &[
            "failure_threshold",
            "window_duration_secs",
            "cooldown_duration_secs",
            "half_open_successes",
            "minimum_calls",
            "half_open_max_in_flight",
            "half_open_max_duration_secs",
            "slow_call_duration_secs",
            "slow_call_threshold",
            "cooldown_multiplier",
            "cooldown_max_secs",
            "cooldown_jitter",
            "honor_retry_after",
            "adaptive",
        ],
    ),
    (
        "storage.dlq_config",
        &["max_size", "ttl_seconds", "persistence_path", "cleanup_interval_seconds", "overflow", "compress"],
    ),
    (
        "backends",
        &[
            "name",
            "kind",
            "url",
            "endpoint",
            "region",
            "access_key",
            "secret_key",
            "allow_http",
            "required",
            "single_writer_unchecked",
        ],
    ),
    (
        "engine",
        &[
            "durability",
            "memtable_bytes",
            "memory_bytes",
            "filter_cache_bytes",
            "page_cache_bytes",
            "max_sealed_memtables",
            "compaction",
            "max_small_segments",
            "rest_after_secs",
            "ttl_purge_secs",
            "ttl_erase_hours",
            "wal_max_bytes",
            "wal_flush_bytes",
            "write_stall_timeout_ms",
            "min_free_disk_bytes",
            "manifest_keep",
            "manifest_keep_hours",
            "snapshot_max_age_secs",
            "idempotency_window_secs",
            "max_idempotency_keys",
            "remote_commit_interval_ms",
            "upload_attempts",
            "max_pending_bytes",
        ],
    ),
];

/// Keys whose values are never repeated in a message.
pub(super) fn is_secret(key: &str) -> bool {
    ["access_key", "secret_key"].iter().any(|secret| key.ends_with(secret))
}

/// One key of a text: its path (`backends[1].url`), its table's path in [`TABLES`], and both places.
pub(super) struct Found<'a> {
    pub(super) path: String,
    pub(super) table: String,
    pub(super) name: &'a str,
    pub(super) key_span: Range<usize>,
    pub(super) value_span: Range<usize>,
    /// TOML's word for the value's type.
    pub(super) kind: &'static str,
}

/// Every key of a text, tables first, in the order of the text.
pub(super) fn all<'a>(root: &'a DeTable<'_>) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    walk(root, "", "", &mut found);
    found.sort_by_key(|f| (f.key_span.start, f.path.len()));
    found
}

fn walk<'a>(table: &'a DeTable<'_>, shown: &str, known: &str, found: &mut Vec<Found<'a>>) {
    for (name, value) in table {
        let join = |to: &str| {
            if to.is_empty() { name.get_ref().to_string() } else { format!("{to}.{}", name.get_ref()) }
        };
        let (path, inner) = (join(shown), join(known));
        descend(value, &path, &inner, found);
        found.push(Found {
            path,
            table: known.to_owned(),
            name: name.get_ref().as_ref(),
            key_span: name.span(),
            value_span: value.span(),
            kind: value.get_ref().type_str(),
        });
    }
}

fn descend<'a>(value: &'a Spanned<DeValue<'_>>, path: &str, known: &str, found: &mut Vec<Found<'a>>) {
    match value.get_ref() {
        DeValue::Table(table) => walk(table, path, known, found),
        DeValue::Array(array) => {
            for (at, item) in array.iter().enumerate() {
                if let DeValue::Table(table) = item.get_ref() {
                    walk(table, &format!("{path}[{at}]"), known, found);
                }
            }
        }
        _ => {}
    }
}

/// The keys of a table; `None` if there is no such table.
fn keys_of(table: &str) -> Option<&'static [&'static str]> {
    TABLES.iter().find(|(name, _)| *name == table).map(|(_, keys)| *keys)
}

/// The first key that does not exist, and what to say about it.
pub(super) fn unknown<'a, 'f>(found: &'f [Found<'a>]) -> Option<(&'f Found<'a>, String)> {
    // A key inside a table that does not exist is not reported: its table is.
    let stray = found.iter().find(|f| keys_of(&f.table).is_some_and(|keys| !keys.contains(&f.name)))?;
    let keys = keys_of(&stray.table)?;
    let hint = match meant(stray.name, &stray.table, keys) {
        Some(key) => format!("did you mean {}?", quoted(&key).unwrap_or(key)),
        None => format!("valid here: {}", keys.join(", ")),
    };
    Some((stray, format!("unknown key \"{}\"; {hint}", stray.path)))
}

/// The first value that stands where a table (or, for backends, an array of tables) must stand, and what to say.
pub(super) fn no_table<'a, 'f>(found: &'f [Found<'a>]) -> Option<(&'f Found<'a>, String)> {
    found.iter().find_map(|f| {
        let path = if f.table.is_empty() { f.name.to_owned() } else { format!("{}.{}", f.table, f.name) };
        keys_of(&path)?;
        let (kind, shape) =
            if path == "backends" { ("array", "[[backends]] tables") } else { ("table", "a table") };
        (f.kind != kind)
            .then(|| (f, format!("{}: expected {shape}, found a value of type {}", f.path, f.kind)))
    })
}

/// The key a slip was meant to be: one spelled alike in the same table, else the same word in another table.
fn meant(name: &str, table: &str, keys: &[&str]) -> Option<String> {
    let near = |key: &&str| strsim::jaro_winkler(&name.to_lowercase(), key);
    let best = keys.iter().max_by(|a, b| near(a).total_cmp(&near(b)));
    if let Some(key) = best.filter(|key| near(key) >= 0.85) {
        return Some((*key).to_owned());
    }
    let elsewhere = TABLES.iter().filter(|(other, _)| *other != table);
    elsewhere
        .flat_map(|(other, keys)| keys.iter().map(move |key| (*other, *key)))
        .find(|(_, key)| *key == name)
        .map(|(other, key)| if other.is_empty() { key.to_owned() } else { format!("{other}.{key}") })
}

/// The line, from 1, of a byte of the text.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1
}
