//! Numbers and names that stand as text in the manifest's JSON: fixed-width hex, and anything with one text form.

/// A `u32` as eight lower-case hex digits.
pub(super) mod u32_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(value: &u32, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:08x}"))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_u32(&text).ok_or_else(|| D::Error::custom("expected 8 lower-case hex digits"))
    }
}

/// A `u64` as sixteen lower-case hex digits (JSON numbers above 2^53 lose digits in other readers).
pub(super) mod u64_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{value:016x}"))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        super::parse(&text, 16).ok_or_else(|| D::Error::custom("expected 16 lower-case hex digits"))
    }
}

/// Anything that writes and reads one text form.
pub(super) mod display_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in super::super) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(in super::super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Eight lower-case hex digits as a number. Strict: upper case is one flipped bit away from lower case.
pub(super) fn parse_u32(text: &str) -> Option<u32> {
    parse(text, 8).and_then(|value| u32::try_from(value).ok())
}

fn parse(text: &str, digits: usize) -> Option<u64> {
    let plain = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if plain { u64::from_str_radix(text, 16).ok() } else { None }
}
