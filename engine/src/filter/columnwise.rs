//! A filter over whole columns: what it answers row by row, as bitmaps of all rows at once.

use std::sync::Arc;

use crate::bitmap::Bitmap;
use crate::error::Result;
use crate::filter::bind::Bound;
use crate::filter::coded::{Coded, Codes, Form, Values, place};
use crate::filter::eval::{Node, Source, Test};
use crate::texts::{Ends, Texts};

/// The columns of a segment.
pub(crate) trait Columns {
    /// One of them.
    ///
    /// # Errors
    /// What keeps it from being read.
    fn column(&self, source: Source) -> Result<Arc<Coded>>;
}

/// The answers for all rows. No row is in both; those in neither are false.
struct Truth {
    yes: Bitmap,
    /// Absent if there is none.
    unknown: Option<Bitmap>,
}

impl Bound {
    /// The rows the filter is true for, exactly as [`Bound::matches`] says. A column that cannot change the answer
    /// any more is not asked for.
    ///
    /// # Errors
    /// What the columns answer.
    pub(crate) fn matching(&self, columns: &impl Columns) -> Result<Bitmap> {
        Ok(self.root.over(columns)?.yes)
    }
}

impl Node {
    fn over(&self, columns: &impl Columns) -> Result<Truth> {
        match self {
            Self::And(parts) => joined(parts, columns, Truth::and, Truth::is_false),
            Self::Or(parts) => joined(parts, columns, Truth::or, Truth::is_true),
            Self::Not(inner) => Ok(inner.over(columns)?.negated()),
            Self::Test(source, test) => Ok(test.over(&*columns.column(*source)?)),
        }
    }
}

/// The parts one after the other, until no further one can change a row's answer.
fn joined(
    parts: &[Node],
    columns: &impl Columns,
    join: impl Fn(Truth, Truth) -> Truth,
    is_settled: impl Fn(&Truth) -> bool,
) -> Result<Truth> {
    let mut whole: Option<Truth> = None;
    for part in parts {
        if whole.as_ref().is_some_and(&is_settled) {
            break;
        }
        let part = part.over(columns)?;
        whole = Some(match whole {
            None => part,
            Some(whole) => join(whole, part),
        });
    }
    Ok(whole.expect("`and` and `or` have parts"))
}

impl Truth {
    fn is_false(&self) -> bool {
        self.unknown.is_none() && self.yes.is_empty()
    }

    fn is_true(&self) -> bool {
        self.yes.count() == self.yes.len()
    }

    /// True or unknown.
    fn not_false(&self) -> Bitmap {
        let mut rows = self.yes.clone();
        if let Some(unknown) = &self.unknown {
            rows.or(unknown);
        }
        rows
    }

    fn and(mut self, other: Self) -> Self {
        let unknown = (self.unknown.is_some() || other.unknown.is_some()).then(|| {
            let mut rows = self.not_false();
            rows.and(&other.not_false());
            rows
        });
        self.yes.and(&other.yes);
        Self::new(self.yes, unknown)
    }

    fn or(mut self, other: Self) -> Self {
        self.yes.or(&other.yes);
        let unknown = match (self.unknown, other.unknown) {
            (Some(mut a), Some(b)) => {
                a.or(&b);
                Some(a)
            }
            (a, b) => a.or(b),
        };
        Self::new(self.yes, unknown)
    }

    fn negated(self) -> Self {
        let mut no = self.not_false();
        no.not();
        Self::new(no, self.unknown)
    }

    /// `unknown` without the rows that are true after all.
    fn new(yes: Bitmap, unknown: Option<Bitmap>) -> Self {
        let unknown = unknown.map(|mut rows| {
            rows.and_not(&yes);
            rows
        });
        Self { yes, unknown: unknown.filter(|rows| !rows.is_empty()) }
    }
}

impl Test {
    fn over(&self, column: &Coded) -> Truth {
        let none = || Bitmap::none(column.rows());
        let nulls = column.nulls.clone();
        if let Self::IsNull { negated } = self {
            let mut yes = nulls.unwrap_or_else(none);
            if *negated {
                yes.not();
            }
            return Truth { yes, unknown: None };
        }
        match (&column.form, self) {
            (Form::Null, _) => Truth { yes: none(), unknown: nulls },
            (Form::Codes { values, codes }, _) => self.over_codes(values, codes, nulls),
            (Form::Plain(values), _) => self.over_plain(values, column.rows(), nulls),
            (Form::Lists { ends, codes, values }, Self::Contains(text)) => {
                Truth { yes: containing(text, ends, codes, values), unknown: nulls }
            }
            (Form::Lists { .. }, _) => {
                debug_assert!(false, "a filter was bound to a field of another type");
                Truth { yes: none(), unknown: Some(Bitmap::all(column.rows())) }
            }
        }
    }

    /// One answer a distinct value, then one look a row.
    fn over_codes(&self, values: &Values, codes: &Codes, nulls: Option<Bitmap>) -> Truth {
        let answers: Vec<Option<bool>> = (0..values.len()).map(|at| self.eval(values.get(at))).collect();
        let yes = codes.taken(&answers, Some(true));
        if answers.iter().all(Option::is_some) {
            return Truth { yes, unknown: nulls };
        }
        let mut unknown = codes.taken(&answers, None);
        if let Some(nulls) = nulls {
            unknown.or(&nulls);
        }
        Truth { yes, unknown: Some(unknown) }
    }

    fn over_plain(&self, values: &Values, rows: u32, nulls: Option<Bitmap>) -> Truth {
        let answers =
            |wanted| Bitmap::of_bits(rows, (0..values.len()).map(|at| self.eval(values.get(at)) == wanted));
        let mut yes = answers(Some(true));
        let mut unknown = answers(None);
        if let Some(nulls) = nulls {
            // What stands where there is no value was answered too.
            yes.and_not(&nulls);
            unknown.or(&nulls);
        }
        Truth::new(yes, Some(unknown))
    }
}

impl Codes {
    /// The rows whose value was answered with `wanted`; rows without a value, whose code has no answer, are out.
    fn taken(&self, answers: &[Option<bool>], wanted: Option<bool>) -> Bitmap {
        let mut table: Vec<bool> = answers.iter().map(|answer| *answer == wanted).collect();
        table.push(false);
        // Values ascend, so most tests take one run of codes: a comparison, many rows an instruction.
        let first = table.iter().position(|is_in| *is_in);
        let end = table.iter().rposition(|is_in| *is_in).map_or(0, |last| last + 1);
        let first = first.unwrap_or(end);
        let is_run = table[first..end].iter().all(|is_in| *is_in);
        match (self, is_run) {
            (Self::One(codes), true) => {
                let (first, end) = (narrow::<u8>(first), narrow::<u8>(end));
                Bitmap::of_values(codes, |code| first <= code && code < end)
            }
            (Self::Two(codes), true) => {
                let (first, end) = (narrow::<u16>(first), narrow::<u16>(end));
                Bitmap::of_values(codes, |code| first <= code && code < end)
            }
            (Self::Four(codes), true) => {
                let (first, end) = (narrow::<u32>(first), narrow::<u32>(end));
                Bitmap::of_values(codes, |code| first <= code && code < end)
            }
            (Self::One(codes), false) => {
                // As long as there are codes, so that no look is outside.
                table.resize(1 << 8, false);
                Bitmap::of_values(codes, |code| table[usize::from(code)])
            }
            (Self::Two(codes), false) => Bitmap::of_values(codes, |code| table[usize::from(code)]),
            (Self::Four(codes), false) => Bitmap::of_values(codes, |code| table[code as usize]),
        }
    }

    /// The places in ascending order that hold `code`.
    fn places_of(&self, code: usize) -> Box<dyn Iterator<Item = usize> + '_> {
        fn of<T: Copy + PartialEq>(codes: &[T], code: T) -> Box<dyn Iterator<Item = usize> + '_> {
            Box::new(codes.iter().enumerate().filter(move |(_, own)| **own == code).map(|(at, _)| at))
        }
        match self {
            Self::One(codes) => of(codes, narrow(code)),
            Self::Two(codes) => of(codes, narrow(code)),
            Self::Four(codes) => of(codes, narrow(code)),
        }
    }
}

/// A code of a column whose codes are that wide.
fn narrow<T: TryFrom<usize>>(code: usize) -> T {
    T::try_from(code).unwrap_or_else(|_| unreachable!("codes are as wide as the number of values"))
}

/// The rows whose list holds `text`.
fn containing(text: &str, ends: &Ends, codes: &Codes, values: &Texts) -> Bitmap {
    let mut yes = Bitmap::none(u32::try_from(ends.len()).expect("rows are counted in 32 bits"));
    let Some(code) = place(values, text) else { return yes };
    let mut row = 0;
    for place in codes.places_of(code) {
        // Ends ascend as places do, so one walk finds every row.
        while ends.end(row) <= place {
            row += 1;
        }
        yes.insert(u32::try_from(row).expect("rows are counted in 32 bits"));
    }
    yes
}

#[cfg(test)]
mod tests;
