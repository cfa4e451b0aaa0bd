//! The documentation says what the sources do: error codes, modules, commands and the tests the README names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates whose code gives errors to a user.
const WITH_CODES: [&str; 5] = ["host", "wal", "backends", "engine", "cli"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn files(dir: &Path, ends: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, ends, into);
        } else if path.to_string_lossy().ends_with(ends) {
            into.push(path);
        }
    }
}

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The code of a source file without its tests and comments; empty for a file of tests.
fn code_of(file: &Path, text: &str) -> String {
    if file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs") {
        return String::new();
    }
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    // A named code is one that is looked for, not given.
    let gives = |line: &&str| !["//", "const "].iter().any(|start| line.trim_start().starts_with(start));
    code.lines().filter(gives).collect::<Vec<_>>().join("\n")
}

fn codes_in(text: &str) -> Vec<String> {
    let at = text.match_indices("AKI-").map(|(at, _)| &text[at..]);
    let code =
        |rest: &str| rest.get(..8).filter(|c| c[4..].bytes().all(|b| b.is_ascii_digit())).map(str::to_owned);
    at.filter_map(code).collect()
}

/// Code to the crates that give it.
fn codes_of_sources() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut found = BTreeMap::<String, BTreeSet<&'static str>>::new();
    for member in WITH_CODES {
        let mut sources = Vec::new();
        files(&root().join(member).join("src"), ".rs", &mut sources);
        for file in sources {
            let text = fs::read_to_string(&file).unwrap();
            for code in codes_in(&code_of(&file, &text)) {
                found.entry(code).or_default().insert(member);
            }
        }
    }
    found
}

#[test]
fn every_error_code_has_one_row_in_the_list_and_every_row_a_code() {
    let given = codes_of_sources();
    assert!(given.len() > 100, "only {} codes found: the search is broken", given.len());
    let list = page("docs/operations/errors.md");
    let mut rows = BTreeMap::<String, usize>::new();
    for row in list.lines().filter(|line| line.starts_with("| AKI-")) {
        *rows.entry(codes_in(row).swap_remove(0)).or_default() += 1;
    }
    let missing: Vec<_> = given.keys().filter(|code| !rows.contains_key(*code)).collect();
    let stale: Vec<_> = rows.keys().filter(|code| !given.contains_key(*code)).collect();
    let twice: Vec<_> = rows.iter().filter(|(_, n)| **n > 1).collect();
    assert!(
        missing.is_empty() && stale.is_empty() && twice.is_empty(),
        "not in errors.md: {missing:?}; in errors.md and given by nothing: {stale:?}; twice: {twice:?}"
    );
}

#[test]
fn no_error_code_is_given_by_two_crates() {
    let shared: Vec<_> = codes_of_sources().into_iter().filter(|(_, crates)| crates.len() > 1).collect();
    assert!(shared.is_empty(), "{shared:?}");
}

#[test]
fn every_module_of_the_engine_is_in_the_architecture() {
    let text = page("docs/ARCHITECTURE.md");
    let lib = page("engine/src/lib.rs");
    let modules = lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
    let modules: Vec<&str> = modules.map(|line| line.trim_end_matches(';')).collect();
    assert!(modules.len() > 30, "only {} modules found", modules.len());
    let missing: Vec<_> =
        modules.iter().filter(|m| **m != "loom_tests" && !text.contains(&format!("`{m}`"))).collect();
    assert!(missing.is_empty(), "not in ARCHITECTURE.md: {missing:?}");
}

#[test]
fn every_command_in_the_pages_is_a_verb() {
    let mut pages = vec![root().join("README.md")];
    files(&root().join("docs"), ".md", &mut pages);
    let (mut seen, mut unknown) = (0, Vec::new());
    for file in pages {
        let text = fs::read_to_string(&file).unwrap();
        for start in ["`akidb ", "\nakidb ", "--locked -p akidb-cli -- "] {
            for (at, _) in text.match_indices(start) {
                let verb: String =
                    text[at + start.len()..].chars().take_while(char::is_ascii_lowercase).collect();
                if verb.is_empty() {
                    continue;
                }
                seen += 1;
                if !root().join("cli/src").join(format!("{verb}.rs")).exists() {
                    unknown.push(format!("{}: akidb {verb}", file.display()));
                }
            }
        }
    }
    assert!(seen > 10, "only {seen} commands found");
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn every_test_the_readme_names_exists() {
    let mut sources = Vec::new();
    for member in ["host", "wal", "backends", "engine", "cli"] {
        files(&root().join(member), ".rs", &mut sources);
    }
    let all: String = sources.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let readme = page("README.md");
    let rows = readme.lines().filter(|line| line.starts_with("| ") && line.matches('|').count() == 4);
    let tests: Vec<&str> = rows
        .filter_map(|row| row.split('|').nth(3))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    assert!(tests.len() > 8, "only {} tests named", tests.len());
    let missing: Vec<_> = tests.iter().filter(|name| !all.contains(&format!("fn {name}("))).collect();
    assert!(missing.is_empty(), "no such test: {missing:?}");
}
