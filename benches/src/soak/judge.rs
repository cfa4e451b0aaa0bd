//! Every row of a soak's database against what was acknowledged.

use akidb::{Collection, Id, StoredRow};

use super::SoakError;
use super::model::{Model, Unit, id_of, row_of};
use super::rows::Rows;
use super::said::Compared;

/// Rows of a page.
const PAGE_ROWS: usize = 1_000;

/// Takes the next unit as made if the database holds it: it was written and the writer died before it could say so. That
/// half of it is there shows in [`compare`].
pub(super) fn settle(docs: &Collection, model: &mut Model) -> Result<(), SoakError> {
    let mut ahead = model.clone();
    let made = match ahead.next() {
        Unit::Upserts(batch) => match batch.last() {
            Some(last) => {
                docs.get(id_of(last.row))?.and_then(|row| written_by(&row)) == Some(u64::from(last.n))
            }
            None => false,
        },
        Unit::Delete(change) => !docs.contains(id_of(change.row))?,
    };
    if made {
        *model = ahead;
    }
    Ok(())
}

/// Reads every row, in id order, and compares the change that wrote it and each number of its vector.
pub(super) fn compare(docs: &Collection, model: &Model, rows: &Rows) -> Result<Compared, SoakError> {
    let mut found = Compared::default();
    let mut after: Option<Id> = None;
    loop {
        let scan = docs.scan().limit(PAGE_ROWS);
        let page = match &after {
            Some(last) => scan.after(last).run()?,
            None => scan.run()?,
        };
        let Some(last) = page.last() else { break };
        for row in &page {
            // A row that comes twice is one too many.
            let right = after.as_ref().is_none_or(|last| *last < row.id) && is_right(row, model, rows)?;
            *(if right { &mut found.right } else { &mut found.wrong }) += 1;
        }
        after = Some(last.id.clone());
    }
    found.lost = u64::from(model.live_rows()).saturating_sub(found.right);
    // What `count` says must be what `scan` shows.
    let shown = found.right + found.wrong;
    found.wrong += docs.count()?.abs_diff(shown);
    Ok(found)
}

fn is_right(row: &StoredRow, model: &Model, rows: &Rows) -> Result<bool, SoakError> {
    let Id::Int(id) = row.id else { return Ok(false) };
    let Some(n) = row_of(id).and_then(|row| model.writer_of(row)) else { return Ok(false) };
    if written_by(row) != Some(u64::from(n)) {
        return Ok(false);
    }
    let given = rows.vector(n).map_err(|cause| SoakError::file("-".as_ref(), "reading vectors", cause))?;
    Ok(row.vector.len() == given.len()
        && row.vector.iter().zip(&given).all(|(x, y)| x.to_bits() == y.to_bits()))
}

fn written_by(row: &StoredRow) -> Option<u64> {
    row.payload.get("n")?.as_u64()
}

#[cfg(test)]
mod tests {
    use akidb::{Db, Metric, Schema};

    use super::*;
    use crate::soak::SoakWorkload;
    use crate::soak::model::Script;
    use crate::soak::rows::RowsPlan;

    #[test]
    fn a_lost_an_old_and_a_returned_row_are_counted_and_an_untold_batch_is_none_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path().join("db")).unwrap();
        let docs = db.create_collection("soak", Schema::new(4, Metric::Cosine).int("n").int_ids()).unwrap();
        let rows = Rows::open(&RowsPlan { dim: 4, seed: 1, given: None }).unwrap();
        let script = Script { workload: SoakWorkload::Delete, seed: 1, fill: 20 };
        let mut model = Model::new(script);
        let write = |unit: Unit| match unit {
            Unit::Upserts(batch) => {
                let batch: Vec<_> = batch.into_iter().map(|change| rows.row(change).unwrap()).collect();
                docs.upsert_batch(&batch).unwrap();
            }
            Unit::Delete(change) => assert!(docs.delete(id_of(change.row)).unwrap()),
        };
        for _ in 0..6 {
            write(model.next());
        }
        let compared = || compare(&docs, &model, &rows).unwrap();
        let all = Compared { right: u64::from(model.live_rows()), lost: 0, wrong: 0 };
        assert_eq!(compared(), all);
        let mut told = Model::new(script);
        told.advance_to(model.changes() - 1);
        settle(&docs, &mut told).unwrap();
        assert_eq!(told.changes(), model.changes(), "the last delete was made and not told");
        let before = told.changes();
        settle(&docs, &mut told).unwrap();
        assert_eq!(told.changes(), before, "the next was not");

        let mut live = (0..40).filter(|row| model.writer_of(*row).is_some());
        let (gone, old) = (live.next().unwrap(), live.next().unwrap());
        docs.delete(id_of(gone)).unwrap();
        assert_eq!(compared(), Compared { right: all.right - 1, lost: 1, wrong: 0 });
        docs.upsert(id_of(old), &[1.0, 2.0, 3.0, 4.0], serde_json::json!({ "n": model.writer_of(old) }))
            .unwrap();
        assert_eq!(compared(), Compared { right: all.right - 2, lost: 2, wrong: 1 });
        docs.upsert(id_of(999), &[1.0; 4], serde_json::json!({ "n": 3 })).unwrap();
        assert_eq!(compared(), Compared { right: all.right - 2, lost: 2, wrong: 2 });
    }
}
