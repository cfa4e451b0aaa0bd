//! Standard output: one JSON object a line with `--json`, tables and sentences for people without.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::Result;

/// Whether the reader of standard output went away: no write to it can mean anything from then on.
static IS_DEAF: AtomicBool = AtomicBool::new(false);

/// Where a verb's results go. A reader who has seen enough (`| head`) neither stops a verb's work nor changes its exit code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    terminal: bool,
}

impl Output {
    /// Results as JSON objects, or for people.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, terminal: io::stdout().is_terminal() }
    }

    /// Whether results are JSON objects.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// With `--json`, `object` on a line of its own; else the sentence.
    pub(crate) fn report(self, object: &impl Serialize, sentence: &dyn fmt::Display) -> Result<()> {
        if self.json { self.object(object) } else { self.sentence(sentence) }
    }

    /// One object on a line of its own.
    pub(crate) fn object(self, object: &impl Serialize) -> Result<()> {
        let line = serde_json::to_string(object).map_err(io::Error::from)?;
        self.line(&line)
    }

    /// A line for people.
    pub(crate) fn sentence(self, sentence: &dyn fmt::Display) -> Result<()> {
        self.line(sentence)
    }

    /// A line on standard error beside the results: what their reader must know. With `--json`, an object with the single key
    /// `note`.
    pub(crate) fn aside(self, sentence: &dyn fmt::Display) {
        let line = match self.json {
            true => serde_json::json!({ "note": sentence.to_string() }).to_string(),
            false => sentence.to_string(),
        };
        // Nobody is left to tell if standard error is gone.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// A line on standard error about work that goes on, for people only.
    pub(crate) fn progress(self, sentence: &dyn fmt::Display) {
        if !self.json {
            self.aside(sentence);
        }
    }

    /// A table: with lines around its cells on a terminal, plain columns elsewhere.
    pub(crate) fn table(self, header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<()> {
        let mut table = Table::new();
        if self.terminal {
            table
                .load_style(presets::UTF8_FULL_CONDENSED)
                .set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(header.to_vec());
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell)));
        }
        self.line(&table.trim_fmt())
    }

    /// Whether anybody may still read: where nobody does, a verb that only prints may end.
    pub(crate) fn is_heard(self) -> bool {
        !IS_DEAF.load(Ordering::Relaxed)
    }

    fn line(self, line: &(impl fmt::Display + ?Sized)) -> Result<()> {
        if !self.is_heard() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => IS_DEAF.store(true, Ordering::Relaxed),
            written => written?,
        }
        Ok(())
    }
}

/// `text` with control characters escaped: stored text must not steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if c.is_control() {
            shown.extend(c.escape_default())
        } else {
            shown.push(c)
        }
        shown
    })
}

/// `text` as one line of at most `limit` characters.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    let text = printable(text);
    if text.chars().count() <= limit {
        return text;
    }
    let mut short: String = text.chars().take(limit.saturating_sub(3)).collect();
    short.push_str("...");
    short
}

/// 1234567 as "1,234,567".
pub(crate) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        let shown: Vec<String> = [0, 999, 1_000, 116_659, 1_234_567].into_iter().map(thousands).collect();
        assert_eq!(shown, ["0", "999", "1,000", "116,659", "1,234,567"]);
    }

    #[test]
    fn stored_text_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\n"), "a\\u{1b}[31mb\\n");
        assert_eq!(shortened("abcdefgh", 6), "abc...");
        assert_eq!(shortened("äöü", 3), "äöü");
    }
}
