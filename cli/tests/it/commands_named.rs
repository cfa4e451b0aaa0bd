//! Every command that an error's help names exists.

use std::fs;
use std::path::Path;

use crate::support::{Run, program};

/// Commands in back quotes, outside of comments, in the sources below `dir`.
fn named(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            named(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            let commands = code.flat_map(|line| line.split('`').skip(1).step_by(2));
            found.extend(commands.filter_map(|command| command.strip_prefix("akidb ")).map(str::to_owned));
        }
    }
}

#[test]
fn every_command_an_error_names_exists() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for part in ["host", "wal", "backends", "engine", "cli"] {
        named(&home.join(part).join("src"), &mut found);
    }
    found.sort();
    found.dedup();
    println!("{found:#?}");
    assert!(found.len() >= 5, "{found:?}");
    for command in found {
        let is_word = |word: &&str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
        };
        let words: Vec<&str> = command.split(' ').take_while(is_word).collect();
        let run = Run::of(program().args(&words).arg("--help").output().unwrap());
        assert_eq!(run.code, 0, "`akidb {command}`: {run:?}");
        // Words after the verb that are none of its own (a verb or an option) show in its help's first lines.
        for option in command.split(' ').filter(|word| word.starts_with("--")) {
            assert!(run.out.contains(option), "`akidb {command}` has no {option}");
        }
    }
}
