//! The check table: a crc32 for every 16 KiB block of a file, as written and as looked up.
//!
//! Body of the CHK section:
//! ```text
//! 0   8  magic "AKCHK001"
//! 8   4  block size in bytes (16384)
//! 12  4  blocks
//! 16  8  bytes covered: [0, covered); the last block may be shorter
//! 24  4  crc32 of each block
//! ```

/// Bytes of a block.
pub(super) const BLOCK_LEN: usize = 16 * 1024;
const BLOCK_LEN_FIELD: u32 = 16 * 1024;

const MAGIC: [u8; 8] = *b"AKCHK001";
const FIXED_LEN: usize = 24;

/// The body of the section for blocks with these checksums.
pub(super) fn encode(table: &[u32], covered: u64) -> Vec<u8> {
    assert_eq!(table.len() as u64, covered.div_ceil(BLOCK_LEN as u64), "one checksum a block");
    let mut out = Vec::with_capacity(FIXED_LEN + table.len() * 4);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&BLOCK_LEN_FIELD.to_le_bytes());
    out.extend_from_slice(&u32::try_from(table.len()).expect("files are below 64 TiB").to_le_bytes());
    out.extend_from_slice(&covered.to_le_bytes());
    out.extend(table.iter().flat_map(|crc| crc.to_le_bytes()));
    out
}

/// The checksums in a section's body that covers `covered` bytes.
pub(super) fn decode(body: &[u8], covered: u64) -> Result<Vec<u32>, &'static str> {
    let (fixed, table) = body.split_at_checked(FIXED_LEN).ok_or("is too short")?;
    if fixed[..8] != MAGIC {
        return Err("does not begin with its magic");
    }
    if fixed[8..12] != BLOCK_LEN_FIELD.to_le_bytes() {
        return Err("has blocks of an unknown size");
    }
    let count = covered.div_ceil(BLOCK_LEN as u64);
    if fixed[12..16] != u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes()
        || fixed[16..24] != covered.to_le_bytes()
        || table.len() as u64 != count * 4
    {
        return Err("does not cover all that lies before it");
    }
    let (entries, _) = table.as_chunks::<4>();
    Ok(entries.iter().map(|b| u32::from_le_bytes(*b)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_back_and_must_cover_exactly_what_lies_before_it() {
        let table = [1, 2, 3];
        let covered = 2 * BLOCK_LEN as u64 + 1;
        let body = encode(&table, covered);
        assert_eq!(body.len(), 24 + 12);
        assert_eq!(decode(&body, covered).unwrap(), table);
        assert!(decode(&body, covered - 1).is_err());
        assert!(decode(&body[..body.len() - 1], covered).is_err());
        assert!(decode(b"", 0).is_err());
    }
}
