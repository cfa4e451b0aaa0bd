//! Tests of deletion vectors.
