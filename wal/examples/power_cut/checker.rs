//! The judging half: opens what a power cut left, and demands every record that was promised before it, nothing
//! that was never appended, and a log that can be written to and opened again.

use std::collections::BTreeMap;
use std::path::Path;

use akidb_wal::{Log, Lsn, Recovered};

use crate::journal::Known;
use crate::record::{Batch, Id};
use crate::{CHECK_MAX_BYTES, Failure, number, options, value};

/// Promises shown one by one in a report.
const SHOWN_MAX: usize = 5;
/// The run of the records that the check itself appends.
const CHECK_RUN: u16 = u16::MAX;

/// What an open gave, in order.
type Found = BTreeMap<Lsn, Id>;

/// Prints one line a violation and a last line of figures; true if there is no violation.
pub(crate) fn main(words: &[String]) -> Result<bool, Failure> {
    let seed = number(words, "--seed")?;
    let cut = number(words, "--cut")?;
    let known = Known::at(Path::new(value(words, "--journal")?), cut)?;
    let (violations, found) = judge(words, &known, seed)?;
    violations.iter().for_each(|violation| println!("{violation}"));
    let promised = known.acked.range(known.floor..).count();
    println!("promised={promised} found={found} floor={} violations={}", known.floor, violations.len());
    Ok(violations.is_empty())
}

/// All violations, and how many records were found.
fn judge(words: &[String], known: &Known, seed: u64) -> Result<(Vec<String>, usize), Failure> {
    let mut wrong = Vec::new();
    let mut read_only = options(words, known.floor, CHECK_MAX_BYTES)?;
    read_only.read_only = true;
    let looked = match Log::open(read_only) {
        Ok((_, recovered)) => read(&recovered, seed, &mut wrong),
        Err(e) => return Ok((vec![format!("REFUSED to open for reading: {e}")], 0)),
    };
    let (log, recovered) = match Log::open(options(words, known.floor, CHECK_MAX_BYTES)?) {
        Ok(opened) => opened,
        Err(e) => return Ok((vec![format!("REFUSED to open for writing: {e}")], 0)),
    };
    let mut found = read(&recovered, seed, &mut wrong);
    if looked != found {
        wrong.push(format!("DIFFERS: {} records read-only, {} for writing", looked.len(), found.len()));
    }
    let count = found.len();
    promises(known, &found, &mut wrong);
    ghosts(known, &found, &mut wrong);
    whole(known, &found, &mut wrong);
    if log.epoch() <= known.epoch {
        wrong.push(format!("EPOCH {} was given out before", log.epoch()));
    }
    if let Err(e) = append(&log, seed, &mut found) {
        wrong.push(format!("REFUSED to be written to: {e}"));
    }
    // Dropped without a close: a second crash.
    drop((log, recovered));
    match Log::open(options(words, known.floor, CHECK_MAX_BYTES)?) {
        Ok((_, recovered)) if read(&recovered, seed, &mut wrong) == found => {}
        Ok(_) => {
            wrong.push("CHANGED: the second open shows other records than the first and its appends".into())
        }
        Err(e) => wrong.push(format!("REFUSED to open a second time: {e}")),
    }
    Ok((wrong, count))
}

/// The records in their order; what is no record of ours, or out of order, is a violation.
fn read(recovered: &Recovered, seed: u64, wrong: &mut Vec<String>) -> Found {
    let mut found = Found::new();
    let mut last = Lsn::ZERO;
    for record in &recovered.records {
        let record = match record {
            Ok(record) => record,
            Err(e) => {
                wrong.push(format!("UNREADABLE: {e}"));
                break;
            }
        };
        if record.lsn <= last || record.lsn.epoch() == last.epoch() && record.lsn != last.next() {
            wrong.push(format!("GAP: {} follows {last}", record.lsn));
        }
        last = record.lsn;
        match Id::of(record.bytes, seed) {
            Some(id) => _ = found.insert(last, id),
            None => wrong.push(format!("INVENTED: {last} holds {} bytes nobody wrote", record.bytes.len())),
        }
    }
    found
}

/// Everything acknowledged, shown or said to be synced before the cut is there.
fn promises(known: &Known, found: &Found, wrong: &mut Vec<String>) {
    let lost: Vec<_> =
        known.acked.range(known.floor..).filter(|(lsn, id)| found.get(lsn) != Some(id)).collect();
    wrong.extend(lost.iter().take(SHOWN_MAX).map(|(lsn, id)| match found.get(lsn) {
        None => format!("LOST: {lsn}, acknowledged, {id:?}"),
        Some(other) => format!("REPLACED: {lsn}, acknowledged, {id:?}, holds {other:?}"),
    }));
    if lost.len() > SHOWN_MAX {
        wrong.push(format!("LOST: {} more", lost.len() - SHOWN_MAX));
    }
    if known.synced >= known.floor && known.synced != Lsn::ZERO && !found.contains_key(&known.synced) {
        wrong.push(format!("LOST: {}, said to be synced", known.synced));
    }
}

/// Nothing is there that had not been appended by then, or that an earlier open had not found.
fn ghosts(known: &Known, found: &Found, wrong: &mut Vec<String>) {
    let mut who = BTreeMap::new();
    for (lsn, id) in found {
        if !known.begun.contains(&id.batch) {
            wrong.push(format!("INVENTED: {lsn}, not yet appended, {id:?}"));
        }
        if known.owners.get(lsn).is_some_and(|owner| owner != id) {
            wrong.push(format!("REPLACED: {lsn} belongs to {:?}, holds {id:?}", known.owners[lsn]));
        }
        if lsn.epoch() < known.epoch && !known.acked.contains_key(lsn) {
            wrong.push(format!("GHOST: {lsn}, which the open of epoch {} did not show, {id:?}", known.epoch));
        }
        if let Some(before) = who.insert(id, lsn) {
            wrong.push(format!("TWICE: {id:?} at {before} and {lsn}"));
        }
    }
}

/// A batch is there as a whole; only the floor may take its beginning.
fn whole(known: &Known, found: &Found, wrong: &mut Vec<String>) {
    let mut before: Option<(Lsn, Id)> = None;
    for (lsn, id) in found {
        let continues =
            before.is_some_and(|(at, b)| b.batch == id.batch && b.index + 1 == id.index && at.next() == *lsn);
        let begins = id.index == 0 && before.is_none_or(|(_, b)| b.index + 1 == b.batch.count);
        if !continues && !begins && *lsn != known.floor {
            wrong.push(format!("TORN: {lsn} holds {id:?} behind {before:?}"));
        }
        before = Some((*lsn, *id));
    }
    if let Some((lsn, id)) = before.filter(|(_, id)| id.index + 1 != id.batch.count) {
        wrong.push(format!("TORN: the log ends at {lsn} with {id:?}"));
    }
}

/// Writes on, as an engine would after the crash.
fn append(log: &Log, seed: u64, found: &mut Found) -> Result<(), Failure> {
    for number in 0..3 {
        let batch = Batch { run: CHECK_RUN, thread: 0, number, count: 2 };
        let records: Vec<_> = batch.ids().map(|id| id.record(seed)).collect();
        let appended = log.append(&[&records[0], &records[1]])?;
        found.extend(batch.ids().map(|id| (appended.first.plus(u64::from(id.index)), id)));
        if number == 1 {
            log.wait(appended.last)?;
        }
    }
    Ok(())
}
