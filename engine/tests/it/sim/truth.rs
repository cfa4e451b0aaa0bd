//! What the engine has promised so far, as plain maps, and the check of what a database holds against it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use akidb::{Batch, Collection, Db, Id, Lsn, Payload, Schema};

use super::names::Names;
use super::past::Past;
use super::rows::{Scale, id, is_over};

/// A row as it was written. Its LSN is not known while its write has not returned.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) lsn: Option<Lsn>,
    pub(crate) vector: Vec<f32>,
    pub(crate) payload: Payload,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) schema: Schema,
    pub(crate) rows: BTreeMap<Id, Arc<Row>>,
}

/// Lines that a failure shows.
const DIFFERENCES: usize = 20;

pub(crate) type Tables = BTreeMap<String, Table>;

/// One row written, or deleted.
#[derive(Clone, Debug)]
pub(crate) struct Op {
    pub(crate) id: Id,
    pub(crate) row: Option<Arc<Row>>,
}

/// Something that happens whole or not at all.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Write { table: String, ops: Arc<Vec<Op>>, lsns: Option<(Lsn, Lsn)> },
    Create(String, Schema),
    Drop(String),
}

impl Event {
    /// The collection it happens to.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Write { table: name, .. } | Self::Create(name, _) | Self::Drop(name) => name,
        }
    }

    /// Learns from what an open found where a write was put that happened without an answer.
    fn is_found_in(&mut self, found: &Tables) {
        let Self::Write { table, ops, lsns: lsns @ None } = self else { return };
        let Some(table) = found.get(table) else { return };
        let lsn = (0..).zip(ops.iter()).find_map(|(n, op)| {
            let (row, found) = (op.row.as_ref()?, table.rows.get(&op.id)?);
            let lsn = found.lsn.filter(|_| same(row, found))?;
            Some(Lsn::new(lsn.epoch(), lsn.counter() - n))
        });
        *lsns = lsn.map(|first| (first, first.plus(ops.len() as u64 - 1)));
    }

    pub(crate) fn apply(&self, tables: &mut Tables) {
        match self {
            Self::Create(name, schema) => {
                let table = Table { schema: schema.clone(), rows: BTreeMap::new() };
                tables.insert(name.clone(), table);
            }
            Self::Drop(name) => drop(tables.remove(name)),
            Self::Write { table, ops, lsns } => {
                let rows = &mut tables.get_mut(table).expect("writes go to collections that are there").rows;
                for (n, op) in (0..).zip(ops.iter()) {
                    match op.row.as_ref().filter(|row| !is_over(row)) {
                        None => drop(rows.remove(&op.id)),
                        Some(row) => {
                            let lsn = lsns.map(|(first, _)| first.plus(n));
                            let row = Row { lsn, vector: row.vector.clone(), payload: row.payload.clone() };
                            rows.insert(op.id.clone(), Arc::new(row));
                        }
                    }
                }
            }
        }
    }
}

/// A batch with a key that was acknowledged, and where it is.
#[derive(Debug)]
pub(crate) struct Keyed {
    table: String,
    pub(crate) batch: Batch,
    pub(crate) at: (Lsn, Lsn),
}

/// Batches with a key that are sent again, the newest.
const KEYED: usize = 6;

/// Along one line of crashes and opens of one directory.
#[derive(Clone, Default)]
pub(crate) struct Truth {
    /// What was acknowledged, or shown: it must be there.
    pub(crate) promised: Tables,
    /// What came after it, in order: of these some may be there, but none without those before it.
    pub(crate) later: Vec<Event>,
    /// What was acknowledged with a key, in order: sent again it is answered, and not written.
    pub(crate) keyed: Vec<Arc<Keyed>>,
    /// How all that came to be, where somebody will ask for a moment of it.
    pub(crate) past: Option<Past>,
    pub(crate) names: Names,
}

impl Truth {
    /// Something begins whose outcome is not known yet.
    pub(crate) fn begins(&mut self, event: Event) {
        if let Event::Drop(name) = &event {
            self.keyed.retain(|keyed| keyed.table != *name);
        }
        self.later.push(event);
    }

    /// A batch with a key is on disk.
    pub(crate) fn keep_keyed(&mut self, table: String, batch: Batch, at: (Lsn, Lsn)) {
        self.keyed.push(Arc::new(Keyed { table, batch, at }));
        let surplus = self.keyed.len().saturating_sub(KEYED);
        self.keyed.drain(..surplus);
    }

    /// The newest event did not happen, and never will.
    pub(crate) fn refused(&mut self) {
        self.later.pop().expect("something was under way");
    }

    /// The newest event was given these LSNs.
    pub(crate) fn placed(&mut self, at: (Lsn, Lsn)) {
        let Some(Event::Write { lsns, ops, .. }) = self.later.last_mut() else {
            panic!("no write is under way")
        };
        assert_eq!(at.1, at.0.plus(ops.len() as u64 - 1), "a record has one LSN");
        *lsns = Some(at);
    }

    /// Everything that has begun is there for good.
    pub(crate) fn promise_all(&mut self) {
        self.promise_first(self.later.len());
    }

    fn promise_first(&mut self, count: usize) {
        for event in self.later.drain(..count) {
            event.apply(&mut self.promised);
            if let Some(past) = &mut self.past {
                past.push(event);
            }
        }
    }

    /// All that a collection that is there may have been at an LSN.
    pub(crate) fn now_at(&self, name: &str, lsn: Lsn) -> Vec<Table> {
        let past = self.past.as_ref().expect("the past is kept");
        past.at(name, lsn, &self.later).pop().expect("it was created")
    }

    /// The same of every collection of that name that there ever was.
    pub(crate) fn ever_at(&self, name: &str, lsn: Lsn) -> Vec<Table> {
        let past = self.past.as_ref().expect("the past is kept");
        past.at(name, lsn, &self.later).concat()
    }

    /// Every write up to `lsn` is there for good.
    pub(crate) fn promise(&mut self, lsn: Lsn) {
        let is_in =
            |event: &Event| matches!(event, Event::Write { lsns: Some((_, last)), .. } if *last <= lsn);
        let known = self.later.iter().take_while(|event| is_in(event)).count();
        self.promise_first(known);
    }

    /// What a read sees whose LSN this is.
    pub(crate) fn at(&self, visible: Lsn) -> Tables {
        let mut tables = self.promised.clone();
        let is_in =
            |event: &&Event| matches!(event, Event::Write { lsns: Some((_, last)), .. } if *last <= visible);
        self.later.iter().take_while(is_in).for_each(|event| event.apply(&mut tables));
        tables
    }

    /// Whether there is a row, once everything that has begun is done.
    pub(crate) fn holds(&self, name: &str, id: &Id) -> bool {
        let of = |event: &Event| match event {
            Event::Write { table, ops, .. } if table == name => {
                let there = |op: &Op| op.row.as_ref().is_some_and(|row| !is_over(row));
                ops.iter().rfind(|op| op.id == *id).map(there)
            }
            _ => None,
        };
        let there = || self.promised[name].rows.contains_key(id);
        self.later.iter().rev().find_map(of).unwrap_or_else(there)
    }

    /// Compares what an open found, which is the truth from then on. Tells how many of the unacknowledged events
    /// happened, and how many did not.
    pub(crate) fn found(&mut self, found: Tables) -> (u64, u64) {
        let mut tables = self.promised.clone();
        let mut happened = (difference(&tables, &found).is_empty()).then_some(0);
        for (n, event) in (1..).zip(&self.later) {
            event.apply(&mut tables);
            if difference(&tables, &found).is_empty() {
                happened = Some(n);
            }
        }
        let Some(happened) = happened else {
            panic!(
                "the database is not what was promised:\n{}nor that with all {} later events:\n{}",
                difference(&self.promised, &found),
                self.later.len(),
                difference(&tables, &found)
            );
        };
        let all = self.later.len();
        self.later.truncate(happened);
        self.later.iter_mut().for_each(|event| event.is_found_in(&found));
        self.promise_first(happened);
        self.promised = found;
        (happened as u64, (all - happened) as u64)
    }
}

/// Everything a database shows, read in each way there is, which must agree.
pub(crate) fn read(db: &Db, scale: Scale) -> akidb::Result<Tables> {
    let mut tables = Tables::new();
    for name in db.collections()? {
        let table = read_table(&name, &db.collection(&name)?, scale)?;
        tables.insert(name, table);
    }
    Ok(tables)
}

/// The same of one collection.
pub(crate) fn read_table(name: &str, rows: &Collection, scale: Scale) -> akidb::Result<Table> {
    let mut table = Table { schema: rows.schema()?, rows: BTreeMap::new() };
    let scanned = rows.scan().limit(10_000).run()?;
    let count = rows.count()?;
    assert_eq!(count, scanned.len() as u64, "{name}: as many rows are counted as scanned");
    assert!(scanned.windows(2).all(|pair| pair[0].id < pair[1].id), "{name}: an id twice, or out of order");
    let ids: Vec<Id> = (0..scale.ids()).map(|n| id(&table.schema, n)).collect();
    let got: Vec<_> = rows.get_many(&ids)?.into_iter().flatten().collect();
    assert!(got == scanned, "{name}: {} rows are got by their ids, {} scanned", got.len(), scanned.len());
    for row in got {
        let kept = Row { lsn: Some(row.lsn), vector: row.vector, payload: row.payload };
        table.rows.insert(row.id, Arc::new(kept));
    }
    Ok(table)
}

/// How a collection differs from all that it may be, if it is none of them.
pub(crate) fn differs(allowed: &[Table], found: &Table) -> Option<String> {
    let mut wrong = Vec::new();
    for expected in allowed {
        let mut text = String::new();
        match expected.schema == found.schema {
            true => rows_differ("", expected, found, &mut text),
            false => text.push_str("  it has another schema\n"),
        }
        if text.is_empty() {
            return None;
        }
        wrong.push(text.lines().take(DIFFERENCES).collect::<Vec<_>>().join("\n"));
    }
    Some(wrong.join("\nor\n"))
}

/// Where two states differ, a line each, the first of them; empty if they do not.
pub(crate) fn difference(expected: &Tables, found: &Tables) -> String {
    let mut text = String::new();
    for (name, table) in expected {
        match found.get(name) {
            Some(other) if other.schema == table.schema => rows_differ(name, table, other, &mut text),
            Some(_) => drop(writeln!(text, "  {name} has another schema")),
            None => drop(writeln!(text, "  {name} is gone")),
        }
    }
    for name in found.keys().filter(|name| !expected.contains_key(*name)) {
        let _ = writeln!(text, "  {name} should not be there");
    }
    text.lines().take(DIFFERENCES).fold(String::new(), |text, line| text + line + "\n")
}

fn rows_differ(name: &str, expected: &Table, found: &Table, text: &mut String) {
    for (id, row) in &expected.rows {
        let _ = match found.rows.get(id) {
            None => writeln!(text, "  {name}/{id} {} is lost", brief(row)),
            Some(other) if !same(row, other) => {
                writeln!(text, "  {name}/{id} is {} instead of {}", brief(other), brief(row))
            }
            Some(_) => Ok(()),
        };
    }
    for (id, row) in found.rows.iter().filter(|(id, _)| !expected.rows.contains_key(*id)) {
        let _ = writeln!(text, "  {name}/{id} {} should not be there", brief(row));
    }
}

fn same(a: &Row, b: &Row) -> bool {
    let lsns = a.lsn.zip(b.lsn).is_none_or(|(a, b)| a == b);
    lsns && a.vector == b.vector && a.payload == b.payload
}

fn brief(row: &Row) -> String {
    let lsn = row.lsn.map_or_else(|| "?".to_owned(), |lsn| lsn.to_string());
    format!("(version {}, lsn {lsn})", row.payload["version"])
}
