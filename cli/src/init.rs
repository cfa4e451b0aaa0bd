//! `akidb init`: a new database, and a collection in it if one is named.

use akidb::{Metric, Schema};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::database::Globals;
use crate::failure::{Failure, Result};
use crate::row_text;

/// How vectors are compared.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MetricWord {
    /// Cosine of the angle
    Cosine,
    /// Euclidean distance
    L2,
    /// Inner product
    Dot,
}

impl From<MetricWord> for Metric {
    fn from(word: MetricWord) -> Self {
        match word {
            MetricWord::Cosine => Self::Cosine,
            MetricWord::L2 => Self::L2,
            MetricWord::Dot => Self::Dot,
        }
    }
}

/// Make a database, and a collection in it
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// Collection to create
    #[arg(requires = "dim")]
    collection: Option<String>,
    /// Numbers in a vector
    #[arg(long, value_name = "N", requires = "collection")]
    dim: Option<u16>,
    /// How vectors are compared
    #[arg(long, value_enum, default_value = "cosine")]
    metric: MetricWord,
    /// A typed field: text, int, float, bool, timestamp or text_list (repeatable)
    #[arg(long = "field", value_name = "NAME:TYPE")]
    fields: Vec<String>,
    /// The timestamp field that says when a row expires; from then on it is hidden, and soon deleted
    #[arg(long, value_name = "FIELD", requires = "dim")]
    expires_by: Option<String>,
    /// Ids are 64-bit integers instead of text
    #[arg(long)]
    int_ids: bool,
}

impl Init {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let schema = match self.dim {
            Some(dim) => {
                Some(schema(dim, self.metric, &self.fields, self.expires_by.as_deref(), self.int_ids)?)
            }
            None if !self.fields.is_empty() => {
                return Err(Failure::usage(
                    "--field needs a collection: akidb init NAME --dim N --field ...",
                ));
            }
            None => None,
        };
        let (db, made) = globals.open_or_create()?;
        if let (Some(name), Some(schema)) = (&self.collection, schema) {
            db.create_collection(name, schema)?;
        }
        db.close()?;
        let dir = globals.db.display();
        let object = json!({ "db": dir.to_string(), "created": made, "collection": self.collection });
        let what = if made { "made a database in" } else { "there is a database in" };
        let with = self.collection.map_or(String::new(), |name| format!(", with collection \"{name}\""));
        globals.output().report(&object, &format!("{what} {dir}{with}"))
    }
}

/// The schema these options describe, checked.
pub(crate) fn schema(
    dim: u16,
    metric: MetricWord,
    fields: &[String],
    expires_by: Option<&str>,
    int_ids: bool,
) -> Result<Schema> {
    let schema = Schema::new(dim, metric.into());
    let schema = if int_ids { schema.int_ids() } else { schema };
    let mut schema = row_text::fields(schema, fields)?;
    if let Some(field) = expires_by {
        schema = schema.expires_by(field);
    }
    schema.check()?;
    Ok(schema)
}
