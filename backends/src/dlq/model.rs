//! Loom models of the queue.
