//! `akidb breaker`: the circuit breakers of a running `akidb serve`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::database::Globals;
use crate::failure::{Failure, Result};
use crate::letters;
use crate::output::Output;

/// Look at the circuit breakers of a running `akidb serve`, and turn them
#[derive(Args, Debug)]
pub(crate) struct Breaker {
    #[command(flatten)]
    admin: Admin,
    #[command(subcommand)]
    what: What,
}

/// Which breakers are meant; all, if nothing is said.
#[derive(Args, Clone, Debug)]
struct Which {
    /// Of the backend of this name
    #[arg(long, value_name = "NAME")]
    of: Option<String>,
    /// For these calls: upload, download or list_delete
    #[arg(long)]
    kind: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How each stands
    Show,
    /// Close them with an empty window; they open by themselves again
    Reset(Which),
    /// Refuse every call until a reset
    Open(Which),
    /// Let every call through until a reset, whatever happens
    Close(Which),
}

impl Breaker {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let (path, which) = match &self.what {
            What::Show => ("/admin/breaker", None),
            What::Reset(which) => ("/admin/breaker/reset", Some(which)),
            What::Open(which) => ("/admin/breaker/open", Some(which)),
            What::Close(which) => ("/admin/breaker/close", Some(which)),
        };
        if let Some(kind) = which.and_then(|which| which.kind.as_deref()) {
            letters::kind(kind)?;
        }
        let Some(server) = self.admin.server()? else {
            return Err(Failure::in_process(
                "breakers live in the process that has the database open, and nothing of them is on disk",
            )
            .help("name its address: `akidb breaker show --admin http://127.0.0.1:8080`, or AKIDB_ADMIN"));
        };
        let value = match which {
            None => server.ask("GET", path, &Value::Null)?,
            Some(which) => server.ask("POST", path, &json!({ "backend": which.of, "kind": which.kind }))?,
        };
        tell(globals.output(), &value)
    }
}

fn tell(output: Output, value: &Value) -> Result<()> {
    let breakers = value["breakers"].as_array().map_or(&[][..], Vec::as_slice);
    if output.is_json() {
        return breakers.iter().try_for_each(|breaker| output.object(breaker));
    }
    if let Some(changed) = value["changed"].as_u64() {
        output.sentence(&format!("{changed} breakers changed"))?;
    }
    if breakers.is_empty() {
        return output.sentence(&"no backend, no breaker");
    }
    let header =
        ["backend", "kind", "state", "reason", "error rate", "retry in s", "failed", "refused", "opened"];
    output.table(&header, breakers.iter().map(row))
}

fn row(breaker: &Value) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let number = |key: &str| format!("{:.3}", breaker[key].as_f64().unwrap_or(0.0));
    let state = match breaker["bypassed"].as_bool() {
        Some(true) => "closed (held)".to_owned(),
        _ => text(&breaker["state"]),
    };
    let totals = &breaker["totals"];
    vec![
        text(&breaker["backend"]),
        text(&breaker["kind"]),
        state,
        text(&breaker["reason"]),
        number("error_rate"),
        number("retry_in_secs"),
        text(&totals["failures"]),
        text(&totals["refused"]),
        text(&totals["opened"]),
    ]
}
