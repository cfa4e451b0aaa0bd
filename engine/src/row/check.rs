//! What a vector must be before it is written or searched for.

use crate::error::{Error, Result};
use crate::schema::{Metric, Schema};

/// Refuses a vector that the collection cannot hold.
///
/// # Errors
/// `Invalid`: another dimension than the schema's, NaN or infinity, only zeros under cosine.
pub(crate) fn check_vector(schema: &Schema, vector: &[f32]) -> Result<()> {
    let (expected, got) = (usize::from(schema.dim), vector.len());
    if got != expected {
        let message = format!("the vector's dimension is wrong: expected {expected}, got {got}");
        return Err(Error::invalid("AKI-0120", message));
    }
    if let Some(at) = vector.iter().position(|x| !x.is_finite()) {
        let message =
            format!("the vector holds {} at position {at} (from 0); numbers must be finite", vector[at]);
        return Err(Error::invalid("AKI-0121", message));
    }
    if schema.metric == Metric::Cosine && vector.iter().all(|x| *x == 0.0) {
        let message = "the vector is all zeros, which has no direction; this collection compares by cosine";
        return Err(Error::invalid("AKI-0122", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(metric: Metric, vector: &[f32]) -> (&'static str, String) {
        let error = check_vector(&Schema::new(3, metric), vector).unwrap_err();
        (error.code(), error.message().to_owned())
    }

    #[test]
    fn a_wrong_dimension_names_both() {
        let (code, message) = refused(Metric::L2, &[1.0, 2.0]);
        assert_eq!(code, "AKI-0120");
        assert!(message.ends_with("expected 3, got 2"), "{message}");
        assert_eq!(refused(Metric::Dot, &[]).0, "AKI-0120");
    }

    #[test]
    fn a_number_that_is_not_finite_is_named_with_its_position() {
        for (bad, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
            let (code, message) = refused(Metric::Dot, &[1.0, bad, 0.0]);
            assert_eq!(code, "AKI-0121");
            assert!(message.contains(&format!("holds {name} at position 1")), "{message}");
        }
    }

    #[test]
    fn only_cosine_refuses_zeros() {
        assert_eq!(refused(Metric::Cosine, &[0.0, -0.0, 0.0]).0, "AKI-0122");
        for metric in [Metric::L2, Metric::Dot] {
            check_vector(&Schema::new(3, metric), &[0.0; 3]).unwrap();
        }
        check_vector(&Schema::new(3, Metric::Cosine), &[0.0, 1.0e-45, 0.0]).unwrap();
    }
}
