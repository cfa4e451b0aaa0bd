//! Golden files: bytes of this format, frozen in the repository.
//!
//! `AKIDB_WRITE_GOLDEN=1 cargo test -p akidb --lib golden` writes them anew, which is right only for a format that
//! no release has written yet. The second test fails when a new zstd compresses otherwise: then the files stay, and
//! the test moves on to what may not change.

use super::*;

/// Eight rows with every type, nulls, an empty list and no payload in some.
fn golden_rows(schema: &Schema) -> Rows {
    let values = |i: i64, all: [FieldValue; 6]| if i == 3 { [const { FieldValue::Null }; 6] } else { all };
    let of = |i: i64| {
        let text = ["a", "b", "ä", "日本", "x y", "", "\"", "z"][usize::try_from(i).unwrap()];
        let id = if schema.id_kind == crate::schema::IdKind::Int {
            Id::Int(i * 1_000 - 2_000)
        } else {
            Id::from(format!("id-{i}"))
        };
        let tags: Box<[Box<str>]> = (0..i % 3).map(|n| format!("tag{n}").into()).collect();
        let fields = values(
            i,
            [
                FieldValue::Text(text.into()),
                FieldValue::Int(i - 4),
                FieldValue::Float(i as f64 / 4.0),
                FieldValue::Bool(i % 2 == 0),
                FieldValue::Timestamp(1_700_000_000_000_000 + i),
                FieldValue::TextList(tags),
            ],
        );
        let vector =
            (0..schema.dim).map(|d| f32::from(d) - f32::from(u8::try_from(i).unwrap()) / 8.0).collect();
        let rest = (i % 2 == 0).then(|| format!("{{\"i\":{i}}}").into());
        (Lsn::new(1, 10 - i.cast_unsigned()), Arc::new(Row { id, vector, fields: fields.into(), rest }))
    };
    (0..8).map(of).collect()
}

/// Golden files by name; two without a vector index, as all were once, and two with one.
fn golden() -> [(&'static str, Written); 4] {
    let (text, int) = (every_type(8), every_type(8).int_ids());
    let index = golden_index();
    [
        ("segment_text_ids", text.clone(), None),
        ("segment_int_ids", int.clone(), None),
        ("segment_text_ids_index", text, Some(&index)),
        ("segment_int_ids_index", int, Some(&index)),
    ]
    .map(|(name, schema, index)| {
        let rows = golden_rows(&schema);
        (name, Written::of(schema, rows, index))
    })
}

/// Bytes that count: 300 of head and 20,000 of codes, more than a block.
fn golden_index() -> IndexBytes {
    let bytes = |len: u32, step: u32| (0..len).map(|i| (i * step).to_be_bytes()[2]).collect();
    IndexBytes { head: bytes(300, 256), codes: bytes(20_000, 64) }
}

fn frozen(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

#[test]
fn golden_segments_are_written_byte_for_byte() {
    for (name, written) in golden() {
        let (file, entry) = (frozen(&format!("{name}.parquet")), frozen(&format!("{name}.json")));
        if std::env::var_os("AKIDB_WRITE_GOLDEN").is_some() {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, written.bytes()).unwrap();
            std::fs::write(&entry, serde_json::to_string_pretty(&written.meta).unwrap() + "\n").unwrap();
        }
        assert!(written.bytes() == std::fs::read(&file).unwrap(), "{name} is written otherwise");
    }
}

#[test]
fn golden_segments_read_with_the_manifest_entry_of_their_time() {
    for (name, written) in golden() {
        let entry = std::fs::read_to_string(frozen(&format!("{name}.json"))).unwrap();
        let meta: SegmentMeta = serde_json::from_str(&entry).unwrap();
        let path = frozen(&format!("{name}.parquet"));
        let segment = Segment::open(&RealFs, &path, &meta, &written.schema).unwrap();
        segment.verify().unwrap();
        assert_reads_back(&written, &segment).unwrap();
        assert_eq!(segment.index_head().unwrap().is_some(), name.ends_with("_index"));
        assert_eq!(crate::segment::inspect_segment(&RealFs, &path).unwrap().rows, 8);
    }
}
