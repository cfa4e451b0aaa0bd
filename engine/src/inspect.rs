//! What one file of a database holds, told without a running engine.

use std::path::Path;

use akidb_host::{RealFs, read_file};
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::log::from_wal;
use crate::manifest::{Manifest, number_of};
use crate::segment::inspect_segment;

/// Describes a log file (`.wal`), segment (`.parquet`) or manifest (`.json`) as one JSON object whose `kind` says
/// which. Checksums are checked on the way. Changes nothing.
///
/// # Errors
/// `Corrupt` with the offset; `NewerFormat`; `NotFound`; `Invalid` for a file of another kind.
pub fn inspect(path: impl AsRef<Path>) -> Result<Value> {
    let path = path.as_ref();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("wal") => inspect_log(path),
        Some("parquet") => {
            let report = inspect_segment(&RealFs, path)?;
            let mut value = serde_json::to_value(report).unwrap_or_default();
            value["kind"] = json!("segment");
            Ok(value)
        }
        Some("json") => inspect_manifest(path),
        _ => {
            let message = "not a file of a database by its name: a log file ends in .wal, a segment in .parquet, a \
                           manifest in .json";
            Err(Error::invalid("AKI-0270", message).at(path, None))
        }
    }
}

fn inspect_log(path: &Path) -> Result<Value> {
    let found = akidb_wal::inspect(&RealFs, path).map_err(|error| from_wal(&error))?;
    let frames: Vec<Value> = found
        .frames
        .iter()
        .map(|frame| {
            json!({
                "offset": frame.offset, "type": frame.kind, "lsn": frame.lsn.to_string(), "records": frame.count,
                "payload_bytes": frame.len, "durable": frame.durable.to_string(), "whole": frame.ok,
            })
        })
        .collect();
    let header = &found.header;
    let log_id: String = header.log_id.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(json!({
        "kind": "log file", "log_id": log_id, "sequence": header.seq, "salt": format!("{:016x}", header.salt),
        "file_bytes": header.file_bytes, "epoch": header.epoch, "truncated": header.truncated,
        "end_offset": found.end_offset, "end_reason": found.end_reason, "frames": frames,
    }))
}

fn inspect_manifest(path: &Path) -> Result<Value> {
    let bytes = read_file(&RealFs, path)
        .map_err(|cause| Error::io("AKI-0310", path, "reading a manifest", &cause))?;
    let is_manifest =
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| number_of(name).is_some());
    let committed = Manifest::decode(path, &bytes).map_err(|error| match error.kind() {
        // Other files of a database end so too, and nobody's else: they are not damaged manifests.
        ErrorKind::Corrupt if !is_manifest => {
            let message = "not a manifest, by its name (20 digits and .json) and by its content";
            Error::invalid("AKI-0270", message).at(path, None)
        }
        _ => error,
    })?;
    let mut value = serde_json::to_value(&committed.manifest).unwrap_or_default();
    value["kind"] = json!("manifest");
    value["crc32"] = json!(format!("{:08x}", committed.crc32));
    Ok(value)
}
