//! Writes of a life: single rows, batches, batches with a key, deletes, and writes that nobody waits for yet.

use std::collections::BTreeSet;
use std::sync::Arc;

use akidb::{Batch, Collection, Db, Lsn, NewRow, Receipt, Result, Schema};

use super::errors::outcome;
use super::rows::{expire, id, payload, vector};
use super::truth::{Event, Keyed, Op, Row};
use super::world::World;

/// The outcome of the write that was begun last: where it was put.
fn settle(world: &World, result: Result<(Lsn, Lsn)>) {
    let mut state = world.state();
    match result {
        Ok(at) => {
            state.truth.placed(at);
            if !state.shows_unsynced {
                state.truth.promise(at.1);
            }
        }
        Err(error) => state.fails(&error),
    }
}

/// Writes, deletes, or submits what nobody waits for yet.
pub(crate) fn write(world: &World, db: &Db) {
    let Some((rows, schema)) = pick(world, db) else { return };
    let name = rows.name().unwrap_or_default();
    let (way, count) = {
        let mut state = world.state();
        let (way, most) = (state.rng.below(12), state.scale.batch());
        (way, if way < 3 { 1 + state.rng.below(most) } else { 1 })
    };
    let ops = new_ops(world, &schema, count, way >= 9);
    let event = Event::Write { table: name.clone(), ops: Arc::new(ops.clone()), lsns: None };
    let expected = world.state().truth.holds(&name, &ops[0].id);
    world.state().truth.begins(event);
    let (first, n) = (&ops[0], ops.len() as u64);
    let result = match way {
        9.. => rows.delete(first.id.clone()).map(|existed| {
            assert_eq!(existed, expected, "a delete says whether there was a row");
            let lsn = db.visible_lsn().expect("the database is open");
            (lsn, lsn)
        }),
        0 => write_keyed(world, db, &name, &ops),
        1 => rows
            .upsert_batch(&new_rows(&ops))
            .map(|last| (Lsn::new(last.epoch(), last.counter() + 1 - n), last)),
        2..5 => {
            let receipt = rows.submit(&new_rows(&ops));
            world.note(&format!("submit {n} to {name}: {}", outcome(&receipt.as_ref().map(Receipt::last))));
            return submitted(world, receipt);
        }
        _ => {
            let row = first.row.as_ref().expect("it is no delete");
            let lsn = rows.upsert(first.id.clone(), &row.vector, row.payload.clone());
            lsn.map(|lsn| (lsn, lsn))
        }
    };
    world.note(&format!("write {n} to {name}, {}: {}", first.id, outcome(&result)));
    settle(world, result);
}

/// Writes under a key of its own.
fn write_keyed(world: &World, db: &Db, name: &str, ops: &[Op]) -> Result<(Lsn, Lsn)> {
    let mut batch = Batch::new();
    for row in new_rows(ops) {
        batch.upsert(name, row);
    }
    batch.idempotency_key(format!("key {}", world.state().versions));
    let last = db.write(&batch)?;
    let at = (Lsn::new(last.epoch(), last.counter() + 1 - ops.len() as u64), last);
    let mut state = world.state();
    if !state.shows_unsynced {
        state.truth.keep_keyed(name.to_owned(), batch, at);
    }
    Ok(at)
}

/// What was acknowledged is sent again: it is answered, and not written.
pub(crate) fn send_again(db: &Db, keyed: &[Arc<Keyed>]) -> Result<()> {
    for Keyed { batch, at, .. } in keyed.iter().map(|keyed| &**keyed) {
        let receipt = db.submit(batch)?;
        assert!(receipt.is_repeat(), "{batch:?} was written again");
        assert_eq!((receipt.first(), receipt.last()), *at, "{batch:?}");
        receipt.wait()?;
    }
    Ok(())
}

fn submitted(world: &World, receipt: Result<Receipt>) {
    match receipt {
        Ok(receipt) => {
            let mut state = world.state();
            state.truth.placed((receipt.first(), receipt.last()));
            state.receipts.push(receipt);
        }
        Err(error) => settle(world, Err(error)),
    }
}

fn new_rows(ops: &[Op]) -> Vec<NewRow> {
    let row = |op: &Op| {
        let row = op.row.as_ref().expect("it is no delete");
        NewRow { id: op.id.clone(), vector: row.vector.clone(), payload: row.payload.clone(), expires: None }
    };
    ops.iter().map(row).collect()
}

/// Rows of so many different ids, or a delete.
fn new_ops(world: &World, schema: &Schema, count: u64, delete: bool) -> Vec<Op> {
    let mut state = world.state();
    let (scale, ids) = (state.scale, state.scale.ids());
    let (mut ops, mut taken): (Vec<Op>, _) = (Vec::new(), BTreeSet::new());
    for _ in 0..count {
        let id = id(schema, state.rng.below(ids));
        if !taken.insert(id.clone()) {
            continue;
        }
        state.versions += 1;
        let version = state.versions;
        let rng = &mut state.rng;
        let row = || {
            let (vector, mut payload) = (vector(schema, rng), payload(scale, version, rng));
            expire(schema, version, &mut payload);
            Arc::new(Row { lsn: None, vector, payload })
        };
        ops.push(Op { id, row: (!delete).then(row) });
    }
    ops
}

/// A collection that is there.
pub(crate) fn pick(world: &World, db: &Db) -> Option<(Collection, Schema)> {
    let (name, schema) = {
        let mut state = world.state();
        let tables = state.truth.promised.len() as u64;
        let at = state.rng.below(tables);
        let (name, table) = state.truth.promised.iter().nth(usize::try_from(at).ok()?)?;
        (name.clone(), table.schema.clone())
    };
    Some((db.collection(&name).unwrap_or_else(|e| panic!("{name} is not there: {e}")), schema))
}

/// Waits for one of the writes that nobody has waited for.
pub(crate) fn wait(world: &World) {
    let receipt = {
        let mut state = world.state();
        let receipts = state.receipts.len() as u64;
        let at = state.rng.below(receipts);
        if state.receipts.is_empty() {
            return;
        } else {
            state.receipts.swap_remove(usize::try_from(at).expect("small"))
        }
    };
    let waited = receipt.wait();
    world.note(&format!("wait for {}: {}", receipt.last(), outcome(&waited)));
    let mut state = world.state();
    match waited {
        Ok(last) => state.truth.promise(last),
        Err(error) => state.expects(&error),
    }
}
