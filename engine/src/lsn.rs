//! Log sequence numbers, which are also the versions of rows.

pub(crate) use akidb_wal::Lsn;

/// Serde form of an LSN in JSON: the text `"epoch:counter"`. Use as `#[serde(with = "crate::lsn::text")]`.
pub(crate) mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Lsn;

    pub(crate) fn serialize<S: Serializer>(lsn: &Lsn, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(lsn)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Lsn, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
