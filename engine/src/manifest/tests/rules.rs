//! Each rule, broken once.

use super::{committed, inline_dead, sample, sample_with_keys, segment, stamp};
use crate::error::ErrorKind;
use crate::lsn::Lsn;
use crate::manifest::{
    Committed, DroppedCollection, Manifest, Parent, Reason, check_alone, check_commit, named_manifests_stay,
};
use crate::schema::{FieldType, Metric, Schema};
use crate::segment_meta::Place;

type Change = fn(&mut Manifest);

fn pair() -> (Committed, Manifest) {
    let parent = committed(sample());
    let next = parent.successor(stamp(1, 0xabcd), Reason::Flush);
    (parent, next)
}

#[track_caller]
fn breaks(rule: &str, change: Change) {
    let (parent, mut next) = pair();
    change(&mut next);
    assert_eq!(check_commit(Some(&parent), &next).expect_err("nothing broke").rule, rule);
}

#[track_caller]
fn holds(change: Change) {
    let (parent, mut next) = pair();
    change(&mut next);
    check_commit(Some(&parent), &next).expect("it should hold");
}

#[test]
fn a_plain_successor_and_every_lawful_change_hold() {
    holds(|_| ());
    holds(|m| m.writer_epoch += 1);
    holds(|m| m.settle_floor(Lsn::new(1, 200), |_| None));
    holds(|m| m.collections[0].segments[0].deletion_vector = Some(inline_dead(4)));
    holds(|m| m.rename_collection(1, "Terms").unwrap());
    holds(|m| assert!(m.drop_collection(1)));
    holds(|m| {
        m.add_collection("new", Schema::new(4, Metric::Dot), 1).unwrap();
    });
    holds(|m| m.add_fields(1, &[("rare", FieldType::Bool), ("seen", FieldType::Timestamp)]).unwrap());
    holds(|m| {
        let mut merged = segment(3, 145, Lsn::new(1, 1));
        merged.level = 1;
        m.collections[0].segments = vec![merged];
    });
}

#[test]
fn numbers_are_dense() {
    breaks("number_and_parent_agree", |m| m.number = 0);
    breaks("number_and_parent_agree", |m| m.number = 3);
    breaks("number_and_parent_agree", |m| m.parent = None);
    breaks("numbers_are_dense", |m| {
        m.number = 3;
        m.parent = Some(Parent { number: 2, crc32: 0 });
    });
}

#[test]
fn the_parent_is_named_by_its_checksum() {
    breaks("parent_is_named", |m| m.parent.as_mut().unwrap().crc32 ^= 1);
}

#[test]
fn the_first_manifest_has_no_parent() {
    check_commit(None, &sample()).unwrap();
    let (_, next) = pair();
    assert_eq!(check_commit(None, &next).unwrap_err().rule, "first_has_no_parent");
}

#[test]
fn the_database_is_the_same() {
    breaks("database_is_the_same", |m| m.db_id = uuid::Uuid::nil());
}

#[test]
fn the_epoch_never_falls_and_has_one_writer() {
    breaks("epoch_never_falls", |m| m.writer_id ^= 1);
    let (mut parent, next) = pair();
    parent.manifest.writer_epoch = 2;
    assert_eq!(check_commit(Some(&parent), &next).unwrap_err().rule, "epoch_never_falls");
    breaks("epochs_are_in_range", |m| m.writer_epoch = 0);
    breaks("epochs_are_in_range", |m| m.writer_epoch = Lsn::MAX_EPOCH + 1);
    breaks("epochs_are_in_range", |m| m.floor = Lsn::new(2, 1));
    breaks("epochs_are_in_range", |m| m.collections[0].flushed_lsn = Lsn::new(2, 1));
    breaks("epochs_are_in_range", |m| m.collections[0].created_epoch = 2);
}

#[test]
fn collection_ids_are_unique_and_never_reused() {
    breaks("collection_ids_are_unique", |m| m.collections.swap(0, 1));
    breaks("collection_ids_are_unique", |m| m.next_collection_id = 2);
    breaks("collection_ids_are_unique", |m| {
        m.dropped.push(DroppedCollection { id: 1, dir: "1-words".into() })
    });
    breaks("collection_ids_are_never_reused", |m| {
        m.collections.pop();
        m.next_collection_id = 2;
    });
    let (mut parent, mut next) = pair();
    assert!(parent.manifest.drop_collection(2));
    next.dropped.clear();
    assert_eq!(check_commit(Some(&parent), &next).unwrap_err().rule, "collection_ids_are_never_reused");
}

#[test]
fn dropped_collections_are_remembered() {
    breaks("dropped_collections_are_remembered", |m| {
        m.collections.pop();
    });
    breaks("collection_ids_are_never_reused", |m| {
        assert!(m.drop_collection(2));
        m.dropped[0].dir = "2-elsewhere".into();
    });
}

#[test]
fn collection_names_are_unique_whatever_their_case() {
    breaks("collection_names_are_unique", |m| m.collections[1].name = "WORDS".into());
    breaks("collection_names_are_unique", |m| m.collections[1].name = String::new());
}

#[test]
fn collection_dirs_stay_inside() {
    for dir in ["1-../x", "2-words", "1-", "1-Words", "1-a/b"] {
        let mut m = sample();
        m.collections[0].dir = dir.into();
        assert_eq!(check_alone(&m).unwrap_err().rule, "collection_dirs_stay_inside", "{dir}");
    }
}

#[test]
fn schemas_only_grow() {
    breaks("schemas_only_grow", |m| m.collections[1].schemas.clear());
    breaks("schemas_only_grow", |m| m.collections[0].schemas[0].version = 2);
    breaks("schemas_only_grow", |m| m.collections[0].schemas[0].dim = 0);
    let second: [fn(&mut Schema); 5] = [
        |s| s.dim = 383,
        |s| s.metric = Metric::L2,
        |s| s.fields[0].field_type = FieldType::Bool,
        |s| s.fields[1].id = 9,
        |s| {
            s.fields.pop();
        },
    ];
    for change in second {
        let mut m = sample();
        let mut wider = m.collections[0].schema().clone();
        wider.version = 2;
        change(&mut wider);
        m.collections[0].schemas.push(wider);
        assert_eq!(check_alone(&m).unwrap_err().rule, "schemas_only_grow");
    }
}

/// Rows begin to expire, by a timestamp that is declared; they do not stop, nor go over to another.
#[test]
fn rows_of_a_collection_expire_for_good() {
    let mut m = sample();
    let id = m.add_collection("late", Schema::new(8, Metric::L2).timestamp("a").timestamp("b"), 7).unwrap();
    m.expire_by(id, "a").unwrap();
    assert_eq!(m.format.incompatible, ["row-expiry"]);
    check_alone(&m).unwrap();
    assert_eq!(m.expire_by(id, "b").unwrap_err().code(), "AKI-0278");
    for other in [None, Some("b".to_owned())] {
        let mut m = m.clone();
        let schema = m.collection_by_id(id).unwrap().schema();
        let schema = Schema { version: 3, expires_by: other, ..schema.clone() };
        m.collection_mut(id).unwrap().schemas.push(schema);
        assert_eq!(check_alone(&m).unwrap_err().rule, "schemas_only_grow");
    }
}

#[test]
fn schema_history_stays() {
    breaks("schema_history_stays", |m| m.collections[1].schemas[0].dim = 9);
}

#[test]
fn a_collection_stays_itself() {
    breaks("collection_stays_itself", |m| m.collections[0].seed = 1);
    breaks("collection_stays_itself", |m| m.collections[0].dir = "1-terms".into());
}

#[test]
fn a_segment_is_whole() {
    let changes: [fn(&mut crate::segment_meta::SegmentMeta); 15] = [
        |s| s.file = "../x.parquet".into(),
        |s| s.file = "00000002-00000001-0000abcd.parquet".into(),
        |s| s.file = "00000001-00000001-0000ABCD.parquet".into(),
        |s| s.rows = 0,
        |s| s.min_lsn = Lsn::new(1, 140),
        |s| s.min_lsn = Lsn::ZERO,
        |s| s.group_bits = 32,
        |s| s.schema = 2,
        |s| s.ids = ["b".into(), "a".into()],
        |s| s.ids[0].clear(),
        |s| s.check.offset = u64::MAX,
        |s| s.vectors = vec![10_000],
        |s| s.head = s.id_index,
        |s| s.codes = s.id_index,
        |s| (s.head, s.codes) = (s.id_index, Some(Place { offset: 9_999, len: 2 })),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut m = sample();
        change(&mut m.collections[0].segments[0]);
        m.format.minor = m.minor_needed();
        assert_eq!(check_alone(&m).unwrap_err().rule, "segment_is_whole", "change {at}");
    }
    let mut m = sample();
    let mut s = segment(3, 1, Lsn::new(1, 1));
    s.ids = ["-5".into(), "10".into()];
    m.collections[1].segments.push(s);
    check_alone(&m).unwrap();
    m.collections[1].segments[0].ids = ["10".into(), "-5".into()];
    assert_eq!(check_alone(&m).unwrap_err().rule, "segment_is_whole");
}

#[test]
fn a_segment_is_flushed() {
    breaks("segment_is_flushed", |m| m.collections[0].segments.push(segment(3, 30, Lsn::new(1, 151))));
}

#[test]
fn a_deletion_vector_is_whole_and_only_grows() {
    breaks("deletion_vector_is_whole", |m| {
        m.collections[0].segments[0].deletion_vector = Some(inline_dead(101))
    });
    breaks("deletion_vector_is_whole", |m| {
        m.collections[0].segments[0].deletion_vector = Some(inline_dead(0))
    });
    breaks("deletion_vectors_only_grow", |m| m.collections[0].segments[0].deletion_vector = None);
    breaks("deletion_vectors_only_grow", |m| {
        m.collections[0].segments[0].deletion_vector = Some(inline_dead(2))
    });
    let mut m = sample();
    if let Some(crate::segment_meta::DeletionVectorRef::File { file, .. }) =
        &mut m.collections[0].segments[1].deletion_vector
    {
        *file = "../deletion_vector.bin".into();
    }
    assert_eq!(check_alone(&m).unwrap_err().rule, "deletion_vector_is_whole");
}

/// Each segment is held against the one of its name, wherever in its collection either stands.
#[test]
fn one_segment_among_many_is_found_by_its_name() {
    let many = |m: &mut Manifest| {
        let first = |n: u32| Lsn::new(1, u64::from(n));
        m.collections[0].segments = (1..=120).map(|n| segment(n, 1, first(n))).collect();
    };
    let (mut parent, mut next) = pair();
    many(&mut parent.manifest);
    many(&mut next);
    next.collections[0].segments.reverse();
    check_commit(Some(&parent), &next).unwrap();
    for at in [0, 49, 119] {
        let mut changed = next.clone();
        changed.collections[0].segments[at].crc32 ^= 1;
        assert_eq!(check_commit(Some(&parent), &changed).unwrap_err().rule, "segments_never_change");
    }
    parent.manifest.collections[0].segments[70].rows = 10;
    next.collections[0].segments[49].rows = 10;
    parent.manifest.collections[0].segments[70].deletion_vector = Some(inline_dead(4));
    next.collections[0].segments[49].deletion_vector = Some(inline_dead(3));
    assert_eq!(check_commit(Some(&parent), &next).unwrap_err().rule, "deletion_vectors_only_grow");
}

#[test]
fn segments_never_change_and_never_move() {
    breaks("segments_never_change", |m| m.collections[0].segments[0].crc32 ^= 1);
    breaks("segment_files_are_unique", |m| {
        let again = m.collections[0].segments[0].clone();
        m.collections[0].segments.push(again);
    });
    breaks("segments_stay_in_their_collection", |m| {
        let mut moved = m.collections[0].segments.remove(0);
        moved.ids = ["1".into(), "2".into()];
        m.collections[1].segments.push(moved);
    });
}

#[test]
fn flushed_never_falls() {
    breaks("flushed_never_falls", |m| m.collections[0].flushed_lsn = Lsn::new(1, 155));
}

#[test]
fn keys_lie_below_the_floor() {
    check_alone(&sample_with_keys()).unwrap();
    let changes: [Change; 5] = [
        |m| m.idempotency_keys.swap(0, 1),
        |m| m.idempotency_keys[1].last = m.floor,
        |m| m.idempotency_keys[0].first = Lsn::new(1, 10),
        |m| m.idempotency_keys[0].key = "".into(),
        |m| m.idempotency_keys[1].last = Lsn::new(1, 9),
    ];
    for change in changes {
        let mut m = sample_with_keys();
        change(&mut m);
        assert_eq!(check_alone(&m).unwrap_err().rule, "keys_lie_below_the_floor");
    }
}

#[test]
fn the_floor_is_covered_and_never_falls() {
    breaks("floor_is_covered", |m| m.floor = Lsn::new(1, 156));
    breaks("floor_never_falls", |m| m.floor = Lsn::new(1, 154));
}

#[test]
fn named_snapshots_are_announced_whole_and_stay_with_their_manifests() {
    let name = |m: &mut Manifest| m.name_snapshot("a", Lsn::new(1, 154)).unwrap();
    holds(name);
    breaks("named_snapshots_are_announced", |m| m.format.incompatible.push("named-snapshots".into()));
    breaks("named_snapshots_are_announced", |m| {
        m.name_snapshot("a", Lsn::new(1, 154)).unwrap();
        m.format.incompatible.clear();
    });
    let changes: [Change; 5] = [
        |m| m.snapshots[0].name = "a/b".into(),
        |m| m.snapshots[0].name = String::new(),
        |m| m.snapshots[0].manifest = 3,
        |m| m.snapshots[0].flushed_lsn = Lsn::new(2, 1),
        |m| m.snapshots.push(m.snapshots[0].clone()),
    ];
    for change in changes {
        let mut m = sample();
        name(&mut m);
        change(&mut m);
        assert_eq!(check_alone(&m).unwrap_err().rule, "named_snapshots_are_whole");
    }
    breaks("named_snapshot_is_flushed", |m| m.name_snapshot("a", Lsn::new(1, 155)).unwrap());
    // An older manifest gets no name, and a name no other manifest.
    breaks("names_stay_with_their_manifests", |m| {
        m.name_snapshot("a", Lsn::new(1, 154)).unwrap();
        m.snapshots[0].manifest = 1;
    });
    let parent = committed(super::sample_with_a_name());
    let mut next = parent.successor(stamp(1, 0xabcd), Reason::Ddl);
    assert_eq!(next.snapshots, parent.manifest.snapshots);
    check_commit(Some(&parent), &next).unwrap();
    next.snapshots[0].flushed_lsn = Lsn::new(1, 1);
    assert_eq!(check_commit(Some(&parent), &next).unwrap_err().rule, "names_stay_with_their_manifests");
    assert_eq!(named_manifests_stay(&parent.manifest, &[1]).unwrap_err().rule, "named_manifests_stay");
    named_manifests_stay(&parent.manifest, &[2, 3]).unwrap();
}

#[test]
fn a_snapshots_name_is_plain_unique_and_one_of_256() {
    let mut m = sample();
    for bad in ["", "a b", "../x", "é", "a\0", &"x".repeat(129)] {
        let error = m.name_snapshot(bad, Lsn::new(1, 1)).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Invalid, "AKI-0272"), "{bad:?}");
    }
    m.name_snapshot(&"x".repeat(128), Lsn::new(1, 1)).unwrap();
    m.name_snapshot("2026-01-02_nightly.v1", Lsn::new(1, 1)).unwrap();
    let taken = m.name_snapshot("2026-01-02_NIGHTLY.v1", Lsn::new(1, 1)).unwrap_err();
    assert_eq!((taken.kind(), taken.code()), (ErrorKind::Conflict, "AKI-0274"));
    let unknown = m.forget_snapshot("x").unwrap_err();
    assert_eq!((unknown.kind(), unknown.code()), (ErrorKind::NotFound, "AKI-0273"));
    assert!(unknown.message().contains("nightly"), "it lists those there are: {unknown}");
    (2..256).for_each(|n| m.name_snapshot(&format!("{n}"), Lsn::new(1, 1)).unwrap());
    let full = m.name_snapshot("one-more", Lsn::new(1, 1)).unwrap_err();
    assert_eq!(full.code(), "AKI-0275");
    assert!(matches!(full.kind(), ErrorKind::Full { which: "named snapshots", .. }));
}
