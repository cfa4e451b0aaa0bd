//! Reads the two sections of an index as a search does, without its segment: for tests of bytes that may be anything.

use crate::distance::Kernel;
use crate::index::candidates::Candidates;
use crate::index::coarse::CoarseScratch;
use crate::index::head;
use crate::index::lists::Asked;
use crate::index::rotation::Rotation;

/// Scans every list of an index for the nearest rows to a fixed query. Gives the rows it would compare, nearest
/// estimate first.
///
/// # Errors
/// What is wrong with `head`.
pub fn scan_everything(head: &[u8], codes: &[u8]) -> Result<Vec<u32>, &'static str> {
    let (lists, key) = head::decode(head, codes.len() as u64)?;
    let rotation = Rotation::new(lists.dim, key.seed);
    if rotation.coded() != lists.coded() {
        return Err("has vectors of another length than its rotation gives");
    }
    let kernel = Kernel::best();
    let query: Vec<f32> = (0..lists.dim).map(|at| if at % 3 == 0 { 1.0 } else { -0.5 }).collect();
    let mut rotated = vec![0.0; rotation.coded()];
    let norm = super::rows::rotate(kernel, lists.metric, &rotation, &query, &mut rotated);
    let (mut asked, mut near) = (Asked::default(), Vec::new());
    lists.ask(kernel, &rotated, norm, &mut asked);
    lists.nearest(kernel, &asked, u32::MAX, &mut CoarseScratch::default(), &mut near);
    let mut candidates = Candidates::default();
    candidates.begin(10, 2.0, f32::INFINITY);
    for near in near {
        let list = &lists.lists[near.list as usize];
        let start = usize::try_from(list.offset).map_err(|_| "lies beyond memory")?;
        let bytes =
            codes.get(start..start + lists.list_len(list)).ok_or("has a list outside of its codes")?;
        let scan = lists.scan(&asked, near, bytes, 0);
        scan.run(
            kernel,
            &asked.probe,
            lists.nibbles(),
            |_| u32::MAX,
            |row| row < lists.rows,
            &mut candidates,
        );
    }
    Ok(candidates.finish().iter().map(|candidate| candidate.row).collect())
}
