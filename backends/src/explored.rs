//! What the models of loom share: running one, and saying that it ran.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs a model through every interleaving within `LOOM_MAX_PREEMPTIONS` and prints how many there were.
///
/// # Panics
/// If the model does not hold, or if there was nothing to explore.
pub(crate) fn explore(name: &str, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&executions);
    loom::model(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let executions = executions.load(Ordering::Relaxed);
    println!("model {name}: {executions} executions");
    assert!(executions > 1, "{name}: a single execution explores nothing");
}
