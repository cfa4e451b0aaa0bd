//! A bound filter as bytes that are the same for filters that ask the same in another order: the key of what a cache
//! keeps of it.

use crate::filter::eval::{Node, Number, Source, Test};

/// The bytes. Parts of `and` and `or` are sorted and stand once; a double `not` is none. Two filters with the same
/// bytes answer alike for every row; two with different ones may.
pub(super) fn canonical(node: &Node) -> Vec<u8> {
    match node {
        Node::And(parts) => joined(b'&', parts),
        Node::Or(parts) => joined(b'|', parts),
        Node::Not(inner) => match &**inner {
            Node::Not(inner) => canonical(inner),
            inner => [b"!".as_slice(), &canonical(inner)].concat(),
        },
        Node::Test(source, test) => {
            let mut bytes = vec![];
            write_source(*source, &mut bytes);
            write_test(test, &mut bytes);
            bytes
        }
    }
}

fn joined(kind: u8, parts: &[Node]) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = parts.iter().map(canonical).collect();
    parts.sort_unstable();
    parts.dedup();
    if parts.len() == 1 {
        return parts.remove(0);
    }
    let mut bytes = vec![kind];
    write_len(parts.len(), &mut bytes);
    parts.iter().for_each(|part| bytes.extend(part));
    bytes
}

fn write_source(source: Source, bytes: &mut Vec<u8>) {
    match source {
        Source::Id => bytes.push(b'i'),
        Source::Lsn => bytes.push(b'l'),
        Source::Field(position) => {
            bytes.push(b'f');
            write_len(position, bytes);
        }
    }
}

/// Every part says its own length, so that no two tests have the same bytes.
fn write_test(test: &Test, bytes: &mut Vec<u8>) {
    match test {
        Test::IsNull { negated } => bytes.extend([0, u8::from(*negated)]),
        Test::Text(op, text) => {
            bytes.extend([1, *op as u8]);
            write_text(text, bytes);
        }
        Test::Number(op, number) => {
            bytes.extend([2, *op as u8]);
            write_number(*number, bytes);
        }
        Test::Bool(wanted) => bytes.extend([3, u8::from(*wanted)]),
        Test::TextIn { texts, negated } => {
            bytes.extend([4, u8::from(*negated)]);
            write_len(texts.len(), bytes);
            texts.iter().for_each(|text| write_text(text, bytes));
        }
        Test::NumberIn { numbers, negated } => {
            bytes.extend([5, u8::from(*negated)]);
            write_len(numbers.len(), bytes);
            numbers.iter().for_each(|number| write_number(*number, bytes));
        }
        Test::BoolIn { bools, negated } => {
            bytes.extend([6, bools[0].into(), bools[1].into(), u8::from(*negated)])
        }
        Test::Contains(text) => {
            bytes.push(7);
            write_text(text, bytes);
        }
    }
}

fn write_text(text: &str, bytes: &mut Vec<u8>) {
    write_len(text.len(), bytes);
    bytes.extend(text.as_bytes());
}

fn write_number(number: Number, bytes: &mut Vec<u8>) {
    match number {
        Number::Int(n) => {
            bytes.push(0);
            bytes.extend(n.to_le_bytes());
        }
        Number::Float(x) => {
            bytes.push(1);
            bytes.extend((x + 0.0).to_bits().to_le_bytes());
        }
    }
}

fn write_len(len: usize, bytes: &mut Vec<u8>) {
    bytes.extend((len as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;
    use crate::schema::{Metric, Schema};

    fn key(text: &str) -> Vec<u8> {
        let schema = Schema::new(3, Metric::Cosine).text("lang").int("year").text_list("tags").bool("seen");
        canonical(&text.parse::<Filter>().unwrap().bind(&schema).unwrap().root)
    }

    #[test]
    fn the_same_question_in_another_order_has_the_same_key() {
        for (a, b) in [
            ("lang = 'en' and year > 1", "year > 1 and lang = 'en'"),
            ("year = 1 or (lang = 'a' and seen = true)", "(seen = true and lang = 'a') or year = 1"),
            ("lang in ('a', 'b')", "LANG IN ('b','a')".replace("LANG", "lang").as_str()),
            ("not (not (year = 1))", "year = 1"),
            ("year = 1 and year = 1", "year = 1"),
            ("year = 0.0", "year = -0.0"),
        ] {
            assert_eq!(key(a), key(b), "{a} / {b}");
        }
    }

    #[test]
    fn another_question_has_another_key() {
        let texts = [
            "lang = 'en'",
            "lang != 'en'",
            "lang < 'en'",
            "lang = 'e'",
            "lang in ('en')",
            "lang not in ('en')",
            "lang in ('e', 'n')",
            "lang is null",
            "lang is not null",
            "not (lang = 'en')",
            "year = 1",
            "year = 2",
            "year = 1.5",
            "year in (1, 2)",
            "id = 'en'",
            "lsn = 1",
            "tags contains 'en'",
            "seen = true",
            "seen = false",
            "seen in (true, false)",
            "year = 1 and lang = 'en'",
            "year = 1 or lang = 'en'",
            "year = 1 and (lang = 'en' or seen = true)",
            "(year = 1 and lang = 'en') or seen = true",
            "lang in ('a', 'bc')",
            "lang in ('ab', 'c')",
        ];
        for (n, a) in texts.iter().enumerate() {
            for b in &texts[..n] {
                assert_ne!(key(a), key(b), "{a} / {b}");
            }
        }
    }
}
