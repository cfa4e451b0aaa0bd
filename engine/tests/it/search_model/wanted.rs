//! A filter with its meaning: its text goes to the engine, its three-valued truth to the plain list of rows.

use std::fmt;

use akidb_host::Rng;

use super::rows::{IDS_TEXT, LANGS, Row};

/// A filter whose every part is drawn at random.
pub(super) enum Wanted {
    Below(i64),
    OneOf(Vec<i64>),
    NoBucket,
    Lang(usize),
    NotLang(usize),
    Tag(usize),
    /// Ids from one number up to and without another; text ids or not.
    Ids(usize, usize, bool),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
}

impl Wanted {
    /// A filter over ids below `ids`, with at most `depth` levels.
    pub(super) fn random(rng: &mut Rng, ids: usize, text_ids: bool, depth: u32) -> Self {
        let pick = |rng: &mut Rng, below: usize| usize::try_from(rng.below(below as u64)).unwrap();
        let bucket = |rng: &mut Rng| i64::try_from(rng.below(100)).unwrap();
        if depth > 0 && rng.below(2) == 0 {
            let mut part = || Box::new(Self::random(rng, ids, text_ids, depth - 1));
            let (a, b) = (part(), part());
            return match rng.below(5) {
                0 | 1 => Self::And(a, b),
                2 | 3 => Self::Or(a, b),
                _ => Self::Not(a),
            };
        }
        match rng.below(9) {
            0..3 => Self::Below(bucket(rng) + 1),
            3 => Self::OneOf((0..1 + rng.below(4)).map(|_| bucket(rng)).collect()),
            4 => Self::NoBucket,
            5 => Self::Lang(pick(rng, LANGS.len())),
            6 => Self::NotLang(pick(rng, LANGS.len())),
            7 => Self::Tag(pick(rng, 4)),
            _ => {
                let low = pick(rng, ids);
                Self::Ids(low, low + pick(rng, ids / 2), text_ids)
            }
        }
    }

    /// Whether row `n` is taken.
    pub(super) fn takes(&self, n: usize, row: &Row) -> bool {
        self.truth(n, row) == Some(true)
    }

    fn truth(&self, n: usize, row: &Row) -> Option<bool> {
        match self {
            Self::Below(limit) => row.bucket.map(|bucket| bucket < *limit),
            Self::OneOf(list) => row.bucket.map(|bucket| list.contains(&bucket)),
            Self::NoBucket => Some(row.bucket.is_none()),
            Self::Lang(lang) => row.lang.map(|own| own == *lang),
            Self::NotLang(lang) => row.lang.map(|own| own != *lang),
            Self::Tag(tag) => row.tags.map(|tags| tags & 1 << tag != 0),
            Self::Ids(low, high, _) => Some((*low..*high).contains(&n)),
            Self::And(a, b) => match (a.truth(n, row), b.truth(n, row)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(a, b) => match (a.truth(n, row), b.truth(n, row)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::Not(a) => a.truth(n, row).map(|truth| !truth),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(limit) => write!(f, "bucket < {limit}"),
            Self::OneOf(list) => {
                let list: Vec<String> = list.iter().map(i64::to_string).collect();
                write!(f, "bucket in ({})", list.join(", "))
            }
            Self::NoBucket => write!(f, "bucket is null"),
            Self::Lang(lang) => write!(f, "lang = '{}'", LANGS[*lang]),
            Self::NotLang(lang) => write!(f, "lang != '{}'", LANGS[*lang]),
            Self::Tag(tag) => write!(f, "tags contains 't{tag}'"),
            Self::Ids(low, high, IDS_TEXT) => write!(f, "id >= 'r{low:06}' and id < 'r{high:06}'"),
            Self::Ids(low, high, _) => write!(f, "id >= {low} and id < {high}"),
            Self::And(a, b) => write!(f, "({a}) and ({b})"),
            Self::Or(a, b) => write!(f, "({a}) or ({b})"),
            Self::Not(a) => write!(f, "not ({a})"),
        }
    }
}
