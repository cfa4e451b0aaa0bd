//! One unpacked page: where the value of a row lies in it. Nothing is decoded but what is asked for.

use bytes::Bytes;

use super::encodings::{deltas, runs};
use super::page_header::PageHeader;
use crate::row::FieldValue;
use crate::schema::FieldType;

/// How Parquet numbers what is used here.
const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const DELTA_BINARY_PACKED: i64 = 5;
const RLE_DICTIONARY: i64 = 8;
const DATA_PAGE: i64 = 0;
const DICTIONARY_PAGE: i64 = 2;

const LEN_BYTES: usize = 4;
const NUMBER_BYTES: usize = 8;
/// Values of a page of lists, empty ones and nulls included: 512 rows of a MiB of JSON have fewer, of three bytes each.
const MAX_LIST_VALUES: usize = 1 << 28;
/// Stands for a row without a value.
const NULL: u32 = u32::MAX;
/// Bytes of a page beside what it points to.
const SELF_BYTES: usize = size_of::<Page>();

/// How values of a column are nested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nesting {
    Required,
    Optional,
    /// An optional list of what is required.
    List,
}

impl Nesting {
    /// By the highest levels of a column.
    pub(super) fn of(definition: i16, repetition: i16) -> Option<Self> {
        match (definition, repetition) {
            (0, 0) => Some(Self::Required),
            (1, 0) => Some(Self::Optional),
            (2, 1) => Some(Self::List),
            _ => None,
        }
    }
}

/// A data page, or a dictionary, whose rows are its values.
#[derive(Debug)]
pub(super) struct Page {
    rows: Rows,
    values: Values,
    /// Bytes once unpacked, levels included.
    unpacked_len: usize,
}

/// Which values belong to a row.
#[derive(Debug)]
enum Rows {
    /// Each row has one.
    Each(usize),
    /// The place of each row's value, or [`NULL`].
    Some(Box<[u32]>),
    /// Where each row's values begin and end; the beginning of a null is [`NULL`].
    Lists(Box<[(u32, u32)]>),
}

#[derive(Debug)]
enum Values {
    /// Texts with their lengths before them, and where each begins; one beginning more than there are texts.
    Texts(Bytes, Box<[u32]>),
    /// Numbers of eight bytes.
    Numbers(Bytes),
    Deltas(Box<[i64]>),
    /// Eight in a byte, low bits first.
    Bools(Bytes),
    /// Places in the dictionary.
    Places(Box<[u32]>),
}

impl Page {
    /// The data page of so many rows in `bytes`, which are unpacked; `None` for what no segment has.
    pub(super) fn data(
        header: PageHeader,
        bytes: Bytes,
        nesting: Nesting,
        kind: FieldType,
        rows_wanted: usize,
    ) -> Option<Self> {
        let is_one = header.kind == DATA_PAGE && header.unpacked_len == bytes.len();
        let may_have = match nesting {
            Nesting::Required | Nesting::Optional => rows_wanted..=rows_wanted,
            Nesting::List => rows_wanted..=MAX_LIST_VALUES,
        };
        if !is_one || !may_have.contains(&header.values) {
            return None;
        }
        let mut at = 0;
        let mut levels = |width| levels(&bytes, &mut at, width, header.values);
        let (rows, count) = match nesting {
            Nesting::Required => (Rows::Each(header.values), header.values),
            Nesting::Optional => optional(&levels(1)?)?,
            Nesting::List => lists(&levels(1)?, &levels(2)?)?,
        };
        let values = Values::of(header.encoding, bytes.slice(at..), count, kind)?;
        let page = Self { rows, values, unpacked_len: header.unpacked_len };
        (page.rows() == rows_wanted).then_some(page)
    }

    /// The dictionary in `bytes`, which are unpacked.
    pub(super) fn dictionary(header: PageHeader, bytes: Bytes, kind: FieldType) -> Option<Self> {
        let is_one = header.kind == DICTIONARY_PAGE && header.unpacked_len == bytes.len();
        let is_plain = [PLAIN, PLAIN_DICTIONARY].contains(&header.encoding);
        let values = (is_one && is_plain).then(|| Values::of(PLAIN, bytes, header.values, kind))??;
        Some(Self { rows: Rows::Each(header.values), values, unpacked_len: header.unpacked_len })
    }

    /// Rows in it.
    pub(super) fn rows(&self) -> usize {
        match &self.rows {
            Rows::Each(rows) => *rows,
            Rows::Some(places) => places.len(),
            Rows::Lists(lists) => lists.len(),
        }
    }

    /// Whether its values stand in the dictionary of its column chunk.
    pub(super) fn needs_dictionary(&self) -> bool {
        matches!(self.values, Values::Places(_))
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        let rows = match &self.rows {
            Rows::Each(_) => 0,
            Rows::Some(places) => size_of_val(&**places),
            Rows::Lists(lists) => size_of_val(&**lists),
        };
        let values = match &self.values {
            Values::Texts(_, starts) => self.unpacked_len + size_of_val(&**starts),
            Values::Numbers(_) | Values::Bools(_) => self.unpacked_len,
            Values::Deltas(numbers) => size_of_val(&**numbers),
            Values::Places(places) => size_of_val(&**places),
        };
        SELF_BYTES + rows + values
    }

    /// The value of a row, of the type the page was read as; `None` where it is none of that type.
    pub(super) fn value(&self, row: usize, kind: FieldType, dictionary: Option<&Self>) -> Option<FieldValue> {
        let place = match &self.rows {
            Rows::Each(rows) => (row < *rows).then_some(row)?,
            Rows::Some(places) => match *places.get(row)? {
                NULL => return Some(FieldValue::Null),
                place => place as usize,
            },
            Rows::Lists(lists) => {
                let (start, end) = *lists.get(row)?;
                if start == NULL {
                    return Some(FieldValue::Null);
                }
                let texts = (start..end).map(|place| self.text(place as usize, dictionary).map(Box::from));
                return texts.collect::<Option<_>>().map(FieldValue::TextList);
            }
        };
        Some(match kind {
            FieldType::Text => FieldValue::Text(self.text(place, dictionary)?.into()),
            FieldType::Int => FieldValue::Int(self.number(place, dictionary)?),
            FieldType::Float => {
                FieldValue::Float(f64::from_bits(self.number(place, dictionary)?.cast_unsigned()))
            }
            FieldType::Timestamp => FieldValue::Timestamp(self.number(place, dictionary)?),
            FieldType::Bool => FieldValue::Bool(self.bool(place)?),
            FieldType::TextList => return None,
        })
    }

    /// The text of a row that is never null, without a copy.
    pub(super) fn required_text(&self, row: usize) -> Option<&str> {
        match self.rows {
            Rows::Each(_) => self.text(row, None),
            _ => None,
        }
    }

    fn text<'a>(&'a self, place: usize, dictionary: Option<&'a Self>) -> Option<&'a str> {
        match &self.values {
            Values::Texts(bytes, starts) => {
                let (start, end) = (*starts.get(place)? as usize, *starts.get(place + 1)? as usize);
                std::str::from_utf8(bytes.get(start + LEN_BYTES..end)?).ok()
            }
            Values::Places(places) => dictionary?.text(*places.get(place)? as usize, None),
            _ => None,
        }
    }

    fn number(&self, place: usize, dictionary: Option<&Self>) -> Option<i64> {
        match &self.values {
            Values::Numbers(bytes) => {
                let start = place.checked_mul(NUMBER_BYTES)?;
                Some(i64::from_le_bytes(bytes.get(start..start + NUMBER_BYTES)?.try_into().ok()?))
            }
            Values::Deltas(numbers) => numbers.get(place).copied(),
            Values::Places(places) => dictionary?.number(*places.get(place)? as usize, None),
            _ => None,
        }
    }

    fn bool(&self, place: usize) -> Option<bool> {
        match &self.values {
            Values::Bools(bytes) => Some(bytes.get(place / 8)? >> (place % 8) & 1 == 1),
            _ => None,
        }
    }
}

impl Values {
    fn of(encoding: i64, bytes: Bytes, count: usize, kind: FieldType) -> Option<Self> {
        match (encoding, kind) {
            (PLAIN, FieldType::Text | FieldType::TextList) => texts(bytes, count),
            (PLAIN, FieldType::Bool) => (bytes.len() >= count.div_ceil(8)).then_some(Self::Bools(bytes)),
            (PLAIN, _) => (bytes.len() >= count.checked_mul(NUMBER_BYTES)?).then_some(Self::Numbers(bytes)),
            (DELTA_BINARY_PACKED, FieldType::Int | FieldType::Timestamp) => {
                deltas(&bytes, count).map(|numbers| Self::Deltas(numbers.into()))
            }
            (PLAIN_DICTIONARY | RLE_DICTIONARY, _) if count == 0 => Some(Self::Places(Box::default())),
            (PLAIN_DICTIONARY | RLE_DICTIONARY, _) => {
                let (width, places) = bytes.split_first()?;
                let places = runs(places, usize::from(*width), count, |place| place)?;
                Some(Self::Places(places.into()))
            }
            _ => None,
        }
    }
}

fn texts(bytes: Bytes, count: usize) -> Option<Values> {
    if count > bytes.len() / LEN_BYTES {
        return None;
    }
    let mut starts = Vec::with_capacity(count + 1);
    let mut at = 0;
    for _ in 0..count {
        starts.push(u32::try_from(at).ok()?);
        let len = le_u32(bytes.get(at..at + LEN_BYTES)?) as usize;
        at = (at + LEN_BYTES).checked_add(len).filter(|end| *end <= bytes.len())?;
    }
    starts.push(u32::try_from(at).ok()?);
    Some(Values::Texts(bytes, starts.into()))
}

/// Levels behind their length, and where what follows them begins.
fn levels(bytes: &[u8], at: &mut usize, width: usize, count: usize) -> Option<Vec<u8>> {
    let start = at.checked_add(LEN_BYTES)?;
    let len = le_u32(bytes.get(*at..start)?) as usize;
    *at = start.checked_add(len)?;
    runs(bytes.get(start..*at)?, width, count, |level| level.to_le_bytes()[0])
}

/// The values of rows whose definition levels these are, and how many there are.
fn optional(levels: &[u8]) -> Option<(Rows, usize)> {
    if levels.iter().all(|level| *level == 1) {
        return Some((Rows::Each(levels.len()), levels.len()));
    }
    let mut count = 0;
    let mut place = |level: &u8| {
        if *level == 0 {
            return NULL;
        }
        count += 1;
        count - 1
    };
    let places: Box<[u32]> = levels.iter().map(&mut place).collect();
    Some((Rows::Some(places), usize::try_from(count).ok()?))
}

fn lists(repetition: &[u8], definition: &[u8]) -> Option<(Rows, usize)> {
    let mut rows: Vec<(u32, u32)> = Vec::new();
    let mut count = 0;
    for (repetition, definition) in repetition.iter().zip(definition) {
        if *repetition == 0 {
            rows.push(if *definition == 0 { (NULL, NULL) } else { (count, count) });
        }
        if *definition == 2 {
            count += 1;
            let (start, end) = rows.last_mut()?;
            // A value that belongs to a null has no place to be.
            *end = (*start != NULL).then_some(count)?;
        }
    }
    Some((Rows::Lists(rows.into()), usize::try_from(count).ok()?))
}

fn le_u32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |n, byte| n << 8 | u32::from(*byte))
}
