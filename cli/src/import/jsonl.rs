//! JSON lines: an object a line with an id, a vector, and whatever else is payload.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde_json::Value;

use super::source::{Extent, Gathered, InputRow, Source, bad_line};
use crate::failure::{Failure, Result, Unit};

/// Longest line, the size of the largest batch a database takes.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// What a line holds.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) gathered: Gathered,
    pub(crate) vector: Option<Vec<f32>>,
}

/// The lines of a file, blank ones left out.
pub(crate) struct Lines {
    reader: Box<dyn BufRead>,
    file: PathBuf,
    extent: Extent,
    position: u64,
    number: u64,
    buffer: Vec<u8>,
    done: bool,
}

impl Lines {
    /// Opens a file; `-` is standard input.
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let (reader, extent): (Box<dyn BufRead>, _) = if file == Path::new("-") {
            (Box::new(io::stdin().lock()), Extent::Unknown)
        } else {
            let open = || File::open(file).and_then(|open| Ok((open.metadata()?.len(), open)));
            let (len, open) = open().map_err(|cause| Failure::io(file, "opening", &cause))?;
            (Box::new(BufReader::with_capacity(256 << 10, open)), Extent::Bytes(len))
        };
        let file = file.to_path_buf();
        Ok(Self { reader, file, extent, position: 0, number: 0, buffer: Vec::new(), done: false })
    }

    /// The next line that is not blank, with its number.
    fn next_line(&mut self) -> Result<Option<(u64, &[u8])>> {
        loop {
            self.buffer.clear();
            let read = (&mut self.reader).take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|cause| Failure::io(&self.file, "reading", &cause))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.position += read as u64;
            if read as u64 > MAX_LINE_BYTES {
                let reason = format!("the line is longer than {} MiB", MAX_LINE_BYTES >> 20);
                return Err(bad_line(&self.file, self.number, reason));
            }
            if self.number == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
                self.buffer.drain(..3);
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        Ok(Some((self.number, self.buffer.trim_ascii())))
    }

    /// The next line and its number.
    pub(crate) fn next(&mut self, id_field: &str) -> Option<Result<(u64, Line)>> {
        if self.done {
            return None;
        }
        let parsed = match self.next_line() {
            Ok(None) => None,
            Ok(Some((number, text))) => Some(match parse(text, id_field) {
                Ok(line) => Ok((number, line)),
                Err(reason) => Err(bad_line(&self.file, number, reason)),
            }),
            Err(failure) => Some(Err(failure)),
        };
        self.done = !matches!(parsed, Some(Ok(_)));
        parsed
    }
}

/// Rows of a JSONL file.
pub(crate) struct Jsonl {
    lines: Lines,
    id_field: String,
}

impl Jsonl {
    /// Opens a file; `-` is standard input.
    pub(crate) fn open(file: &Path, id_field: &str) -> Result<Self> {
        Ok(Self { lines: Lines::open(file)?, id_field: id_field.to_owned() })
    }

    fn row(&self, place: u64, line: Line) -> Result<InputRow> {
        let missing = |name: &str| bad_line(&self.lines.file, place, format!("the row has no \"{name}\""));
        let id = line.gathered.id.ok_or_else(|| missing(&self.id_field))?;
        let vector = line.vector.ok_or_else(|| missing("vector"))?;
        Ok(InputRow { id, vector, payload: line.gathered.payload, place })
    }
}

impl Iterator for Jsonl {
    type Item = Result<InputRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next(&self.id_field)?;
        let row = line.and_then(|(place, line)| self.row(place, line));
        self.lines.done |= row.is_err();
        Some(row)
    }
}

impl Source for Jsonl {
    fn extent(&self) -> Extent {
        self.lines.extent
    }

    fn position(&self) -> u64 {
        self.lines.position
    }

    fn unit(&self) -> Unit {
        Unit::Line
    }
}

fn parse(text: &[u8], id_field: &str) -> Result<Line, String> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let line = LineSeed { id_field }.deserialize(&mut parser);
    line.and_then(|line| parser.end().map(|()| line)).map_err(|cause| {
        // The parser sees one line: its "line 1" would be taken for the file's.
        let message = cause.to_string();
        let reason = message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason);
        format!("{reason} (column {})", cause.column())
    })
}

struct LineSeed<'a> {
    id_field: &'a str,
}

impl<'de> DeserializeSeed<'de> for LineSeed<'_> {
    type Value = Line;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Line, D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LineSeed<'_> {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with an id and a vector")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
        let mut line = Line::default();
        while let Some(key) = map.next_key::<String>()? {
            let twice = (key == "vector" && line.vector.is_some())
                || (key == self.id_field && line.gathered.id.is_some());
            if twice {
                return Err(A::Error::custom(format!("\"{key}\" is given twice")));
            }
            if key == "vector" && key != self.id_field {
                line.vector = Some(map.next_value()?);
            } else {
                let value: Value = map.next_value()?;
                line.gathered.add(&key, value, self.id_field).map_err(A::Error::custom)?;
            }
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use akidb::Id;
    use serde_json::json;

    use super::*;

    fn rows(content: &[u8]) -> Vec<Result<InputRow>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        Jsonl::open(file.path(), "id").unwrap().collect()
    }

    #[test]
    fn lines_become_rows_and_blank_ones_are_counted() {
        let content = "\u{feff}{\"id\":\"a\",\"vector\":[1,0.5],\"lang\":\"en\"}\r\n\n  \n{\"vector\":[0,-2e0],\"id\":7}";
        let rows: Vec<InputRow> = rows(content.as_bytes()).into_iter().map(Result::unwrap).collect();
        assert_eq!(rows[0].id, Id::from("a"));
        assert_eq!(Value::Object(rows[0].payload.clone()), json!({"lang": "en"}));
        assert_eq!((rows[1].id.clone(), rows[1].place), (Id::from(7), 4));
        assert_eq!(rows[1].vector, [0.0, -2.0]);
    }

    #[test]
    fn a_bad_line_is_named_and_ends_the_reading() {
        let good = "{\"id\":\"a\",\"vector\":[1]}\n";
        for (bad, reason) in [
            ("[1]", "expected a JSON object with an id and a vector"),
            ("{\"id\":\"b\"}", "the row has no \"vector\""),
            ("{\"vector\":[1]}", "the row has no \"id\""),
            ("{\"id\":\"b\",\"vector\":[1,null]}", "expected f32"),
            ("{\"id\":\"b\",\"vector\":[1]", "EOF while parsing an object (column"),
            ("{\"id\":\"b\",\"vector\":[1]} x", "trailing characters (column 25)"),
            ("{\"id\":\"b\",\"vector\":[1],\"vector\":[1]}", "\"vector\" is given twice"),
            ("{\"id\":\"b\",\"vector\":[1],\"x\":1,\"x\":2}", "\"x\" is given twice"),
            ("{\"id\":{},\"vector\":[1]}", "expected a text or a 64-bit integer"),
            ("\u{0}", "expected value"),
        ] {
            let rows = rows(format!("{good}{bad}\n{good}").as_bytes());
            assert_eq!(rows.len(), 2, "{bad}");
            let message = rows[1].as_ref().unwrap_err().to_string();
            assert!(message.contains(reason) && message.contains("line: 2"), "{bad}: {message}");
        }
        let message = rows(b"{\"id\":\"\xff\",\"vector\":[1]}")[0].as_ref().unwrap_err().to_string();
        assert!(message.contains("unicode"), "{message}");
    }
}
