//! Codes of rows as they arrive: a group is encoded row by row and published when it is full, then never changes.
//! Rows of the open group, and those from before the centre was known, have no codes yet.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::distance::Kernel;
use crate::index::block::{Blocks, LONGEST_OF_MEDIAN, Scales, block_len, median};
use crate::index::coarse::Near;
use crate::index::code::{self, Bits};
use crate::index::lists::{Asked, List, Lists};
use crate::index::rotation::Rotation;
use crate::index::rows::{can_code, rotate};
use crate::index::scan::ListScan;
use crate::schema::Metric;
use crate::slots::Slots;

/// Rows of a group: two blocks.
pub(crate) const GROUP_ROWS: u32 = 64;
/// Rows the centre is taken from.
const CENTRE_ROWS: usize = 256;
/// Residuals whose square is below so many of the rows' mean square are never too long for codes.
const EQUAL_ROWS_NORM: f32 = 16.0;

/// How rows of a collection are encoded.
#[derive(Clone, Debug)]
pub(crate) struct Coding {
    pub(crate) metric: Metric,
    pub(crate) dim: usize,
    pub(crate) bits: Bits,
    pub(crate) rotation: Arc<Rotation>,
}

/// The codes of the rows of one memtable from `start` on. One thread at a time appends; any number read.
#[derive(Debug)]
pub(crate) struct Tail {
    coding: Coding,
    /// The first row that gets a code.
    start: u32,
    /// What all groups share; its lists are empty.
    shape: OnceLock<Lists>,
    groups: Slots<Group>,
    /// Groups that may be read.
    published: AtomicU32,
    open: Mutex<Open>,
    /// See [`Tail::bytes_beside_rows`].
    beside_rows: AtomicU64,
}

#[derive(Debug)]
struct Group {
    bytes: Vec<u8>,
    scales: Scales,
    radius_squared: f32,
}

/// The group being filled.
#[derive(Debug)]
struct Open {
    /// Rotated rows from before the centre is known.
    waiting: Vec<f32>,
    norms: f32,
    blocks: Blocks,
    len: u32,
    squares: f32,
    rotated: Vec<f32>,
    nibbles: Vec<u8>,
    centre: Vec<f32>,
    /// The square of what a residual may be long, so that the factors of the others are not flattened.
    longest_squared: f32,
    /// A row came that codes do not hold: what is published stays right, nothing more is.
    closed: bool,
}

impl Tail {
    /// Codes for the rows `start..` of a memtable.
    pub(crate) fn new(coding: Coding, start: u32) -> Self {
        let (coded, nibbles) = (coding.rotation.coded(), coding.bits.nibbles(coding.rotation.coded()));
        let open = Open {
            waiting: Vec::new(),
            norms: 0.0,
            blocks: Blocks::new(nibbles),
            len: 0,
            squares: 0.0,
            rotated: vec![0.0; coded],
            nibbles: vec![0; nibbles],
            centre: vec![0.0; coded],
            longest_squared: f32::INFINITY,
            closed: false,
        };
        // Two rows and, later, the mean of those that wait; the blocks of the open group, which are whole from their first row on.
        let buffers = 3 * size_of::<f32>() * coded + nibbles;
        let blocks = 2 * block_len(nibbles) + GROUP_ROWS as usize * size_of::<(f32, f32)>();
        Self {
            coding,
            start,
            shape: OnceLock::new(),
            groups: Slots::default(),
            published: AtomicU32::new(0),
            open: Mutex::new(open),
            beside_rows: AtomicU64::new((size_of::<Self>() + buffers + blocks) as u64),
        }
    }

    /// Encodes the next row. One thread at a time: whoever holds the apply lock, for rows that were there before one of its own.
    pub(crate) fn push(&self, vector: &[f32]) {
        let kernel = Kernel::best();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.closed || !can_code(kernel, self.coding.metric, vector) {
            open.closed = true;
            self.wait_no_more(&mut open);
            return;
        }
        let mut rotated = std::mem::take(&mut open.rotated);
        let norm = rotate(kernel, self.coding.metric, &self.coding.rotation, vector, &mut rotated);
        match self.shape.get() {
            Some(shape) => self.encode(kernel, shape, &mut open, &mut rotated, norm),
            None => {
                let before = waiting_bytes(&open.waiting);
                open.waiting.extend_from_slice(&rotated);
                self.beside_rows.fetch_add(waiting_bytes(&open.waiting) - before, Ordering::Relaxed);
                open.norms += norm * norm;
                if open.waiting.len() == CENTRE_ROWS * rotated.len() {
                    self.settle(kernel, &mut open, &mut rotated);
                }
            }
        }
        open.rotated = rotated;
    }

    /// The rows that wait, which are held no longer.
    fn wait_no_more(&self, open: &mut Open) -> Vec<f32> {
        let waiting = std::mem::take(&mut open.waiting);
        self.beside_rows.fetch_sub(waiting_bytes(&waiting), Ordering::Relaxed);
        waiting
    }

    /// Takes the mean of the waiting rows for the centre and encodes them.
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    fn settle(&self, kernel: Kernel, open: &mut Open, rotated: &mut [f32]) {
        let waiting = self.wait_no_more(open);
        let mut mean = vec![0.0f32; rotated.len()];
        for row in waiting.chunks_exact(mean.len()) {
            mean.iter_mut().zip(row).for_each(|(sum, number)| *sum += number / CENTRE_ROWS as f32);
        }
        let length_squared =
            |row: &[f32]| code::sum(row, &mean, |number, mean| (number - mean) * (number - mean));
        let mut lengths: Vec<f32> = waiting.chunks_exact(mean.len()).map(length_squared).collect();
        // Rows that are all but equal say nothing of those to come.
        let usual = (open.norms / CENTRE_ROWS as f32) * EQUAL_ROWS_NORM;
        let longest = (LONGEST_OF_MEDIAN * LONGEST_OF_MEDIAN * median(&mut lengths)).max(usual);
        open.longest_squared = if longest > 0.0 { longest } else { f32::INFINITY };
        if lengths.iter().any(|length| *length > open.longest_squared) {
            open.closed = true;
            return;
        }
        let Coding { metric, dim, bits, .. } = self.coding;
        let row_norm = (open.norms / CENTRE_ROWS as f32).sqrt();
        let shape = self.shape.get_or_init(|| Lists {
            metric,
            dim,
            bits,
            rows: 0,
            code_error: bits.code_error(),
            mul_ratio: bits.mul_ratio(mean.len()),
            row_norm,
            mean,
            coarse: None,
            lists: Vec::new(),
            calibrated: Vec::new(),
        });
        for row in waiting.chunks_exact(rotated.len()) {
            rotated.copy_from_slice(row);
            let norm = code::sum(row, row, |a, b| a * b).sqrt();
            self.encode(kernel, shape, open, rotated, norm);
            if open.closed {
                return;
            }
        }
    }

    fn encode(&self, kernel: Kernel, shape: &Lists, open: &mut Open, rotated: &mut [f32], norm: f32) {
        let Open { nibbles, centre, .. } = open;
        let mut factors = kernel.vectorised(
            #[inline(always)]
            || {
                rotated.iter_mut().zip(&shape.mean).for_each(|(x, mean)| *x -= mean);
                code::encode(shape.bits, rotated, centre, nibbles)
            },
        );
        if factors.norm_squared > open.longest_squared {
            open.closed = true;
            return;
        }
        open.squares += factors.norm_squared;
        if shape.metric == Metric::Dot {
            factors.add -= norm * norm;
        }
        open.blocks.push(&open.nibbles, factors);
        open.len += 1;
        if open.len == GROUP_ROWS {
            let (bytes, scales) = open.blocks.finish();
            #[expect(clippy::cast_precision_loss, reason = "64")]
            let radius_squared = std::mem::take(&mut open.squares) / GROUP_ROWS as f32;
            self.publish(Group { bytes, scales, radius_squared });
            open.len = 0;
        }
    }

    fn publish(&self, group: Group) {
        let at = self.published.load(Ordering::Relaxed) as usize;
        self.beside_rows.fetch_add(self.groups.make_room(at), Ordering::Relaxed);
        self.groups.put(at, group);
        self.published.fetch_add(1, Ordering::Release);
    }

    /// The rows that have codes by now; more may come.
    pub(crate) fn coded(&self) -> Range<u32> {
        self.start..self.start + self.published.load(Ordering::Acquire) * GROUP_ROWS
    }

    /// What the codes of a row take in memory.
    pub(crate) fn row_bytes(&self) -> u64 {
        (block_len(self.coding.bits.nibbles(self.coding.rotation.coded())) / 32) as u64
    }

    /// What this takes in memory beside the codes of rows: itself, and rows that wait for the centre.
    pub(crate) fn bytes_beside_rows(&self) -> u64 {
        self.beside_rows.load(Ordering::Relaxed)
    }

    /// What a query is asked against; `None` while there are no codes.
    pub(crate) fn shape(&self) -> Option<&Lists> {
        self.shape.get()
    }

    /// The rotation of the codes.
    pub(crate) fn rotation(&self) -> &Arc<Rotation> {
        &self.coding.rotation
    }

    /// The scans of the groups that cover `rows`, a range [`Tail::coded`] gave.
    pub(crate) fn scans<'a>(
        &'a self,
        asked: &'a Asked,
        rows: Range<u32>,
        source: u32,
    ) -> impl Iterator<Item = ListScan<'a>> {
        let distance_squared = asked.probe.norm_squared;
        let near = Near { key: distance_squared, distance_squared, list: 0 };
        let groups = (0..).map_while(|at| self.groups.get(at));
        let shape = self.shape.get();
        rows.step_by(GROUP_ROWS as usize).zip(groups).zip(std::iter::repeat(shape)).filter_map(
            move |((first_row, group), shape)| {
                let list = List {
                    blocks: GROUP_ROWS / 32,
                    primaries: GROUP_ROWS,
                    scales: group.scales,
                    radius_squared: group.radius_squared,
                    ..List::default()
                };
                let scan = shape?.scan_of(asked, near, &list, &group.bytes, source);
                Some(ListScan { first_row, ..scan })
            },
        )
    }
}

fn waiting_bytes(waiting: &Vec<f32>) -> u64 {
    (waiting.capacity() * size_of::<f32>()) as u64
}
