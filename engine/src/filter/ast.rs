//! A filter as a tree, how it is built by calls, and the text it prints.

use std::fmt;

/// Deepest nesting of `and`, `or`, `not` and parentheses.
pub(super) const MAX_FILTER_DEPTH: usize = 64;

/// Which rows to take. Written as text,
///
/// ```text
/// lang = 'en' and (year >= 2020 or tags contains 'classic') and id not in ('a', 'b') and note is not null
/// ```
///
/// or built by calls: `Filter::eq("lang", "en").and(Filter::ge("year", 2020))`. Its text parses back to it.
///
/// Comparisons are `=`, `!=` (or `<>`), `<`, `<=`, `>`, `>=`, `[not] in (..)`, `is [not] null` and, for lists of
/// text, `contains`; keywords in any case. Texts stand in single quotes, a quote in them doubled; names that are no
/// plain word stand in double quotes. Timestamps are RFC 3339 texts or microseconds since 1970, LSNs
/// `'epoch:counter'`. Besides the declared fields, `id` and `lsn` can be named.
///
/// A comparison with an absent value is neither true nor false, as in SQL, and only rows for which the whole is true
/// are taken: `year != 2020` takes no row without a year, nor does `not (year = 2020)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub(super) expr: Expr,
    /// `and`, `or`, `not` above the deepest comparison.
    depth: usize,
}

/// The tree. `And` and `Or` have at least two parts, none of their own kind.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Compare {
        field: String,
        op: CompareOp,
        value: Literal,
    },
    In {
        field: String,
        values: Vec<Literal>,
        negated: bool,
    },
    Contains {
        field: String,
        value: Literal,
    },
    IsNull {
        field: String,
        negated: bool,
    },
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    /// What a builder makes of anything deeper than the limit; refused when the filter is used.
    TooDeep,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl CompareOp {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

/// A value written in a filter. Made with `into()` from text, integers, floats and booleans.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Literal {
    /// Text, also a timestamp (RFC 3339) or an LSN (`epoch:counter`).
    Text(String),
    /// Integer; for a timestamp, microseconds since 1970.
    Int(i64),
    /// Float; must be finite.
    Float(f64),
    /// True or false.
    Bool(bool),
}

impl Literal {
    /// The kind of it, for messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Bool(_) => "bool",
        }
    }
}

impl Filter {
    pub(super) fn of(expr: Expr) -> Self {
        Self { expr, depth: 0 }
    }

    fn compare(field: impl Into<String>, op: CompareOp, value: impl Into<Literal>) -> Self {
        Self::of(Expr::Compare { field: field.into(), op, value: value.into() })
    }

    /// `field = value`
    #[must_use]
    pub fn eq(field: impl Into<String>, value: impl Into<Literal>) -> Self {
        Self::compare(field, CompareOp::Eq, value)
    }

    /// `field != value`
    #[must_use]
    pub fn ne(field: impl Into<String>, value: impl Into<Literal>) -> Self {
        Self::compare(field, CompareOp::Ne, value)
    }

    /// `field < value`
    #[must_use]
    pub fn lt(field: impl Into<String>, value: impl Into<Literal>) -> Self {
        Self::compare(field, CompareOp::Lt, value)
    }

    /// `field <= value`
    #[must_use]
    pub fn le(field: impl Into<String>, value: impl Into<Literal>) -> Self {
        Self::compare(field, CompareOp::Le, value)
    }

    /// `field > value`
    #[must_use]
    pub fn gt(field: impl Into<String>, value: impl Into<Literal>) -> Self {
        Self::compare(field, CompareOp::Gt, value)
    }

    /// `field >= value`
    #[must_use]
    pub fn ge(field: impl Into<String>, value: impl Into<Literal>) -> Self {
        Self::compare(field, CompareOp::Ge, value)
    }

    /// `field in (values)`. An empty list is refused when the filter is used.
    #[must_use]
    pub fn in_list<L: Into<Literal>>(field: impl Into<String>, values: impl IntoIterator<Item = L>) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        Self::of(Expr::In { field: field.into(), values, negated: false })
    }

    /// `field not in (values)`
    #[must_use]
    pub fn not_in_list<L: Into<Literal>>(
        field: impl Into<String>,
        values: impl IntoIterator<Item = L>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        Self::of(Expr::In { field: field.into(), values, negated: true })
    }

    /// `field contains value`, for a list of text.
    #[must_use]
    pub fn contains(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self::of(Expr::Contains { field: field.into(), value: Literal::Text(value.into()) })
    }

    /// `field is null`
    #[must_use]
    pub fn is_null(field: impl Into<String>) -> Self {
        Self::of(Expr::IsNull { field: field.into(), negated: false })
    }

    /// `field is not null`
    #[must_use]
    pub fn is_not_null(field: impl Into<String>) -> Self {
        Self::of(Expr::IsNull { field: field.into(), negated: true })
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::joined([self, other], true)
    }

    /// Either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::joined([self, other], false)
    }

    /// Parts under one `and` or one `or`; parts of that kind are taken in. One part stays as it is.
    pub(super) fn joined(parts: impl IntoIterator<Item = Self>, is_and: bool) -> Self {
        let mut joined = Vec::new();
        let (mut depth, mut last_depth) = (0, 0);
        for part in parts {
            last_depth = part.depth;
            match part.expr {
                Expr::And(inner) if is_and => {
                    depth = depth.max(part.depth);
                    joined.extend(inner);
                }
                Expr::Or(inner) if !is_and => {
                    depth = depth.max(part.depth);
                    joined.extend(inner);
                }
                other => {
                    depth = depth.max(part.depth + 1);
                    joined.push(other);
                }
            }
        }
        match (joined.len(), is_and) {
            (1, _) => Self { expr: joined.remove(0), depth: last_depth },
            (_, true) => Self::bounded(Expr::And(joined), depth),
            (_, false) => Self::bounded(Expr::Or(joined), depth),
        }
    }

    /// A deeper tree would overflow the stack of whoever walks or drops it.
    fn bounded(expr: Expr, depth: usize) -> Self {
        if depth > MAX_FILTER_DEPTH { Self::of(Expr::TooDeep) } else { Self { expr, depth } }
    }

    /// Whether a builder went deeper than 64.
    pub(super) fn is_too_deep(&self) -> bool {
        fn any(expr: &Expr) -> bool {
            match expr {
                Expr::TooDeep => true,
                Expr::And(parts) | Expr::Or(parts) => parts.iter().any(any),
                Expr::Not(inner) => any(inner),
                _ => false,
            }
        }
        any(&self.expr)
    }
}

impl std::ops::Not for Filter {
    type Output = Self;

    /// The rows for which this is false; those for which it is unknown stay out.
    fn not(self) -> Self {
        Self::bounded(Expr::Not(Box::new(self.expr)), self.depth + 1)
    }
}

impl From<&str> for Literal {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Literal {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Literal {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<i32> for Literal {
    fn from(n: i32) -> Self {
        Self::Int(n.into())
    }
}

impl From<f64> for Literal {
    fn from(x: f64) -> Self {
        Self::Float(x)
    }
}

impl From<bool> for Literal {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

/// The text form. It parses back to the same filter, unless that holds a float that is not finite, an empty list or
/// more than 64 levels: those are refused when the filter is used.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compare { field, op, value } => write!(f, "{} {} {value}", Name(field), op.text()),
            Self::In { field, values, negated } => {
                write!(f, "{} {}in (", Name(field), if *negated { "not " } else { "" })?;
                join(f, values, ", ")?;
                f.write_str(")")
            }
            Self::Contains { field, value } => write!(f, "{} contains {value}", Name(field)),
            Self::IsNull { field, negated } => {
                write!(f, "{} is {}null", Name(field), if *negated { "not " } else { "" })
            }
            Self::And(parts) => join(f, parts.iter().map(|part| Operand(part, true)), " and "),
            Self::Or(parts) => join(f, parts.iter().map(|part| Operand(part, false)), " or "),
            Self::Not(inner) => write!(f, "not {}", Operand(inner, true)),
            Self::TooDeep => write!(f, "(nested over {MAX_FILTER_DEPTH} deep)"),
        }
    }
}

/// A part under an operator; with `true`, under one that binds tighter than `or`.
struct Operand<'a>(&'a Expr, bool);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(Expr::And(_) | Expr::Or(_), true) => write!(f, "({})", self.0),
            Self(expr, _) => expr.fmt(f),
        }
    }
}

fn join<T: fmt::Display>(
    f: &mut fmt::Formatter<'_>,
    parts: impl IntoIterator<Item = T>,
    between: &str,
) -> fmt::Result {
    for (n, part) in parts.into_iter().enumerate() {
        write!(f, "{}{part}", if n == 0 { "" } else { between })?;
    }
    Ok(())
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Int(n) => write!(f, "{n}"),
            // Debug keeps the point or the exponent that tells a float from an integer.
            Self::Float(x) => write!(f, "{x:?}"),
            Self::Bool(b) => write!(f, "{b}"),
        }
    }
}

/// A field's name: bare where that reads back as a name, else in double quotes.
pub(super) struct Name<'a>(pub(super) &'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match super::lex::is_bare_name(self.0) {
            true => f.write_str(self.0),
            false => write!(f, "\"{}\"", self.0.replace('"', "\"\"")),
        }
    }
}
