//! `akidb drill outage`: the backend goes away for an hour, in seconds, and every figure of what that did is computed.

use std::path::{Path, PathBuf};

use akidb_benches::{
    DrillError, OutageFigures, OutagePlan, PoisonFigures, PoisonPlan, Trouble, drill_outage, drill_poison,
};
use akidb_host::Rng;
use clap::{Args, Subcommand, ValueEnum};
use tempfile::TempDir;

use crate::database::Globals;
use crate::failure::{Failure, Result};
use crate::output::Output;

/// Play a bad day through and see what it does to rows, memory and requests
#[derive(Args, Debug)]
pub(crate) struct Drill {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Outage(Outage),
}

/// Take a backend away under writes and searches, for an hour that passes in seconds, and give it back
///
/// A database and its backend are made in a directory of their own. Dead: nobody listens. Failing: 49, or 51, of each
/// hundred calls fail. Denied: every call is answered with 403. Poison: the backend is well and refuses
/// every file. Without `--scenario` all are played, and the last line of `--json` is of the dead backend.
#[derive(Args, Debug)]
struct Outage {
    /// What is wrong with the backend
    #[arg(long, value_enum, default_value_t = Scenario::All)]
    scenario: Scenario,
    /// Length of the outage in simulated hours
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Simulated seconds in one of this machine's
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    speed: u32,
    /// Replay the rows and queries of this run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Directory to work in; everything made in it is removed (the machine's for temporary files)
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// All of these in turn
    All,
    /// Nobody listens
    Dead,
    /// 49 of each 100 calls fail: no breaker opens
    #[value(name = "failing-49")]
    Failing49,
    /// 51 of each 100 calls fail: a breaker opens
    #[value(name = "failing-51")]
    Failing51,
    /// Every call is answered with 403
    Denied,
    /// The backend is well, and refuses 20,000 files; there is room for 10,000 dead letters
    Poison,
}

impl Scenario {
    /// The one whose result is the last line comes last.
    fn troubles(self) -> Vec<Trouble> {
        match self {
            Self::All => vec![Trouble::Failing(49), Trouble::Failing(51), Trouble::Denied, Trouble::Dead],
            Self::Dead => vec![Trouble::Dead],
            Self::Failing49 => vec![Trouble::Failing(49)],
            Self::Failing51 => vec![Trouble::Failing(51)],
            Self::Denied => vec![Trouble::Denied],
            Self::Poison => Vec::new(),
        }
    }

    fn poisons(self) -> bool {
        matches!(self, Self::All | Self::Poison)
    }
}

impl Drill {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        match self.what {
            What::Outage(verb) => verb.run(globals.output()),
        }
    }
}

impl Outage {
    fn run(self, output: Output) -> Result<()> {
        if !(self.hours > 0.0 && self.hours <= 24.0) {
            return Err(Failure::usage(format!("--hours {}: more than 0, at most 24", self.hours)));
        }
        let seed = self.seed.unwrap_or_else(|| Rng::from_machine().u64());
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let mut broken = Vec::new();
        if self.scenario.poisons() {
            let plan = PoisonPlan { files: 20_000, max_letters: 10_000, speed: self.speed, seed };
            let home = home(&parent)?;
            let figures = drill_poison(home.path(), &plan).map_err(|error| failure(&home, error))?;
            tell_poison(output, &figures)?;
            broken.extend(figures.broken_promises(&plan));
        }
        for trouble in self.scenario.troubles() {
            let home = home(&parent)?;
            let plan = OutagePlan {
                dir: home.path().to_path_buf(),
                trouble,
                outage_seconds: self.hours * 3_600.0,
                speed: self.speed,
                seed,
            };
            let figures = drill_outage(&plan).map_err(|error| failure(&home, error))?;
            tell(output, &figures)?;
            broken.extend(figures.broken_promises());
        }
        match broken.is_empty() {
            true => Ok(()),
            false => Err(Failure::broken_promise(broken.join("; ")).note(format!("seed {seed}"))),
        }
    }
}

fn home(parent: &Path) -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix("akidb-drill-").tempdir_in(parent);
    made.map_err(|cause| Failure::io(parent, "making a directory", &cause))
}

fn failure(home: &TempDir, error: DrillError) -> Failure {
    match error {
        DrillError::Db(error) => Failure::from(error),
        DrillError::Backend(error) => {
            Failure::io(home.path(), "the drill's backend", &std::io::Error::other(error.to_string()))
        }
        DrillError::Machine(cause) => Failure::io(home.path(), "the drill", &cause),
    }
}

fn tell_poison(output: Output, figures: &PoisonFigures) -> Result<()> {
    if output.is_json() {
        return output.object(figures);
    }
    output.sentence(&format!(
        "poison: {} files refused: {} letters, {} evicted, {} files still pending\n  mended, and all asked for again: {} \
         puts, {} {} s, {} letters left",
        figures.files,
        figures.letters,
        figures.evictions,
        figures.pending,
        figures.puts_after_mending,
        if figures.published { "all up after" } else { "not all up after" },
        figures.retry_all_seconds,
        figures.letters_left,
    ))
}

fn tell(output: Output, figures: &OutageFigures) -> Result<()> {
    if output.is_json() {
        return output.object(figures);
    }
    let opened = match figures.opened_after_seconds {
        Some(seconds) => format!("opened after {seconds} s"),
        None => "stayed closed".to_owned(),
    };
    output.sentence(&format!(
        "{}: {} writes ({} failed), {} searches ({} failed), {} rows lost\n  breaker {opened}, {} requests ({} while \
         open), {} dead letters ({} left)\n  memory {:+.1} MiB; backlog of {} files {} {} s",
        figures.scenario,
        figures.writes,
        figures.failed_writes,
        figures.searches,
        figures.failed_searches,
        figures.lost_rows,
        figures.requests,
        figures.requests_while_open,
        figures.dead_letters_from_outage,
        figures.dead_letters_left,
        figures.rss_growth_mib,
        figures.backlog_files,
        if figures.drained { "gone after" } else { "not gone after" },
        figures.drain_seconds,
    ))
}
