//! `akidb config`: is a settings file right?

use std::path::PathBuf;

use akidb::{BackendKind, Settings};
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
        refuse_unbuilt(&settings)?;
        let output = globals.output();
        let backends: Vec<_> =
            settings.backends.iter().map(|b| json!({ "name": b.name, "url": b.url })).collect();
        let object = json!({
            "file": file.to_string_lossy(), "ok": true, "tiering_policy": settings.tiering.name(), "backends": backends,
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

/// A file with a backend that this build cannot open is right for another build.
fn refuse_unbuilt(settings: &Settings) -> Result<()> {
    let unbuilt = settings.backends.iter().find(|backend| backend.kind == BackendKind::S3 && !akidb::HAS_S3);
    unbuilt.map_or(Ok(()), |backend| {
        Err(Failure::usage(format!(
            "backend {:?} is at {}, and this build has no S3 client: it lacks the feature `s3`",
            backend.name, backend.url
        ))
        .help("build the command with it: cargo build --release -p akidb-cli --features s3"))
    })
}
