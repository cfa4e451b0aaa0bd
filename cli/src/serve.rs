//! `akidb serve`: an open database that answers operators over HTTP: its admin routes on one address, its metrics on
//! another.

mod answer;
mod asked;
pub(crate) mod auth;
mod breaker;
mod connections;
mod dlq;
mod journal;
mod metrics;
mod routes;
mod shutdown;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use akidb::Db;
use axum::Router;
use clap::Args;
use serde_json::json;
use tokio::runtime;

use crate::database::Globals;
use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::serve::auth::{Gate, Token};
use crate::serve::connections::Connections;
use crate::serve::shutdown::Shutdown;

/// Keep the database open and answer operators over HTTP, until SIGTERM or ctrl-c
#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Where the admin routes listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where GET /metrics listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9090")]
    metrics_listen: SocketAddr,
    /// Ask for this bearer token. Better by AKIDB_TOKEN or --token-file: other users see the arguments of
    /// a process. AKIDB_TOKEN counts where neither option is given
    #[arg(long, conflicts_with = "token_file")]
    token: Option<String>,
    /// Ask for the bearer token in this file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Listen beyond this machine, and to any host name, without a token
    #[arg(long)]
    insecure: bool,
}

impl Serve {
    pub(crate) fn run(self, globals: &Globals) -> Result<()> {
        let token = Token::asked_for(self.token.as_deref(), self.token_file.as_deref())?;
        for listen in [self.listen, self.metrics_listen] {
            self.refuse_open_door(listen.ip(), token.is_some())?;
        }
        journal::start();
        // Before the database is opened: an address that is taken is told in no time.
        let (admin, metrics) = (bind(self.listen)?, bind(self.metrics_listen)?);
        let (db, _) = globals.open_or_create()?;
        let gate = Gate::new(token, self.insecure);
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|cause| no_runtime(&cause))?;
        let served = runtime.block_on(serve(globals, db, gate, admin, metrics));
        // A blocking call that is still under way is not waited for: what it had to make durable it has made, or not
        // acknowledged.
        runtime.shutdown_background();
        served
    }

    /// Other machines are let in by a token, or by the explicit word that none is wanted.
    fn refuse_open_door(&self, address: IpAddr, has_token: bool) -> Result<()> {
        if address.is_loopback() || has_token || self.insecure {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "{address} lets other machines in, and no token is set; nothing was opened"
        ))
        .help("set AKIDB_TOKEN or --token-file FILE, listen on 127.0.0.1, or say --insecure"))
    }
}

/// What every request works on.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) db: Db,
    pub(crate) gate: Gate,
}

async fn serve(
    globals: &Globals,
    db: Db,
    gate: Gate,
    admin: TcpListener,
    metrics: TcpListener,
) -> Result<()> {
    let shutdown = Shutdown::listen().map_err(|cause| no_runtime(&cause))?;
    let served = Arc::new(Served { db: db.clone(), gate });
    let (admin, metrics) = (Connections::new(admin)?, Connections::new(metrics)?);
    tell_ready(globals, &admin, &metrics)?;
    let admin = answer_on(admin, routes::admin(Arc::clone(&served)), &shutdown);
    let metrics = answer_on(metrics, routes::metrics(Arc::clone(&served)), &shutdown);
    let both = async { tokio::join!(admin, metrics) };
    shutdown.finish(both).await;
    // The rows are on disk whether this is reached or not; closing spares the next open its replay's questions.
    match tokio::task::spawn_blocking(move || db.close()).await {
        Ok(closed) => Ok(closed?),
        Err(panicked) => Err(Failure::broken_promise(format!("closing the database: {panicked}"))),
    }
}

async fn answer_on(connections: Connections, routes: Router, shutdown: &Shutdown) {
    // Never an error: it ends when it is told to.
    let _ = axum::serve(connections, routes).with_graceful_shutdown(shutdown.begun()).await;
}

/// One JSON object on a line, for scripts to wait for, whether or not `--json` was said.
fn tell_ready(globals: &Globals, admin: &Connections, metrics: &Connections) -> Result<()> {
    let object = json!({
        "ready": true,
        "admin": admin.address.to_string(),
        "metrics": metrics.address.to_string(),
        "db": globals.db.to_string_lossy(),
        "pid": std::process::id(),
    });
    Output::new(true).object(&object)
}

fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|cause| {
        Failure::address(format!("cannot listen on {address}: {cause}"))
            .help("name another by --listen or --metrics-listen; port 0 takes a free one")
    })
}

fn no_runtime(cause: &io::Error) -> Failure {
    Failure::address(format!("the server could not be started: {cause}"))
}
