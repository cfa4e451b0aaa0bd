//! Frames alone: what is written reads back, what is changed does not.

use proptest::prelude::*;

use super::*;

const SALT: u64 = 0x1122_3344_5566_7788;

fn batch(records: &[Vec<u8>], lsn: Lsn, durable: Lsn) -> Vec<u8> {
    let mut payload = Vec::new();
    for record in records {
        payload.extend_from_slice(&u32::try_from(record.len()).unwrap().to_le_bytes());
    }
    records.iter().for_each(|record| payload.extend_from_slice(record));
    let (len, count) = (u32::try_from(payload.len()).unwrap(), u16::try_from(records.len()).unwrap());
    let pcrc = crc32fast::hash(&payload);
    let mut out = Head { kind: FrameType::Batch, lsn, count, len, pcrc, durable }.encode(SALT).to_vec();
    out.extend_from_slice(&payload);
    out.resize(out.len().next_multiple_of(ALIGN), 0);
    out
}

#[test]
fn the_golden_frame_is_these_bytes() {
    let bytes = batch(&[b"ab".to_vec(), b"c".to_vec()], Lsn::new(3, 5), Lsn::new(3, 4));
    // Checked against zlib's crc32 by hand.
    let hex: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let expected = "ff2c84fb 0b000000 0500000000030000 499bf95f 01 00 0200 8877665544332211 0400000000030000 \
                    02000000 01000000 616263 0000000000";
    assert_eq!(hex.concat(), expected.replace(' ', ""));
}

#[test]
fn stale_frames_of_another_life_of_the_file_are_no_frames() {
    let bytes = batch(&[b"x".to_vec()], Lsn::new(1, 1), Lsn::ZERO);
    assert!(read_frame(&bytes, 0, SALT).is_ok());
    assert_eq!(read_frame(&bytes, 0, SALT + 1).unwrap_err(), Misfit::Header);
    assert_eq!(read_frame(&[0; 64], 0, SALT).unwrap_err(), Misfit::Zero);
    assert_eq!(read_frame(&bytes[..39], 0, SALT).unwrap_err(), Misfit::End);
    assert!(matches!(read_frame(&bytes[..44], 0, SALT).unwrap_err(), Misfit::Payload(_)));
}

#[test]
fn an_intact_header_of_an_unknown_type_is_named() {
    let mut bytes = encode_whole(FrameType::Stamp, Lsn::new(1, 2), Lsn::new(1, 1), &[], SALT);
    bytes[20] = 9;
    let hcrc = crc32fast::hash(&bytes[4..40]);
    bytes[..4].copy_from_slice(&hcrc.to_le_bytes());
    assert_eq!(read_frame(&bytes, 0, SALT).unwrap_err(), Misfit::Unknown { kind: 9, flags: 0 });
}

#[test]
fn a_start_reads_back() {
    let start = Start {
        kind: StartKind::Relog,
        previous_seq: 7,
        previous_last: Lsn::new(2, 9),
        previous_end: 4192,
        epoch: 3,
        boot_id: [5; 16],
    };
    assert_eq!(Start::decode(&start.encode()), Some(start));
    let mut bytes = start.encode();
    bytes[3] = 1;
    assert_eq!(Start::decode(&bytes), None);
}

#[test]
fn a_start_that_comes_before_what_it_follows_is_no_frame() {
    let start = |previous_last| {
        let start = Start {
            kind: StartKind::Continue,
            previous_seq: 1,
            previous_last,
            previous_end: 0,
            epoch: 2,
            boot_id: [0; 16],
        };
        encode_whole(FrameType::Start, Lsn::new(2, 5), Lsn::new(2, 4), &start.encode(), SALT)
    };
    assert!(read_frame(&start(Lsn::new(2, 4)), 0, SALT).is_ok());
    assert!(matches!(read_frame(&start(Lsn::new(2, 5)), 0, SALT), Err(Misfit::Payload(_))));
}

#[test]
fn a_cut_that_names_an_impossible_epoch_is_no_frame() {
    let cut = |epoch: u32| {
        let mut payload = [0; CUT_PAYLOAD_BYTES];
        payload[..4].copy_from_slice(&epoch.to_le_bytes());
        encode_whole(FrameType::Cut, Lsn::ZERO, Lsn::ZERO, &payload, SALT)
    };
    assert!(read_frame(&cut(Lsn::MAX_EPOCH), 0, SALT).is_ok());
    assert!(matches!(read_frame(&cut(Lsn::MAX_EPOCH + 1), 0, SALT), Err(Misfit::Payload(_))));
}

proptest! {
    #[test]
    fn records_read_back_and_no_single_flip_passes(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let (lsn, durable) = (Lsn::new(2, 10), Lsn::new(2, 3));
        let mut bytes = batch(&records, lsn, durable);
        {
            let frame = read_frame(&bytes, 0, SALT).unwrap();
            prop_assert_eq!(frame.head.frame_bytes(), bytes.len() as u64);
            prop_assert_eq!(frame.head.last(), lsn.plus(records.len() as u64 - 1));
            let found: Vec<_> = frame.records().collect();
            prop_assert!(found.iter().map(|(_, bytes)| *bytes).eq(records.iter().map(Vec::as_slice)));
            prop_assert_eq!(found[0].0, lsn);
        }
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(read_frame(&bytes, 0, SALT).is_err(), "bit {} of byte {}", bit, at);
    }

    #[test]
    fn any_bytes_are_refused_or_read_without_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        reseal in any::<bool>(),
    ) {
        // With the header's checksum made right, so that what it guards is reached.
        if reseal && bytes.len() >= FRAME_HEADER_BYTES {
            bytes[20] %= 6;
            bytes[21] = 0;
            let len = u32::try_from(bytes.len() - FRAME_HEADER_BYTES).unwrap();
            bytes[4..8].copy_from_slice(&len.to_le_bytes());
            let pcrc = crc32fast::hash(&bytes[40..]);
            bytes[16..20].copy_from_slice(&pcrc.to_le_bytes());
            let hcrc = crc32fast::hash(&bytes[4..40]);
            bytes[..4].copy_from_slice(&hcrc.to_le_bytes());
        }
        let salt = if bytes.len() >= FRAME_HEADER_BYTES { u64_at(&bytes, 24) } else { SALT };
        if let Ok(frame) = read_frame(&bytes, 0, salt) {
            prop_assert_eq!(frame.records().count(), usize::from(frame.head.count));
        }
    }
}
