//! `akidb config`: is a settings file right?

use std::path::PathBuf;

use akidb::Settings;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::database::Globals;
use crate::failure::{Failure, Result};

/// Look at a settings file
#[derive(Args, Debug)]
pub(crate) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say whether a settings file is right, and what of it has no effect yet
    Check {
        /// The file; without it the one named by --config
        file: Option<PathBuf>,
    },
}

impl Config {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let What::Check { file } = self.what;
        let file = file.or_else(|| globals.config.clone());
        let file = file.ok_or_else(|| Failure::usage("no file is named; write akidb config check FILE"))?;
        let settings = Settings::from_file(&file)?;
        let output = globals.output();
        let backends: Vec<_> =
            settings.backends.iter().map(|b| json!({ "name": b.name, "url": b.url })).collect();
        let object = json!({
            "file": file, "ok": true, "tiering_policy": settings.tiering.name(), "backends": backends,
            "without_effect": settings.without_effect,
        });
        output.report(&object, &format!("{} is right", file.display()))?;
        if !output.is_json() {
            output.sentence(&format!("segments: {}", settings.tiering.name()))?;
            for backend in &settings.backends {
                output.sentence(&format!("backend {}: {}", backend.name, backend.url))?;
            }
            for key in &settings.without_effect {
                output.sentence(&format!("accepted, but without effect in this version: {key}"))?;
            }
        }
        Ok(())
    }
}
