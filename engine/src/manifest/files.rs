//! The files a manifest names, each once.

use std::collections::HashSet;

use super::{CollectionMeta, Manifest};
use crate::segment_meta::{DeletionVectorRef, SegmentMeta};

/// A file of a collection, as the manifest names it.
#[derive(Clone, Debug)]
pub(crate) struct NamedFile<'a> {
    pub(crate) collection: &'a CollectionMeta,
    /// The segment it is, or the first of those whose dead rows it holds.
    pub(crate) segment: &'a SegmentMeta,
    /// Below the directory of the collection: the segment's name, or `dv/` and that of deletion vectors.
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) crc32: u32,
    pub(crate) is_deletion_vector: bool,
}

impl NamedFile<'_> {
    /// Its place below `collections/`.
    pub(crate) fn below_collections(&self) -> String {
        format!("{}/{}", self.collection.dir, self.name)
    }
}

impl Manifest {
    /// Segments in their order, each followed by the file of its deletion vector unless that came before.
    pub(crate) fn files(&self) -> impl Iterator<Item = NamedFile<'_>> {
        let mut vectors = HashSet::new();
        let segments = self.collections.iter().flat_map(|c| c.segments.iter().map(move |s| (c, s)));
        segments.flat_map(move |(collection, segment)| {
            let of_segment = NamedFile {
                collection,
                segment,
                name: segment.file.clone(),
                size: segment.size,
                crc32: segment.crc32,
                is_deletion_vector: false,
            };
            let vector = match &segment.deletion_vector {
                Some(DeletionVectorRef::File { file, size, crc32, .. }) if vectors.insert(file) => {
                    let (name, is_deletion_vector) = (format!("dv/{file}"), true);
                    Some(NamedFile {
                        name,
                        size: *size,
                        crc32: *crc32,
                        is_deletion_vector,
                        ..of_segment.clone()
                    })
                }
                _ => None,
            };
            std::iter::once(of_segment).chain(vector)
        })
    }
}
