//! stub
use crate::schema::Metric;
pub(crate) struct Scorer(Metric, Vec<f32>, f32);
impl Scorer {
    pub(crate) fn new(m: Metric, q: &[f32]) -> Self {
        Self(m, q.to_vec(), q.iter().map(|x| x * x).sum::<f32>().sqrt())
    }
    pub(crate) fn dim(&self) -> usize {
        self.1.len()
    }
    pub(crate) fn score(&self, x: &[f32]) -> f32 {
        let dot: f32 = self.1.iter().zip(x).map(|(a, b)| a * b).sum();
        match self.0 {
            Metric::Dot => dot,
            Metric::Cosine => dot / self.2 / x.iter().map(|x| x * x).sum::<f32>().sqrt(),
            Metric::L2 => -self.1.iter().zip(x).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt(),
        }
    }
}
