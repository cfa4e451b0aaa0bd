//! A sample manifest, and tests of the steps from one manifest to the next.

use super::*;
use crate::schema::Metric;
use crate::segment_meta::{DeletionVectorRef, Place};

mod bytes;
mod files;
mod rules;

pub(super) fn stamp(epoch: u32, writer_id: u32) -> Stamp {
    // 2026-01-02T03:04:05.678901Z
    Stamp { writer_epoch: epoch, writer_id, commit_id: 0x00c0_ffee, unix_micros: 1_767_323_045_678_901 }
}

pub(super) fn segment(seq: u32, rows: u32, first: Lsn) -> SegmentMeta {
    SegmentMeta {
        file: format!("{:08}-{seq:08}-0000abcd.parquet", first.epoch()),
        size: 10_000,
        crc32: 0x1111_2222,
        tail_crc32: 0x3333_4444,
        level: 0,
        rows,
        group_bits: 13,
        schema: 1,
        ids: ["a".into(), "z".into()],
        min_lsn: first,
        max_lsn: first.plus(u64::from(rows) - 1),
        check: Place { offset: 9_000, len: 500 },
        vectors: vec![64],
        id_index: Some(Place { offset: 8_000, len: 1_000 }),
        head: None,
        codes: None,
        deletion_vector: None,
    }
}

pub(super) fn inline_dead(count: u32) -> DeletionVectorRef {
    DeletionVectorRef::Inline {
        z85: "^Bg9^0rr910000000000iXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L".into(),
        len: 44,
        count,
    }
}

/// Epoch 1: two collections, "Words" with two segments (one with dead rows), "Years" empty.
pub(super) fn sample() -> Manifest {
    let mut m = Manifest::first(Uuid::from_u128(0x0123_4567_89ab_7def_8123_4567_89ab_cdef), stamp(1, 0xabcd));
    let words =
        m.add_collection("Words", Schema::new(384, Metric::Cosine).text("lang").int("year"), 7).unwrap();
    let years = m.add_collection("Années / 1900", Schema::new(8, Metric::L2).int_ids(), 8).unwrap();
    let c = m.collection_mut(words).unwrap();
    c.segments = vec![segment(1, 100, Lsn::new(1, 1)), segment(2, 50, Lsn::new(1, 101))];
    c.segments[0].deletion_vector = Some(inline_dead(3));
    c.segments[1].deletion_vector = Some(DeletionVectorRef::File {
        file: "deletion_vector_0191d5a0-0000-7000-8000-000000000001.bin".into(),
        offset: 1,
        len: 40,
        crc32: 5,
        size: 49,
        count: 2,
    });
    m.settle_floor(Lsn::new(1, 160), |id| (id == years).then(|| Lsn::new(1, 155)));
    m
}

/// The sample, its second segment with a vector index.
pub(super) fn sample_with_index() -> Manifest {
    let mut m = sample();
    let segment = &mut m.collections[0].segments[1];
    segment.codes = Some(Place { offset: 4_096, len: 3_000 });
    segment.head = Some(Place { offset: 7_104, len: 800 });
    m.format.minor = m.minor_needed();
    m
}

/// The sample with an index, and two keys of batches that lie below its floor.
pub(super) fn sample_with_keys() -> Manifest {
    let mut m = sample_with_index();
    let kept = |text: &str| text.to_owned().try_into().unwrap();
    m.idempotency_keys = vec![
        kept("1:7 1:9 1767323045678901 0a1b2c3d order-17"),
        kept("1:10 1:10 1767323045678902 00000000 \"quoted\" and spaced"),
    ];
    m.format.minor = m.minor_needed();
    m
}

/// The sample, kept under a name.
pub(super) fn sample_with_a_name() -> Manifest {
    let mut m = sample();
    m.name_snapshot("before-the-import", Lsn::new(1, 154)).unwrap();
    m
}

/// The sample, and a collection whose rows expire.
pub(super) fn sample_with_expiry() -> Manifest {
    let mut m = sample();
    let schema = Schema::new(8, Metric::L2).timestamp("until").expires_by("until");
    m.add_collection("Sessions", schema, 9).unwrap();
    m
}

pub(super) fn committed(manifest: Manifest) -> Committed {
    let (_, crc32) = manifest.encode().unwrap();
    Committed { manifest, crc32 }
}

#[test]
fn a_directory_name_holds_nothing_of_a_name_that_could_leave_its_place() {
    assert_eq!(dir_name(7, "../../etc/passwd"), "7-etc-passwd");
    assert_eq!(dir_name(8, "Années / 1900"), "8-ann-es-1900");
    assert_eq!(dir_name(9, "日本語"), "9-collection");
    assert_eq!(dir_name(10, &"x".repeat(128)), format!("10-{}", "x".repeat(40)));
    assert_eq!(dir_name(11, "\0\n.."), "11-collection");
}

#[test]
fn the_floor_is_the_oldest_unflushed_record_else_one_above_the_last_visible() {
    let m = sample();
    assert_eq!(m.floor, Lsn::new(1, 155));
    assert_eq!(m.collections[0].flushed_lsn, Lsn::new(1, 160), "nothing of it is unflushed");
    assert_eq!(m.collections[1].flushed_lsn, Lsn::new(1, 154));
    let mut later = m.clone();
    later.settle_floor(Lsn::new(1, 170), |_| None);
    assert_eq!(later.floor, Lsn::new(1, 171));
    later.settle_floor(Lsn::new(1, 150), |_| None);
    assert_eq!((later.floor, later.collections[1].flushed_lsn), (Lsn::new(1, 171), Lsn::new(1, 170)));
}

#[test]
fn a_new_collection_never_pulls_the_floor_down_and_its_name_is_taken_in_any_case() {
    let mut m = sample();
    let schema = Schema::new(4, Metric::Dot);
    let taken = m.add_collection("wORDS", schema.clone(), 1).unwrap_err();
    assert_eq!((taken.kind(), taken.code()), (ErrorKind::Conflict, "AKI-0301"));
    let id = m.add_collection("more", schema, 1).unwrap();
    check_alone(&m).unwrap();
    assert_eq!(m.collection("MORE").unwrap().id, id);
    assert!(m.drop_collection(id) && !m.drop_collection(id));
    let again = m.add_collection("more", Schema::new(4, Metric::Dot), 1).unwrap();
    assert!(again > id, "an id is never reused");
    check_alone(&m).unwrap();
    m.forget_dropped(id);
    assert!(m.dropped.is_empty());
}

#[test]
fn a_collection_is_found_by_its_id_between_those_that_are_gone_and_their_order_is_a_rule() {
    let mut m = Manifest { collections: Vec::new(), ..sample() };
    let ids: Vec<u32> = (0..300)
        .map(|n| m.add_collection(&format!("c{n}"), Schema::new(4, Metric::Dot), 1).unwrap())
        .collect();
    let is_gone = |id: u32| id.is_multiple_of(3);
    ids.iter().filter(|id| is_gone(**id)).for_each(|id| assert!(m.drop_collection(*id)));
    for id in ids[0] - 1..=ids[299] + 1 {
        let found = m.collections.iter().find(|c| c.id == id).cloned();
        assert_eq!(found.is_some(), ids.contains(&id) && !is_gone(id), "{id}");
        assert_eq!(m.collection_by_id(id), found.as_ref());
        assert_eq!(m.collection_mut(id).cloned(), found);
    }
    check_alone(&m).unwrap();
    m.collections.swap(0, 1);
    assert_eq!(check_alone(&m).unwrap_err().rule, "collection_ids_are_unique");
}
