//! Values of single rows, each found in its page without decoding the others.
//!
//! Pages are checked by their blocks, unpacked once, kept in the database's [`PageCache`] and, while one read goes on, in
//! its hand: rows that share a page share the work.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::arrow_schema::{FIELDS, ID, LSN, payload_position};
use super::page::{Nesting, Page};
use super::page_cache::{Joined, KeptPage, PageCache, PageOf};
use super::page_header::PageHeader;
use super::pages::unpack;
use super::reader::Segment;
use super::round::Round;
use super::source::Packing;
use crate::error::{Error, Result};
use crate::id::Id;
use crate::lsn::Lsn;
use crate::row::{FieldValue, Row};
use crate::schema::{FieldType, IdKind, Schema};

/// A page in hand and the rows of the segment that it holds.
struct Held {
    rows: Range<u32>,
    page: Arc<KeptPage>,
    dictionary: Option<Arc<KeptPage>>,
}

/// One column of a segment, by row; best asked in the order of rows.
pub(super) struct Cells<'a> {
    segment: &'a Segment,
    column: usize,
    kind: FieldType,
    held: Option<Held>,
}

impl<'a> Cells<'a> {
    pub(super) fn new(segment: &'a Segment, column: usize, kind: FieldType) -> Self {
        Self { segment, column, kind, held: None }
    }

    /// The value in `row`, which the segment has.
    fn value(&mut self, row: u32) -> Result<FieldValue> {
        let kind = self.kind;
        self.cell(row, |page, at, dictionary| page.value(at, kind, dictionary))
    }

    /// The id in `row` of a column of text ids.
    pub(super) fn id(&mut self, row: u32) -> Result<Id> {
        self.cell(row, |page, at, _| page.required_text(at).map(Id::from))
    }

    fn cell<T>(
        &mut self,
        row: u32,
        take: impl FnOnce(&Page, usize, Option<&Page>) -> Option<T>,
    ) -> Result<T> {
        let (segment, column) = (self.segment, self.column);
        let held = match self.held.take().filter(|held| held.rows.contains(&row)) {
            Some(held) => held,
            None => segment.hold(column, self.kind, row)?,
        };
        let held = self.held.insert(held);
        let at = (row - held.rows.start) as usize;
        let dictionary = held.dictionary.as_deref().map(|page| &**page);
        take(&held.page, at, dictionary).ok_or_else(|| segment.bad_page(column))
    }
}

/// Rows of a segment without their vectors, in the order of a schema's fields; best asked in the order of rows.
pub(super) struct RowCells<'a> {
    segment: &'a Segment,
    ids: Option<Cells<'a>>,
    lsns: Cells<'a>,
    /// By the fields of the schema; `None` where the segment was written without.
    fields: Vec<Option<Cells<'a>>>,
    payload: Cells<'a>,
}

impl<'a> RowCells<'a> {
    /// `schema` is the collection's current one; ids are read only where they are not `known`.
    pub(super) fn new(segment: &'a Segment, schema: &Schema, known: Option<&Id>) -> Self {
        let own = &segment.schema().fields;
        let cells = |column, kind| Cells::new(segment, column, kind);
        let field = |at| {
            let own_position = segment.own_position(schema, at)?;
            Some(cells(FIELDS + own_position, own[own_position].field_type))
        };
        let reads_ids = known.is_none() && segment.schema().id_kind == IdKind::Text;
        Self {
            segment,
            ids: reads_ids.then(|| cells(ID, FieldType::Text)),
            lsns: cells(LSN, FieldType::Int),
            fields: (0..schema.fields.len()).map(field).collect(),
            payload: cells(payload_position(own.len()), FieldType::Text),
        }
    }

    /// A row, its vector left out.
    pub(super) fn row(&mut self, number: u32, known: Option<&Id>) -> Result<(Lsn, Row)> {
        let id = match (&mut self.ids, known) {
            (_, Some(id)) => id.clone(),
            (Some(ids), None) => ids.id(number)?,
            (None, None) => self.segment.id_at(number)?,
        };
        let lsn = lsn_of(self.segment, self.lsns.value(number)?)?;
        let field = |cells: &mut Option<Cells<'_>>| match cells {
            Some(cells) => cells.value(number),
            None => Ok(FieldValue::Null),
        };
        let fields = self.fields.iter_mut().map(field).collect::<Result<_>>()?;
        let rest = match self.payload.value(number)? {
            FieldValue::Text(text) => Some(text),
            _ => None,
        };
        Ok((lsn, Row { id, vector: Arc::from([]), fields, rest }))
    }
}

fn lsn_of(segment: &Segment, value: FieldValue) -> Result<Lsn> {
    let FieldValue::Int(lsn) = value else { return Err(segment.bad_page(LSN)) };
    let lsn = u64::try_from(lsn).ok().and_then(Lsn::from_u64);
    lsn.ok_or_else(|| segment.undecodable("an LSN below zero"))
}

impl Segment {
    /// Keeps the pages that reads of rows unpack in `cache`; until then each read unpacks its own. The first cache stays.
    pub(crate) fn keep_pages_in(&self, cache: &Arc<PageCache>) {
        self.pages.get_or_init(|| Joined::new(cache, self.own_bytes));
    }

    /// The LSN of `row`.
    pub(crate) fn lsn_at(&self, row: u32) -> Result<Lsn> {
        self.check_row(row)?;
        self.fetch_cell(LSN, row)?;
        lsn_of(self, Cells::new(self, LSN, FieldType::Int).value(row)?)
    }

    /// Rows in the order asked for, best ascending, without fields and payload; vectors are empty unless wanted.
    pub(crate) fn keys_at(&self, rows: &[u32], with_vector: bool) -> Result<Vec<(Lsn, Row)>> {
        let mut lsns = Cells::new(self, LSN, FieldType::Int);
        let mut ids = Cells::new(self, ID, FieldType::Text);
        let row = |number: &u32| {
            self.check_row(*number)?;
            let lsn = lsn_of(self, lsns.value(*number)?)?;
            let id = match self.schema().id_kind {
                IdKind::Text => ids.id(*number)?,
                IdKind::Int => self.id_at(*number)?,
            };
            let vector = with_vector.then(|| self.vector(*number).map(Arc::from)).transpose()?;
            let vector = vector.unwrap_or_else(|| Arc::from([]));
            Ok((lsn, Row { id, vector, fields: Box::default(), rest: None }))
        };
        rows.iter().map(row).collect()
    }

    /// The ids of ascending rows; of what lies between them nothing is made.
    pub(crate) fn ids_at(&self, rows: &[u32]) -> Result<Vec<Id>> {
        let mut ids = Cells::new(self, ID, FieldType::Text);
        let id = |row: &u32| {
            self.check_row(*row)?;
            match self.schema().id_kind {
                IdKind::Text => ids.id(*row),
                IdKind::Int => self.id_at(*row),
            }
        };
        rows.iter().map(id).collect()
    }

    /// The text id of `row`.
    pub(super) fn text_id(&self, row: u32) -> Result<Id> {
        self.check_row(row)?;
        self.fetch_cell(ID, row)?;
        Cells::new(self, ID, FieldType::Text).id(row)
    }

    /// Of an object, the page of `column` that holds `row`.
    fn fetch_cell(&self, column: usize, row: u32) -> Result<()> {
        if !self.is_cold() {
            return Ok(());
        }
        let mut round = Round::default();
        round.pages(self, &[column], std::slice::from_ref(&(row..row + 1)));
        round.fetch()
    }

    /// The page of `column` that holds `row`, with its dictionary if it needs one.
    fn hold(&self, column: usize, kind: FieldType, row: u32) -> Result<Held> {
        let bits = self.meta().group_bits;
        let (group, first) = (row >> bits, row >> bits << bits);
        let metadata = self.table.metadata();
        let pages = metadata.offset_index().and_then(|index| index.get(group as usize)?.get(column));
        let pages = pages.map_or(&[][..], |pages| pages.page_locations());
        let begins =
            |at: usize| pages.get(at).map(|page| u32::try_from(page.first_row_index).unwrap_or(u32::MAX));
        let end = pages.partition_point(|page| page.first_row_index <= i64::from(row - first));
        let at = end.checked_sub(1).ok_or_else(|| self.bad_page(column))?;
        let group_rows = (self.rows() - first).min(1 << bits);
        let rows = begins(at).unwrap_or(0)..begins(end).unwrap_or(group_rows);
        let place = pages[at].offset.cast_unsigned();
        let bytes = place..place.saturating_add(u64::from(pages[at].compressed_page_size.cast_unsigned()));
        let of = |page| PageOf { group, column: u32::try_from(column).unwrap_or(u32::MAX), page };
        let page = self.kept_page(of(u32::try_from(at).ok()), || {
            let (header, bytes) = self.unpacked(group, column, bytes)?;
            let descriptor = metadata.row_group(group as usize).column(column).column_descr();
            let nesting = Nesting::of(descriptor.max_def_level(), descriptor.max_rep_level());
            let page = nesting.and_then(|nesting| Page::data(header, bytes, nesting, kind, rows.len()));
            page.ok_or_else(|| self.bad_page(column))
        })?;
        let dictionary = page.needs_dictionary().then(|| {
            self.kept_page(of(None), || {
                let start = metadata.row_group(group as usize).column(column).byte_range().0;
                let first_page = pages[0].offset.cast_unsigned();
                let (header, bytes) = self.unpacked(group, column, start..first_page)?;
                Page::dictionary(header, bytes, kind).ok_or_else(|| self.bad_page(column))
            })
        });
        let rows = first.saturating_add(rows.start)..first.saturating_add(rows.end);
        Ok(Held { rows, page, dictionary: dictionary.transpose()? })
    }

    fn kept_page(&self, of: PageOf, make: impl FnOnce() -> Result<Page>) -> Result<Arc<KeptPage>> {
        match self.pages.get() {
            Some(pages) => pages.page(of, make),
            None => make().map(|page| Arc::new(KeptPage::unkept(page))),
        }
    }

    /// The page that lies in `bytes`, unpacked.
    pub(super) fn unpacked(
        &self,
        group: u32,
        column: usize,
        bytes: Range<u64>,
    ) -> Result<(PageHeader, Bytes)> {
        let bad = || self.bad_page(column);
        let bytes = self.shared.get(bytes)?;
        let header = PageHeader::parse(bytes).ok_or_else(bad)?;
        let packed = header.len.checked_add(header.packed_len).and_then(|end| bytes.get(header.len..end));
        let packed = packed.ok_or_else(bad)?;
        let unpacked = match self.table.packing(group as usize, column) {
            Packing::Zstd => {
                unpack(packed, Some(header.unpacked_len)).map_err(|e| self.undecodable(&e.to_string()))?
            }
            Packing::Plain => Bytes::copy_from_slice(packed),
            Packing::Other => return Err(bad()),
        };
        Ok((header, unpacked))
    }

    fn bad_page(&self, column: usize) -> Error {
        self.undecodable(&format!("a page of column {}", self.column_name(column)))
    }

    pub(super) fn column_name(&self, column: usize) -> &str {
        let chunk = self.table.metadata().row_groups().first().and_then(|group| group.columns().get(column));
        chunk.and_then(|chunk| chunk.column_path().parts().first()).map_or("", String::as_str)
    }
}
