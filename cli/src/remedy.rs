//! Commands that failures name: they can be run as they stand.

use std::path::Path;

/// Verbs that find their database by `--db` alone.
const BY_OPTION: [&str; 8] =
    ["dlq ", "doctor", "flush", "ls", "repair manifest", "snapshot ", "stats", "verify"];

/// `text` with `--db` in each command of ours that needs it and has none.
pub(crate) fn runnable(text: &str, db: &Path) -> String {
    if db == Path::new(".") {
        return text.to_owned();
    }
    let option = format!(" --db {}", akidb::shell_word(db));
    // Every second piece stands between backticks.
    let pieces = text.split('`').enumerate().map(|(at, piece)| {
        let needs = |verb: &str| BY_OPTION.iter().any(|by_option| verb.starts_with(by_option));
        match piece.strip_prefix("akidb ").filter(|verb| at % 2 == 1 && needs(verb)) {
            Some(_) if !piece.contains(" --db ") => format!("{piece}{option}"),
            _ => piece.to_owned(),
        }
    });
    pieces.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_finds_its_database_by_an_option_gets_it() {
        let shown = |text: &str| runnable(text, Path::new("my data"));
        assert_eq!(shown("see `akidb ls` and `it`"), "see `akidb ls --db 'my data'` and `it`");
        assert_eq!(
            shown("`akidb snapshot rm a`, `akidb verify`"),
            "`akidb snapshot rm a --db 'my data'`, `akidb verify --db 'my data'`"
        );
        for text in [
            "`akidb verify --db x`",
            "`akidb restore URL DIR`",
            "`akidb repair segment f --drop`",
            "akidb ls",
            "`a",
        ] {
            assert_eq!(shown(text), text);
        }
        assert_eq!(runnable("`akidb ls`", Path::new(".")), "`akidb ls`");
    }
}
