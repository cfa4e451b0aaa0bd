//! `akidb ls`: the collections, or the rows of one in id order.

use akidb::{Collection, CollectionStats, Schema};
use clap::Args;
use serde_json::json;

use crate::database::{Globals, collection};
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
    #[arg(long, value_name = "ID", requires = "collection", allow_negative_numbers = true)]
    after: Option<String>,
    /// At most this many rows
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Print the vectors too
    #[arg(long, requires = "collection")]
    with_vector: bool,
}

impl Ls {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        match &self.collection {
            None => collections(globals),
            Some(name) => {
                let db = globals.open_for_reading()?;
                self.rows(globals, &collection(&db, name)?)
            }
        }
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
                globals.output().aside(&format!("there may be more: --after '{}'", last.id));
            }
            Some(_) => {}
        }
        Ok(())
    }
}

fn collections(globals: &Globals) -> Result<()> {
    let db = globals.open_for_reading()?;
    let output = globals.output();
    let mut table = Vec::new();
    let mut all = db.stats()?.collections;
    all.sort_by(|a, b| a.name.cmp(&b.name));
    for stats in all {
        let schema = db.collection(&stats.name)?.schema()?;
        if output.is_json() {
            output.object(&object(&stats, &schema))?;
        } else {
            table.push(cells(&stats, &schema));
        }
    }
    if !output.is_json() && !table.is_empty() {
        output.table(&["collection", "rows", "dim", "metric", "ids", "fields", "segments"], table)?;
    }
    Ok(())
}

fn object(stats: &CollectionStats, schema: &Schema) -> serde_json::Value {
    let fields: Vec<_> =
        schema.fields.iter().map(|f| json!({ "name": f.name, "type": type_word(f.field_type) })).collect();
    json!({
        "name": stats.name, "rows": stats.rows, "dim": schema.dim, "metric": schema.metric,
        "ids": schema.id_kind, "fields": fields, "segments": stats.segments,
        "segment_bytes": stats.segment_bytes,
    })
}

fn cells(stats: &CollectionStats, schema: &Schema) -> Vec<String> {
    let fields: Vec<String> =
        schema.fields.iter().map(|f| format!("{}:{}", f.name, type_word(f.field_type))).collect();
    let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    vec![
        stats.name.clone(),
        thousands(stats.rows),
        schema.dim.to_string(),
        word(json!(schema.metric)),
        word(json!(schema.id_kind)),
        fields.join(" "),
        stats.segments.to_string(),
    ]
}
