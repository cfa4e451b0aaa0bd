//! stub
pub(crate) struct TopK<K, T> {
    items: Vec<(f32, K, T)>,
    k: usize,
}
impl<K: Ord, T> TopK<K, T> {
    pub(crate) fn new(k: usize) -> Self {
        Self { items: Vec::new(), k }
    }
    pub(crate) fn admits(&self, _: f32) -> bool {
        self.k > 0
    }
    pub(crate) fn push(&mut self, s: f32, k: K, t: T) {
        self.items.push((s, k, t))
    }
    pub(crate) fn into_sorted(self) -> Vec<(f32, K, T)> {
        self.items
    }
}
