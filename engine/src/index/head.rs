//! The body of HEAD: everything of an index but the codes of its rows. Little endian, f32 as they lie in memory.
//!
//! ```text
//! 0    8  magic "AKHEAD01"
//! 8    1  metric: 1 cosine, 2 l2, 3 dot          9   1  bits a number: 1, 2
//! 10   2  dimension                              12  4  rows
//! 16   8  seed of the rotation                   24  4  its crc32            28  4  numbers of a rotated vector, C
//! 32   4  kind: 0 FLAT, 1 LISTS                  36  4  lists, K (FLAT: 1)
//! 40   4  recalls measured, M                    44  4  code error
//! 48   4  mul ratio                              52  4  row norm
//! 56   8  zeros
//! 64      C f32: mean
//!         M times 12 bytes: recall aimed at f32, slots u32, recall found f32
//!         K times 48 bytes, in the order of CODES:
//!           0 8 first byte in CODES   8 4 blocks   12 4 primaries   16 4 copies   20 4 add scale   24 4 mul scale
//!           28 4 mean squared radius   32 4 crc32 of its bytes   36 12 zeros
//! LISTS only, with P = K rounded up to 32:
//!         P / 32 blocks of the centroids' codes (block.rs), their factors not used
//!         P f32 add, P f32 mul: of each block those of rows 0, 2 .. 30, then of rows 1, 3 .. 31
//!         K f32 steps, K f32 squared norms, K f32 bonus of the fine codes
//!         K times C i8: fine codes
//! ```

use crate::distance::codes::BLOCK_ROWS;
use crate::index::block::{Scales, block_len};
use crate::index::coarse::Coarse;
use crate::index::code::Bits;
use crate::index::lists::{Calibrated, List, Lists};
use crate::schema::Metric;

const MAGIC: [u8; 8] = *b"AKHEAD01";
const FIXED_LEN: usize = 64;
const LIST_LEN: usize = 48;
/// More lists than any index of this version has.
const MAX_LISTS: usize = 65_536;
const MAX_CALIBRATED: usize = 64;

/// Which rotation the codes were made under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RotationKey {
    pub(crate) seed: u64,
    pub(crate) crc32: u32,
}

/// The body of HEAD.
pub(crate) fn encode(lists: &Lists, rotation: RotationKey) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.push(match lists.metric {
        Metric::Cosine => 1,
        Metric::L2 => 2,
        Metric::Dot => 3,
    });
    out.push(match lists.bits {
        Bits::One => 1,
        Bits::Two => 2,
    });
    let small = |n: usize| u32::try_from(n).expect("counts of an index are small").to_le_bytes();
    out.extend_from_slice(&u16::try_from(lists.dim).expect("dimensions are u16").to_le_bytes());
    out.extend_from_slice(&lists.rows.to_le_bytes());
    out.extend_from_slice(&rotation.seed.to_le_bytes());
    out.extend_from_slice(&rotation.crc32.to_le_bytes());
    out.extend_from_slice(&small(lists.coded()));
    out.extend_from_slice(&u32::from(lists.coarse.is_some()).to_le_bytes());
    out.extend_from_slice(&small(lists.lists.len()));
    out.extend_from_slice(&small(lists.calibrated.len()));
    floats(&mut out, &[lists.code_error, lists.mul_ratio, lists.row_norm]);
    out.resize(FIXED_LEN, 0);
    floats(&mut out, &lists.mean);
    for at in &lists.calibrated {
        floats(&mut out, &[at.target]);
        out.extend_from_slice(&at.slots.to_le_bytes());
        floats(&mut out, &[at.found]);
    }
    for list in &lists.lists {
        out.extend_from_slice(&list.offset.to_le_bytes());
        [list.blocks, list.primaries, list.copies]
            .iter()
            .for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
        floats(&mut out, &[list.scales.add, list.scales.mul, list.radius_squared]);
        out.extend_from_slice(&list.crc32.to_le_bytes());
        out.extend_from_slice(&[0; 12]);
    }
    if let Some(coarse) = &lists.coarse {
        out.extend_from_slice(&coarse.blocks);
        [&coarse.add, &coarse.mul, &coarse.fine_step, &coarse.norm_squared, &coarse.bonus]
            .into_iter()
            .for_each(|numbers| floats(&mut out, numbers));
        out.extend(coarse.fine.iter().map(|number| number.cast_unsigned()));
    }
    out
}

/// Reads a body of HEAD that belongs to `codes_len` bytes of CODES.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode(body: &[u8], codes_len: u64) -> Result<(Lists, RotationKey), &'static str> {
    let mut bytes = Bytes(body);
    if bytes.take(8)? != MAGIC {
        return Err("does not begin with its magic");
    }
    let metric = match bytes.take(1)?[0] {
        1 => Metric::Cosine,
        2 => Metric::L2,
        3 => Metric::Dot,
        _ => return Err("has an unknown metric"),
    };
    let bits = match bytes.take(1)?[0] {
        1 => Bits::One,
        2 => Bits::Two,
        _ => return Err("has codes of an unknown kind"),
    };
    let dim = usize::from(bytes.u16()?);
    let rows = bytes.u32()?;
    let rotation = RotationKey { seed: bytes.u64()?, crc32: bytes.u32()? };
    let coded = bytes.count(8_192)?;
    let kind = bytes.u32()?;
    let count = bytes.count(MAX_LISTS)?;
    let calibrated_count = bytes.count(MAX_CALIBRATED)?;
    let [code_error, mul_ratio, row_norm] = [bytes.finite()?, bytes.finite()?, bytes.finite()?];
    bytes.take(8)?;
    if Bits::of(dim) != Some(bits) || coded < dim || !coded.is_multiple_of(4) {
        return Err("has a dimension that does not go with its codes");
    }
    if kind > 1 || count == 0 || (kind == 0 && count != 1) {
        return Err("has lists of an unknown kind");
    }
    let mean = bytes.floats(coded)?;
    let calibrated = (0..calibrated_count)
        .map(|_| Ok(Calibrated { target: bytes.finite()?, slots: bytes.u32()?, found: bytes.finite()? }))
        .collect::<Result<_, &'static str>>()?;
    let directory = (0..count).map(|_| list(&mut bytes)).collect::<Result<Vec<_>, _>>()?;
    let coarse = (kind == 1).then(|| coarse(&mut bytes, bits, coded, count)).transpose()?;
    if !bytes.0.is_empty() {
        return Err("is longer than its lists");
    }
    let lists = Lists {
        metric,
        dim,
        bits,
        rows,
        code_error,
        mul_ratio,
        row_norm,
        mean,
        coarse,
        lists: directory,
        calibrated,
    };
    check(&lists, codes_len)?;
    Ok((lists, rotation))
}

/// Lists lie one behind the other inside CODES, and every row belongs to one of them.
fn check(lists: &Lists, codes_len: u64) -> Result<(), &'static str> {
    let (mut end, mut primaries) = (0u64, 0u64);
    for list in &lists.lists {
        let len = lists.list_len(list) as u64;
        let slots = u64::from(list.primaries) + u64::from(list.copies);
        if list.offset < end || list.offset.checked_add(len).is_none_or(|end| end > codes_len) {
            return Err("has a list that lies outside of its codes");
        }
        if slots > u64::from(list.blocks) * BLOCK_ROWS as u64 {
            return Err("has a list with more rows than slots");
        }
        end = list.offset + len;
        primaries += u64::from(list.primaries);
    }
    if primaries != u64::from(lists.rows) || u32::try_from(2 * primaries).is_err() {
        return Err("has lists that do not add up to its rows");
    }
    Ok(())
}

fn list(bytes: &mut Bytes<'_>) -> Result<List, &'static str> {
    let list = List {
        offset: bytes.u64()?,
        blocks: bytes.u32()?,
        primaries: bytes.u32()?,
        copies: bytes.u32()?,
        scales: Scales { add: bytes.finite()?, mul: bytes.finite()? },
        radius_squared: bytes.finite()?,
        crc32: bytes.u32()?,
    };
    bytes.take(LIST_LEN - 36)?;
    Ok(list)
}

fn coarse(bytes: &mut Bytes<'_>, bits: Bits, coded: usize, count: usize) -> Result<Coarse, &'static str> {
    let padded = count.next_multiple_of(BLOCK_ROWS);
    let blocks = bytes.take(padded / BLOCK_ROWS * block_len(bits.nibbles(coded)))?.to_vec();
    let (add, mul) = (bytes.floats(padded)?, bytes.floats(padded)?);
    let (fine_step, norm_squared, bonus) = (bytes.floats(count)?, bytes.floats(count)?, bytes.floats(count)?);
    let fine = bytes.take(count * coded)?.iter().map(|byte| byte.cast_signed()).collect();
    Ok(Coarse { count, coded, blocks, add, mul, fine, fine_step, norm_squared, bonus })
}

fn floats(out: &mut Vec<u8>, numbers: &[f32]) {
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

/// What is left to read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (taken, left) = self.0.split_at_checked(len).ok_or("is too short")?;
        self.0 = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        Ok(self.take(N)?.try_into().expect("as many as were taken"))
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, &'static str> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_le_bytes)
    }

    fn count(&mut self, most: usize) -> Result<usize, &'static str> {
        let count = self.u32()? as usize;
        if count <= most { Ok(count) } else { Err("counts more than there can be") }
    }

    fn finite(&mut self) -> Result<f32, &'static str> {
        let number = self.array().map(f32::from_le_bytes)?;
        if number.is_finite() { Ok(number) } else { Err("holds a number that is not finite") }
    }

    fn floats(&mut self, count: usize) -> Result<Vec<f32>, &'static str> {
        let (numbers, _) = self.take(4 * count)?.as_chunks::<4>();
        let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if numbers.iter().all(|number| number.is_finite()) {
            Ok(numbers)
        } else {
            Err("holds a number that is not finite")
        }
    }
}
