//! `akidb ls`: the collections, or the rows of one in id order.

use akidb::{Collection, CollectionStats, Db, Schema};
use clap::Args;
use serde_json::json;

use crate::at::At;
use crate::database::Globals;
use crate::failure::{Failure, Result};
use crate::output::thousands;
use crate::row_text::{self, type_word};
use crate::rows::{self, RowObject};

/// List the collections, or the rows of one in id order
#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Collection whose rows are listed
    collection: Option<String>,
    /// Only rows that match, such as "lang = 'en' and year > 2020"
    #[arg(long, value_name = "FILTER", requires = "collection")]
    filter: Option<String>,
    /// Only rows with ids above this one: the last id of the page before
    #[arg(long, value_name = "ID", requires = "collection", allow_hyphen_values = true)]
    after: Option<String>,
    /// At most this many rows
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Print the vectors too
    #[arg(long, requires = "collection")]
    with_vector: bool,
    #[command(flatten)]
    at: At,
}

impl Ls {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let db = globals.open_for_reading()?;
        match &self.collection {
            None => self.collections(globals, &db),
            Some(name) => self.rows(globals, &self.at.collection(globals, &db, name)?),
        }
    }

    fn collections(&self, globals: &Globals, db: &Db) -> Result<()> {
        let mut all = Vec::new();
        match self.at.open(globals, db)? {
            None => {
                for stats in db.stats()?.collections {
                    let schema = db.collection(&stats.name)?.schema()?;
                    all.push(Listed::of_now(stats, schema));
                }
            }
            Some(snapshot) => {
                for name in snapshot.collections()? {
                    let rows = snapshot.collection(&name)?;
                    all.push(Listed { rows: rows.count()?, schema: rows.schema()?, name, segments: None });
                }
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let output = globals.output();
        if output.is_json() {
            return all.iter().try_for_each(|listed| output.object(&listed.object()));
        }
        if all.is_empty() {
            return Ok(());
        }
        output.table(
            &["collection", "rows", "dim", "metric", "ids", "fields", "segments"],
            all.iter().map(Listed::cells),
        )
    }

    fn rows(&self, globals: &Globals, rows: &Collection) -> Result<()> {
        let mut scan = rows.scan().limit(self.limit);
        if let Some(filter) = &self.filter {
            scan = scan.filter(filter.as_str());
        }
        if let Some(after) = &self.after {
            scan = scan.after(row_text::id(after, rows.schema()?.id_kind)?);
        }
        let page = scan.run()?;
        let objects: Vec<RowObject<'_>> =
            page.iter().map(|row| RowObject::of_row(row, self.with_vector)).collect();
        rows::print(globals.output(), &objects)?;
        match page.last() {
            None => return Err(Failure::not_found("no row matches")),
            Some(last) if page.len() == self.limit => {
                let after = format!("--after={}", last.id);
                let after = akidb::shell_word(after.as_ref());
                globals.output().aside(&format!("there may be more: {after}"));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

/// A collection, as it is listed.
struct Listed {
    name: String,
    rows: u64,
    schema: Schema,
    /// How many there are and their bytes; not told of another moment.
    segments: Option<(usize, u64)>,
}

impl Listed {
    fn of_now(stats: CollectionStats, schema: Schema) -> Self {
        let segments = Some((stats.segments, stats.segment_bytes));
        Self { name: stats.name, rows: stats.rows, schema, segments }
    }

    fn object(&self) -> serde_json::Value {
        let schema = &self.schema;
        let field = |f: &akidb::Field| json!({ "name": f.name, "type": type_word(f.field_type) });
        let mut object = json!({
            "name": self.name, "rows": self.rows, "dim": schema.dim, "metric": schema.metric,
            "ids": schema.id_kind, "fields": schema.fields.iter().map(field).collect::<Vec<_>>(),
        });
        if let Some(field) = &schema.expires_by {
            object["expires_by"] = json!(field);
        }
        if let Some((segments, bytes)) = self.segments {
            object["segments"] = json!(segments);
            object["segment_bytes"] = json!(bytes);
        }
        object
    }

    fn cells(&self) -> Vec<String> {
        let schema = &self.schema;
        let field = |f: &akidb::Field| {
            let expires = if schema.expires_by.as_ref() == Some(&f.name) { " (expires)" } else { "" };
            format!("{}:{}{expires}", f.name, type_word(f.field_type))
        };
        let fields: Vec<String> = schema.fields.iter().map(field).collect();
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        vec![
            self.name.clone(),
            thousands(self.rows),
            schema.dim.to_string(),
            word(json!(schema.metric)),
            word(json!(schema.id_kind)),
            fields.join(" "),
            self.segments.map_or_else(String::new, |(segments, _)| segments.to_string()),
        ]
    }
}
