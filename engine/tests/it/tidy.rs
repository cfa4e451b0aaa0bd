//! The one-way order of the modules: a module uses only what stands further down (or to its right).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Top to bottom. A new module goes in here first.
const ORDER: &[&[&str]] = &[
    &["builder"],
    &["db", "arrow_rows"],
    &["snapshot"],
    &["collection"],
    &["backends"],
    &["handle"],
    &["cold", "kept"],
    &["recovery"],
    &["driver"],
    &["metrics"],
    &["stats"],
    &["restore", "doctor", "dead_letters"],
    &["upload"],
    &["verify", "repair", "inspect", "log_view"],
    &["compact"],
    &["unfinished", "gc", "ddl", "named_snapshots", "flush"],
    &["read", "search"],
    &["engine"],
    &[
        "log",
        "commit",
        "write_stall",
        "write_turns",
        "write_pace",
        "limits",
        "workers",
        "snapshots",
        "directory_lock",
    ],
    &["ops"],
    &["write"],
    &["apply"],
    &["expiry"],
    &["catalog", "version"],
    &["filter_cache"],
    &["overlay", "memtable", "segment", "manifest"],
    &["segment_meta"],
    &["index", "deletion_vector"],
    &["filter", "distance", "topk"],
    &["row", "record", "schema"],
    &["idempotency"],
    &["memory_budget"],
    &["config", "id", "lsn", "bitmap", "texts"],
    &["sync", "error", "paths", "slots"],
];

/// Files over 500 lines of code, each with its reason.
const LONG: &[(&str, &str)] = &[];

fn rank() -> BTreeMap<&'static str, usize> {
    ORDER.iter().flat_map(|line| line.iter()).enumerate().map(|(n, name)| (*name, n)).collect()
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The modules of this crate a source file names, outside its tests.
fn used_by(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code: String =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with("pub(") {
            continue;
        }
        let name: String = code[at + 7..]
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
            .collect();
        if !name.is_empty() {
            used.push(name);
        }
    }
    used
}

#[test]
fn modules_use_only_what_stands_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rank = rank();
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        if relative.ends_with("tests.rs") || relative.contains("tests/") || relative == "lib.rs" {
            continue;
        }
        let own = relative.split(['/', '.']).next().unwrap().to_owned();
        let Some(own_rank) = rank.get(own.as_str()) else {
            wrong.push(format!("{relative}: module \"{own}\" is not in the order"));
            continue;
        };
        for used in used_by(&fs::read_to_string(&file).unwrap()) {
            match rank.get(used.as_str()) {
                None => wrong.push(format!("{relative} uses \"{used}\", which is not in the order")),
                Some(used_rank) if used != own && used_rank <= own_rank => {
                    wrong.push(format!("{relative} uses \"{used}\", which stands above it"));
                }
                Some(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_small_enough_to_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for member in ["host", "wal", "backends", "engine", "cli", "benches"] {
        sources(&root.join(member).join("src"), &mut files);
    }
    let long: Vec<String> = files
        .iter()
        .filter(|file| !file.to_string_lossy().contains("tests"))
        .filter(|file| !LONG.iter().any(|(long, _)| file.ends_with(long)))
        .filter_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap().lines().map(str::trim_start);
            let lines = code.filter(|line| !line.is_empty() && !line.starts_with("//")).count();
            (lines > 500).then(|| format!("{} has {lines} lines", file.display()))
        })
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}
