//! `akidb bench`: every figure that scripts rely on is there. What the figures are is no test's business.

use crate::support::{Place, keys};

#[test]
fn the_log_s_figures_are_one_object() {
    let place = Place::new();
    let dir = place.path("disk");
    std::fs::create_dir(&dir).unwrap();
    let found = place.json(&["bench", "wal", "--seconds", "0.2", "--dir", dir.to_str().unwrap()]);
    let figures = found.last().unwrap();
    assert_eq!(
        keys(figures),
        "ack_p50_us ack_p99_us batch_16 device_kib_per_ack floor_p50_us floor_p99_us load memory_per_sec \
         memory_sustained_per_sec ratio_1 ratio_16 ratio_16_sim300us ratio_256_async ratio_64 reopen_64mib_ms \
         replay_gb_per_sec rotation_p999_ratio rounds scheduling seconds syncs_per_ack_1 write_path"
    );
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "everything is removed");
}

#[test]
fn the_upserts_figures_are_one_object() {
    let place = Place::new();
    let dir = place.path("disk");
    std::fs::create_dir(&dir).unwrap();
    let args = ["bench", "upsert", "--seconds", "0.1", "--dir", dir.to_str().unwrap()];
    let found = place.json(&args);
    assert_eq!(
        keys(&found[0]),
        "floor_p50_us floor_p99_us floor_per_sec load ratio record_bytes scheduling upsert_p50_us upsert_p99_us \
         upserts upserts_per_sec"
    );
    let text = place.ok(&args);
    assert!(text.contains("of the floor's rate") && text.contains("scheduling: "), "{text}");
    place.fails(2, &["bench", "wal", "--dir", place.path("nothing").to_str().unwrap()]);
    place.fails(2, &["bench", "wal", "--write-path", "magic"]);
}
