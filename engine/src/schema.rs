//! What a collection's rows look like: dimension, metric, kind of id and declared fields.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Most declared fields of a collection.
pub const MAX_FIELDS: usize = 1_000;
/// Longest name of a field or collection in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Largest dimension.
pub const MAX_DIM: u16 = 4_096;
/// Names every row has and no field may take.
pub const RESERVED_NAMES: [&str; 4] = ["id", "lsn", "vector", "payload"];

/// How near two vectors are. A score is higher when they are nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Cosine of the angle, in -1..=1. Zero vectors are refused.
    Cosine,
    /// Minus the Euclidean distance (not squared).
    L2,
    /// Inner product.
    Dot,
}

/// What kind of ids a collection has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdKind {
    /// Text of 1 to 512 bytes.
    #[default]
    Text,
    /// 64-bit signed integers.
    Int,
}

/// What a declared field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// UTF-8 text.
    Text,
    /// 64-bit signed integer.
    Int,
    /// 64-bit float, finite.
    Float,
    /// True or false.
    Bool,
    /// Microseconds since the Unix epoch, UTC; RFC 3339 in JSON.
    Timestamp,
    /// A list of texts.
    TextList,
}

impl FieldType {
    /// The word for it in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "int",
            Self::Float => "float",
            Self::Bool => "bool",
            Self::Timestamp => "timestamp",
            Self::TextList => "list of text",
        }
    }
}

/// A declared field: a typed, nullable column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Stable number, never reused inside a collection.
    pub id: u32,
    /// Name, unique whatever its case.
    pub name: String,
    /// Type.
    #[serde(rename = "type")]
    pub field_type: FieldType,
}

/// What a collection's rows look like. Built by chaining: `Schema::new(384, Metric::Cosine).text("lang").int("year")`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Version of this schema inside its collection, from 1.
    pub version: u16,
    /// Numbers in a vector, 1..=4096.
    pub dim: u16,
    /// How vectors are compared.
    pub metric: Metric,
    /// What ids are.
    pub id_kind: IdKind,
    /// Declared fields in order.
    pub fields: Vec<Field>,
    /// The declared timestamp that says when a row expires, if rows of this collection do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_by: Option<String>,
}

impl Schema {
    /// A schema of `dim`-dimensional vectors with text ids and no declared fields.
    #[must_use]
    pub fn new(dim: u16, metric: Metric) -> Self {
        Self { version: 1, dim, metric, id_kind: IdKind::Text, fields: Vec::new(), expires_by: None }
    }

    /// Ids are 64-bit integers.
    #[must_use]
    pub fn int_ids(mut self) -> Self {
        self.id_kind = IdKind::Int;
        self
    }

    /// Declares a field.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, field_type: FieldType) -> Self {
        let id = self.fields.iter().map(|f| f.id).max().unwrap_or(0) + 1;
        self.fields.push(Field { id, name: name.into(), field_type });
        self
    }

    /// Declares a text field.
    #[must_use]
    pub fn text(self, name: impl Into<String>) -> Self {
        self.field(name, FieldType::Text)
    }

    /// Declares an integer field.
    #[must_use]
    pub fn int(self, name: impl Into<String>) -> Self {
        self.field(name, FieldType::Int)
    }

    /// Declares a float field.
    #[must_use]
    pub fn float(self, name: impl Into<String>) -> Self {
        self.field(name, FieldType::Float)
    }

    /// Declares a boolean field.
    #[must_use]
    pub fn bool(self, name: impl Into<String>) -> Self {
        self.field(name, FieldType::Bool)
    }

    /// Declares a timestamp field.
    #[must_use]
    pub fn timestamp(self, name: impl Into<String>) -> Self {
        self.field(name, FieldType::Timestamp)
    }

    /// Declares a field holding a list of texts.
    #[must_use]
    pub fn text_list(self, name: impl Into<String>) -> Self {
        self.field(name, FieldType::TextList)
    }

    /// Lets rows expire: from the time in this declared timestamp on no read shows a row any more, and the database
    /// deletes it soon after. A row without a value there never expires. [`Collection::expire_by`](crate::Collection::expire_by)
    /// does the same to a collection that is there; it stays so for good.
    #[must_use]
    pub fn expires_by(mut self, field: impl Into<String>) -> Self {
        self.expires_by = Some(field.into());
        self
    }

    /// Position of the field that says when a row expires.
    pub(crate) fn expiry(&self) -> Option<usize> {
        self.position(self.expires_by.as_deref()?)
    }

    /// Position of a declared field in [`Schema::fields`].
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// Refuses a schema that cannot be stored.
    ///
    /// # Errors
    /// `Invalid`: dimension outside 1..=4096, over 1,000 fields, a name that is empty, too long, reserved or
    /// differs from another only in case; rows that expire by something else than a declared timestamp.
    pub fn check(&self) -> Result<()> {
        if self.dim == 0 || self.dim > MAX_DIM {
            let message = format!("dimension {} is outside 1..={MAX_DIM}", self.dim);
            return Err(Error::invalid("AKI-0110", message));
        }
        if self.fields.len() > MAX_FIELDS {
            let message = format!("{} fields declared, at most {MAX_FIELDS}", self.fields.len());
            return Err(Error::invalid("AKI-0111", message));
        }
        for (at, field) in self.fields.iter().enumerate() {
            check_name("field", &field.name)?;
            let lower = field.name.to_lowercase();
            if RESERVED_NAMES.contains(&lower.as_str()) {
                let message =
                    format!("field name \"{}\" is reserved ({})", field.name, RESERVED_NAMES.join(", "));
                return Err(Error::invalid("AKI-0112", message));
            }
            if self.fields[..at].iter().any(|f| f.name.to_lowercase() == lower || f.id == field.id) {
                let message =
                    format!("field \"{}\" is declared twice (case does not tell names apart)", field.name);
                return Err(Error::invalid("AKI-0113", message));
            }
        }
        self.check_expiry()
    }

    fn check_expiry(&self) -> Result<()> {
        let Some(name) = &self.expires_by else { return Ok(()) };
        let what = match self.position(name).map(|at| self.fields[at].field_type) {
            Some(FieldType::Timestamp) => return Ok(()),
            Some(other) => format!("it is declared as {}", other.name()),
            None => "there is no field of that name".to_owned(),
        };
        let message = format!("rows cannot expire by \"{name}\": {what}");
        Err(Error::invalid("AKI-0278", message).help_is("declare it as a timestamp"))
    }
}

/// Refuses an empty name, one over 128 bytes, or one with control characters.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let shown: String = name.chars().take(40).collect();
        let message = format!(
            "{what} name {shown:?}: a name has 1 to {MAX_NAME_BYTES} bytes and no control characters"
        );
        return Err(Error::invalid("AKI-0114", message));
    }
    Ok(())
}
