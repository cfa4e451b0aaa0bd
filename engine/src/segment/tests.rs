//! Tests of whole segments.
