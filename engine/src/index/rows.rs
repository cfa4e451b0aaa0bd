//! The rows an index is built from, as codes see them: normalised under cosine, rotated.

use crate::distance::Kernel;
use crate::index::code;
use crate::index::rotation::Rotation;
use crate::schema::Metric;

/// Squared norms that f32 arithmetic on codes holds; beyond them rows are searched exactly.
const NORM_SQUARED: std::ops::RangeInclusive<f32> = 1e-24..=1e24;

/// Vectors by row number, lying wherever they lie.
#[derive(Clone, Copy)]
pub(crate) struct CodeRows<'a> {
    kernel: Kernel,
    metric: Metric,
    rotation: &'a Rotation,
    vectors: &'a [&'a [f32]],
    go_on: &'a dyn Fn() -> bool,
}

/// Rows between two looks at whether an index is still wanted.
const LOOK_EVERY: u32 = 256;

impl<'a> CodeRows<'a> {
    /// `None` if a row's magnitude is beyond what codes hold. `go_on` says whether the index is still wanted.
    pub(crate) fn new(
        kernel: Kernel,
        metric: Metric,
        rotation: &'a Rotation,
        vectors: &'a [&'a [f32]],
        go_on: &'a dyn Fn() -> bool,
    ) -> Option<Self> {
        let rows = Self { kernel, metric, rotation, vectors, go_on };
        let fits = vectors.iter().all(|vector| can_code(kernel, metric, vector));
        fits.then_some(rows)
    }

    /// Whether the index is still wanted, looked at before every 256th row.
    pub(crate) fn go_on_at(&self, row: u32) -> bool {
        !row.is_multiple_of(LOOK_EVERY) || (self.go_on)()
    }

    pub(crate) fn len(&self) -> usize {
        self.vectors.len()
    }

    pub(crate) fn coded(&self) -> usize {
        self.rotation.coded()
    }

    pub(crate) fn vector(&self, row: u32) -> &'a [f32] {
        self.vectors[row as usize]
    }

    /// Squared norm in the space of the codes.
    pub(crate) fn norm_squared(&self, row: u32) -> f32 {
        let vector = self.vector(row);
        if self.metric == Metric::Cosine { 1.0 } else { norm_squared(self.kernel, vector) }
    }

    /// Writes the rotated row.
    pub(crate) fn rotated(&self, row: u32, out: &mut [f32]) {
        rotate(self.kernel, self.metric, self.rotation, self.vector(row), out);
    }
}

/// `|x|^2` with products that are rounded: the same on every machine, as bytes of an index depend on it.
fn norm_squared(kernel: Kernel, vector: &[f32]) -> f32 {
    kernel.vectorised(
        #[inline(always)]
        || code::sum(vector, vector, |a, b| a * b),
    )
}

/// Whether codes hold a vector of this magnitude.
pub(crate) fn can_code(kernel: Kernel, metric: Metric, vector: &[f32]) -> bool {
    let norm_squared = kernel.dot(vector, vector);
    NORM_SQUARED.contains(&norm_squared) || (metric != Metric::Cosine && norm_squared == 0.0)
}

/// Rotates a vector, normalised under cosine; gives its norm in the space of the codes.
pub(crate) fn rotate(
    kernel: Kernel,
    metric: Metric,
    rotation: &Rotation,
    vector: &[f32],
    out: &mut [f32],
) -> f32 {
    let norm = norm_squared(kernel, vector).sqrt();
    let (scale, norm) = if metric == Metric::Cosine { (1.0 / norm, 1.0) } else { (1.0, norm) };
    rotation.apply(kernel, vector, scale, out);
    norm
}
