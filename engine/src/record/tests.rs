//! Records against their golden bytes, and any bytes against the decoder.

use proptest::prelude::*;

use super::*;
use crate::idempotency::BatchKey;
use crate::lsn::Lsn;

const UPSERT_HEX: &str = include_str!("../../tests/golden/record_upsert_v1.hex");
const DELETE_HEX: &str = include_str!("../../tests/golden/record_delete_v1.hex");
const NAMED_HEX: &str = include_str!("../../tests/golden/record_named_v1.hex");

/// Bytes of a fixture: two hex digits a byte, `#` starts a comment.
fn bytes_of(fixture: &str) -> Vec<u8> {
    let digits: Vec<u32> = fixture
        .lines()
        .flat_map(|line| line.split('#').next().unwrap().chars())
        .filter_map(|c| c.to_digit(16))
        .collect();
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn upsert() -> Record<'static> {
    Record {
        op: Op::Upsert,
        collection: 7,
        schema: 3,
        expires_at: 1_700_000_000_000_000,
        key: b"cat",
        names_batch: false,
        idempotency_key: b"r-1",
        payload: r#"{"lang":"en","year":2024}"#,
        vector: Vector::from([1.0, -0.5, 3.25e-3].as_slice()),
    }
}

fn delete() -> Record<'static> {
    Record {
        op: Op::Delete,
        collection: 7,
        schema: 3,
        expires_at: 0,
        key: &[0x80, 0, 0, 0, 0, 0, 0, 42],
        names_batch: false,
        idempotency_key: b"",
        payload: "",
        vector: Vector::EMPTY,
    }
}

/// The last record of a batch of two, written one second into 1970 under the key `order-17`.
fn batch_key() -> BatchKey {
    BatchKey { at_micros: 1_000_000, digest: 0x0a1b_2c3d, records: 2, text: "order-17".into() }
}

fn encoded(record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode_into(&mut out);
    out
}

#[test]
fn the_golden_bytes_are_written_and_read() {
    for (fixture, record) in [(UPSERT_HEX, upsert()), (DELETE_HEX, delete())] {
        let golden = bytes_of(fixture);
        assert_eq!(encoded(&record), golden, "{:02x?}", encoded(&record));
        assert_eq!(Record::decode(&golden), Ok(record));
        assert_eq!(golden.len(), record.encoded_len());
    }
}

#[test]
fn a_record_that_names_its_batch_has_golden_bytes_and_differs_in_nothing_else() {
    let golden = bytes_of(NAMED_HEX);
    let mut bytes = encoded(&upsert());
    let from = bytes.len();
    delete().encode_into(&mut bytes);
    name_batch(&mut bytes, from, &batch_key().encode());
    assert_eq!(bytes[..from], encoded(&upsert()));
    assert_eq!(bytes[from..], golden, "{:02x?}", &bytes[from..]);
    let named = Record::decode(&golden).unwrap();
    assert_eq!(BatchKey::decode(named.idempotency_key, Lsn::new(1, 2)), Some(batch_key()));
    assert_eq!(named, Record { names_batch: true, idempotency_key: &batch_key().encode(), ..delete() });
}

#[test]
fn every_cut_and_every_extra_byte_is_refused() {
    let golden = encoded(&upsert());
    for len in 0..golden.len() {
        assert!(matches!(Record::decode(&golden[..len]), Err(RecordError::Length { .. })), "{len} bytes");
    }
    let longer = [golden.as_slice(), &[0]].concat();
    let (len, expected) = (longer.len(), golden.len());
    assert_eq!(Record::decode(&longer), Err(RecordError::Length { len, expected }));
}

#[test]
fn what_this_version_does_not_know_is_named() {
    let with = |at: usize, byte: u8| {
        let mut bytes = encoded(&upsert());
        bytes[at] = byte;
        Record::decode(&bytes).map(|_| ()).unwrap_err()
    };
    assert_eq!(with(0, 2), RecordError::Version(2));
    assert_eq!(with(1, 9), RecordError::Op(9));
    assert_eq!(with(3, 1), RecordError::Flags(0x100));
    assert!(with(0, 2).is_newer_format() && with(1, 9).is_newer_format() && with(3, 1).is_newer_format());
    assert!(!with(0, 0).is_newer_format() && !with(1, 0).is_newer_format());
    assert_eq!(with(20, 0), RecordError::Range { what: "the key length", value: 0, offset: 20 });
    assert_eq!(with(11, 0xff), RecordError::Range { what: "the dimension", value: 0xff03, offset: 10 });
    assert_eq!(
        with(27, 1),
        RecordError::Range { what: "the payload length", value: (1 << 24) + 25, offset: 24 }
    );
    assert_eq!(with(1, 2), RecordError::Range { what: "the dimension of a delete", value: 3, offset: 10 });
    assert_eq!(with(28 + 3 + 3 + 4, 0xff), RecordError::PayloadNotUtf8 { offset: 38 });
}

#[test]
fn a_vector_is_copied_out_bit_by_bit_from_any_alignment() {
    let floats = [f32::MIN_POSITIVE, -0.0, f32::MAX, 1.0e-45];
    let record = Record { vector: Vector::from(floats.as_slice()), ..upsert() };
    for shift in 0..4 {
        let mut bytes = vec![0; shift];
        record.encode_into(&mut bytes);
        let back = Record::decode(&bytes[shift..]).unwrap();
        let bits: Vec<u32> = back.vector.to_f32().iter().map(|x| x.to_bits()).collect();
        assert_eq!(bits, floats.map(f32::to_bits));
        assert_eq!(back.vector, record.vector);
    }
}

proptest! {
    #[test]
    fn any_record_reads_back(
        is_delete: bool,
        names_batch: bool,
        numbers in (any::<u32>(), any::<u16>(), any::<i64>()),
        key in prop::collection::vec(any::<u8>(), 1..=512),
        idempotency_key in prop::collection::vec(any::<u8>(), 0..64),
        payload in ".{0,64}",
        floats in prop::collection::vec(any::<f32>(), 1..64),
    ) {
        let record = Record {
            op: if is_delete { Op::Delete } else { Op::Upsert },
            collection: numbers.0,
            schema: numbers.1,
            expires_at: numbers.2,
            key: &key,
            names_batch,
            idempotency_key: &idempotency_key,
            payload: if is_delete { "" } else { &payload },
            vector: if is_delete { Vector::EMPTY } else { Vector::from(floats.as_slice()) },
        };
        let bytes = encoded(&record);
        prop_assert_eq!(Record::decode(&bytes), Ok(record));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), sane: bool) {
        if sane && bytes.len() > 4 {
            let (op, flags) = (1 + (bytes[0] & 1), bytes[0] >> 7);
            bytes[..4].copy_from_slice(&[1, op, flags, 0]);
        }
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(encoded(&record), bytes);
        }
    }
}
