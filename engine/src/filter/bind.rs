//! A filter made ready for one schema: names become places, values are checked against types.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::filter::ast::{CompareOp, Expr, Filter, Literal, Name};
use crate::filter::canonical::canonical;
use crate::filter::eval::{Node, Number, Source, Test};
use crate::filter::parse::too_deep;
use crate::lsn::Lsn;
use crate::row;
use crate::schema::{FieldType, IdKind, Schema};

/// Most names listed in a message.
const LISTED_NAMES: usize = 20;

/// A filter bound to a schema: it holds positions of that schema's fields.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(super) root: Node,
    key: Arc<[u8]>,
}

impl Filter {
    /// Makes the filter ready for rows of this schema.
    ///
    /// # Errors
    /// `Invalid`: a name that is no field (with the ones that are), an operator or value that does not go with the
    /// field's type, an empty list, more than 64 levels.
    pub(crate) fn bind(&self, schema: &Schema) -> Result<Bound> {
        if self.is_too_deep() {
            return Err(too_deep());
        }
        let root = Binder { schema }.node(&self.expr)?;
        let key = canonical(&root).into();
        Ok(Bound { root, key })
    }
}

impl Bound {
    /// Bytes that tell it from filters of the same schema that ask something else.
    pub(crate) fn key(&self) -> &Arc<[u8]> {
        &self.key
    }
}

/// What values of a name are compared as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Field(FieldType),
    Id(IdKind),
    Lsn,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Field(field_type) => field_type.name(),
            Self::Id(IdKind::Text) => FieldType::Text.name(),
            Self::Id(IdKind::Int) => FieldType::Int.name(),
            Self::Lsn => "LSN ('epoch:counter')",
        }
    }
}

struct Binder<'a> {
    schema: &'a Schema,
}

impl Binder<'_> {
    fn node(&self, expr: &Expr) -> Result<Node> {
        Ok(match expr {
            Expr::And(parts) => Node::And(parts.iter().map(|part| self.node(part)).collect::<Result<_>>()?),
            Expr::Or(parts) => Node::Or(parts.iter().map(|part| self.node(part)).collect::<Result<_>>()?),
            Expr::Not(inner) => Node::Not(Box::new(self.node(inner)?)),
            Expr::IsNull { field, negated } => {
                let (source, _) = self.resolve(field)?;
                Node::Test(source, Test::IsNull { negated: *negated })
            }
            Expr::Contains { field, value } => {
                let (source, kind) = self.resolve(field)?;
                Node::Test(source, contains(field, kind, value)?)
            }
            Expr::Compare { field, op, value } => {
                let (source, kind) = self.resolve(field)?;
                Node::Test(source, compare(field, kind, *op, value)?)
            }
            Expr::In { field, values, negated } => {
                let (source, kind) = self.resolve(field)?;
                Node::Test(source, in_list(field, kind, values, *negated)?)
            }
            Expr::TooDeep => return Err(too_deep()),
        })
    }

    fn resolve(&self, name: &str) -> Result<(Source, Kind)> {
        if let Some(position) = self.schema.position(name) {
            return Ok((Source::Field(position), Kind::Field(self.schema.fields[position].field_type)));
        }
        match name {
            "id" => Ok((Source::Id, Kind::Id(self.schema.id_kind))),
            "lsn" => Ok((Source::Lsn, Kind::Lsn)),
            _ => Err(unknown_field(self.schema, name)),
        }
    }
}

fn unknown_field(schema: &Schema, name: &str) -> Error {
    let names = || schema.fields.iter().map(|field| field.name.as_str()).chain(["id", "lsn"]);
    let likeness = |known: &str| strsim::jaro_winkler(&known.to_lowercase(), &name.to_lowercase());
    let nearest = names().map(|known| (likeness(known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    let shown: String = name.chars().take(40).collect();
    let mut message = format!("unknown field {shown:?}");
    if let Some((likeness, known)) = nearest
        && likeness > 0.8
    {
        let _ = write!(message, "; did you mean {}?", Name(known));
    }
    let listed: Vec<String> = names().take(LISTED_NAMES).map(|known| Name(known).to_string()).collect();
    let _ = write!(message, "; the fields are {}", listed.join(", "));
    match names().count() - listed.len() {
        0 => {}
        more => _ = write!(message, " and {more} more"),
    }
    Error::invalid("AKI-0153", message).help_is(
        "only fields declared in the schema can be filtered; other payload keys are stored, not indexed",
    )
}

fn wrong(field: &str, kind: Kind, what: impl std::fmt::Display) -> Error {
    Error::invalid("AKI-0154", format!("{} is {}: {what}", Name(field), kind.name()))
}

fn wrong_value(field: &str, kind: Kind, value: &Literal) -> Error {
    wrong(field, kind, format_args!("it cannot be compared with {} {value}", value.name()))
}

fn contains(field: &str, kind: Kind, value: &Literal) -> Result<Test> {
    match (kind, value) {
        (Kind::Field(FieldType::TextList), Literal::Text(text)) => Ok(Test::Contains(text.as_str().into())),
        (Kind::Field(FieldType::TextList), _) => Err(wrong_value(field, kind, value)),
        _ => Err(wrong(field, kind, "`contains` is for lists of text")),
    }
}

fn compare(field: &str, kind: Kind, op: CompareOp, value: &Literal) -> Result<Test> {
    match Operand::of(field, kind, value)? {
        Operand::Text(text) => Ok(Test::Text(op, text)),
        Operand::Number(number) => Ok(Test::Number(op, number)),
        Operand::Bool(value) => match op {
            CompareOp::Eq => Ok(Test::Bool(value)),
            CompareOp::Ne => Ok(Test::Bool(!value)),
            _ => Err(wrong(field, kind, format_args!("`{}` does not order it; use = or !=", op.text()))),
        },
    }
}

fn in_list(field: &str, kind: Kind, values: &[Literal], negated: bool) -> Result<Test> {
    let (mut texts, mut numbers, mut bools) = (Vec::new(), Vec::new(), [false; 2]);
    for value in values {
        match Operand::of(field, kind, value)? {
            Operand::Text(text) => texts.push(text),
            Operand::Number(number) => numbers.push(number),
            Operand::Bool(value) => bools[usize::from(value)] = true,
        }
    }
    if values.is_empty() {
        return Err(wrong(field, kind, "the list after `in` is empty"));
    }
    // All values of one field came out as one kind of operand.
    if !texts.is_empty() {
        texts.sort_unstable();
        return Ok(Test::TextIn { texts: texts.into(), negated });
    }
    if !numbers.is_empty() {
        numbers.sort_unstable_by(Number::total_cmp);
        return Ok(Test::NumberIn { numbers: numbers.into(), negated });
    }
    Ok(Test::BoolIn { bools, negated })
}

/// A literal as values of its field are compared with it.
enum Operand {
    Text(Box<str>),
    Number(Number),
    Bool(bool),
}

impl Operand {
    fn of(field: &str, kind: Kind, value: &Literal) -> Result<Self> {
        let number = |number| Ok(Self::Number(number));
        match (kind, value) {
            (Kind::Field(FieldType::TextList), _) => {
                Err(wrong(field, kind, "it is searched with `contains` alone"))
            }
            (Kind::Field(FieldType::Text) | Kind::Id(IdKind::Text), Literal::Text(text)) => {
                Ok(Self::Text(text.as_str().into()))
            }
            (Kind::Field(FieldType::Int | FieldType::Float) | Kind::Id(IdKind::Int), Literal::Int(n)) => {
                number(Number::Int(*n))
            }
            (Kind::Field(FieldType::Int | FieldType::Float) | Kind::Id(IdKind::Int), Literal::Float(x)) => {
                match x.is_finite() {
                    true => number(Number::Float(*x)),
                    false => Err(wrong(field, kind, format_args!("{x} is not a finite number"))),
                }
            }
            (Kind::Field(FieldType::Bool), Literal::Bool(value)) => Ok(Self::Bool(*value)),
            (Kind::Field(FieldType::Timestamp) | Kind::Lsn, Literal::Int(n)) => number(Number::Int(*n)),
            (Kind::Field(FieldType::Timestamp), Literal::Text(text)) => match row::parse_timestamp(text) {
                Some(micros) => number(Number::Int(micros)),
                None => Err(bad_text(value, "a timestamp; write it like '2024-05-01T12:30:00Z'")),
            },
            (Kind::Lsn, Literal::Text(text)) => match text.parse::<Lsn>() {
                Ok(lsn) => number(Number::Int(lsn.as_i64())),
                Err(_) => Err(bad_text(value, "an LSN; write it like '3:41' (epoch:counter)")),
            },
            _ => Err(wrong_value(field, kind, value)),
        }
    }
}

fn bad_text(value: &Literal, what: &str) -> Error {
    Error::invalid("AKI-0155", format!("{value} is not {what}"))
}

#[cfg(test)]
mod tests;
