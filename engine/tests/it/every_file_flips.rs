//! Single bits flipped in every kind of file of a small database, closed or killed: the same answers, a typed error with
//! file and offset, or the reported cut of a torn tail; and what `verify` says of the same bit. Never a silent difference.
//!
//! Flips: `AKIDB_EVERY_FILE_FLIPS` (1,000 unless set, 10,000 by `scripts/flips-nightly`); a failing run is repeated by the
//! `AKIDB_FLIP_SEED` it prints.

mod database;
mod places;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use akidb_backends::{DeadLetters, DlqSettings, Known};
use akidb_host::sim::CrashDisk;
use akidb_host::{RealClock, Rng, read_file};

use crate::sample::assert_typed;
use database::{Answers, Database, filled, open};
use places::{Kind, Place, places};

const FLIPS: u64 = 1_000;
const WORKERS: u64 = 4;

type Tally = BTreeMap<(Kind, &'static str), BTreeMap<Outcome, u64>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Same,
    /// Exact searches where codes were damaged, said aloud.
    ExactInstead,
    Refused,
    Cut,
    /// Fewer dead letters, and the count of the lines that were passed over.
    LettersToldLost,
    /// A cache that is built again.
    BuiltAgain,
}

/// Opens the disk for writing and asks everything.
fn judge(disk: &CrashDisk, whole: &Answers, what: &str) -> Outcome {
    let db = match open(disk) {
        Ok(db) => db,
        Err(error) => {
            assert_typed(&error, what);
            return Outcome::Refused;
        }
    };
    let is_cut = db.recovery().cut.is_some();
    let outcome = match Answers::of(&db) {
        Err(error) => {
            assert_typed(&error, what);
            Outcome::Refused
        }
        Ok(answers) if answers.are_those_of(whole) => {
            if answers.is_degraded() {
                Outcome::ExactInstead
            } else {
                Outcome::Same
            }
        }
        Ok(_) if is_cut => Outcome::Cut,
        Ok(answers) => panic!("{what}: other answers and no word about it: {answers:?}"),
    };
    db.close().unwrap();
    outcome
}

/// What the other reader of the file makes of it: an open without backends reads neither dead letters nor what was
/// uploaded.
fn judge_letters(disk: &CrashDisk, whole: &Database, place: &Place, what: &str) -> Option<Outcome> {
    match place.kind {
        Kind::DeadLetters | Kind::DeadLettersJournal => {
            let path = Path::new("/db/dlq/dlq.json");
            let (fs, clock) = (Arc::new(disk.clone()), Arc::new(RealClock));
            let (letters, loaded) = DeadLetters::open(fs, clock, path, DlqSettings::default()).unwrap();
            let is_told = loaded.corrupt_lines > 0
                || loaded.is_torn
                || loaded.is_newer
                || !loaded.kept_aside.is_empty();
            let is_same = database::told(&letters) == whole.letters;
            assert!(is_same || is_told, "{what}: other dead letters and no word about it");
            Some(if is_same { Outcome::Same } else { Outcome::LettersToldLost })
        }
        Kind::Uploads => {
            let bytes = |disk: &CrashDisk| read_file(disk, &place.file).unwrap();
            let (found, right) = (Known::from_json(&bytes(disk)), Known::from_json(&bytes(&whole.disk)));
            assert!(found == right || found == Known::default(), "{what}: another list of what was uploaded");
            Some(if found == right { Outcome::Same } else { Outcome::BuiltAgain })
        }
        _ => None,
    }
}

/// `verify` finds every bit of files that are read by checksum, and agrees with the open about the log.
fn judge_verify(disk: &CrashDisk, place: &Place, at: u64, outcome: Outcome, what: &str) {
    let found = akidb::verify_on(Arc::new(disk.clone()), "/db").unwrap();
    let here: Vec<_> = found.damages.iter().filter(|damage| damage.file == place.file).collect();
    assert_eq!(here.len(), found.damages.len(), "{what}: verify blames another file: {found:?}");
    match place.kind {
        Kind::SealedLog | Kind::ActiveLog => {
            assert!(
                outcome != Outcome::Refused || !here.is_empty(),
                "{what}: verify finds nothing: {found:?}"
            );
            assert!(outcome != Outcome::Cut || found.torn_tail.is_some(), "{what}: no tail: {found:?}");
        }
        kind if kind.is_checked() => {
            assert!(!here.is_empty(), "{what}: verify finds nothing");
            let offset = here[0].offset.unwrap_or_else(|| panic!("{what}: no offset: {here:?}"));
            assert!(offset <= at, "{what}: {here:?}");
            assert!(!here[0].help.is_empty(), "{what}: {here:?}");
            let is_segment = here[0].file.extension().is_some_and(|end| end == "parquet");
            assert!(!is_segment || here[0].rows.is_some(), "{what}: the rows touched: {here:?}");
        }
        _ => assert!(here.is_empty(), "{what}: {here:?}"),
    }
}

#[test]
fn a_bit_flipped_in_any_file_is_never_silent() {
    let number = |name| std::env::var(name).ok().and_then(|n: String| n.parse().ok());
    let flips: u64 = number("AKIDB_EVERY_FILE_FLIPS").unwrap_or(FLIPS);
    let seed: u64 = number("AKIDB_FLIP_SEED").unwrap_or_else(|| Rng::from_machine().u64());
    println!("AKIDB_EVERY_FILE_FLIPS={flips} AKIDB_FLIP_SEED={seed}");
    let databases = filled();
    let all = databases.each_ref().map(|database| places(&database.disk));
    for database in &databases {
        let name = database.name;
        assert_eq!(judge(&database.disk.kill(), &database.answers, name), Outcome::Same);
        let whole = akidb::verify_on(Arc::new(database.disk.kill()), "/db").unwrap();
        assert_eq!((whole.damages.len(), &whole.torn_tail), (0, &None), "{name}: {whole:?}");
    }
    let tally = Mutex::new(Tally::new());
    // Most of an open and a close is waiting for threads.
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (databases, all, tally) = (&databases, &all, &tally);
            scope.spawn(move || {
                for n in (worker..flips).step_by(WORKERS as usize) {
                    let (kind, name, outcome) = flip(n, seed, databases, all);
                    let mut tally = tally.lock().unwrap();
                    *tally.entry((kind, name)).or_default().entry(outcome).or_default() += 1;
                }
            });
        }
    });
    assert_eq!(tally.lock().unwrap().values().flat_map(BTreeMap::values).sum::<u64>(), flips);
    println!("{flips} flips, 0 silent");
    for ((kind, name), outcomes) in tally.lock().unwrap().iter() {
        println!("{kind:?}, {name}: {} flips, {outcomes:?}", outcomes.values().sum::<u64>());
    }
}

/// One flip, the same for one seed and number.
fn flip(
    n: u64,
    seed: u64,
    databases: &[Database; 3],
    all: &[Vec<Place>; 3],
) -> (Kind, &'static str, Outcome) {
    let mut rng = Rng::seeded(seed.wrapping_add(n << 32));
    let count = Kind::ALL.len() as u64;
    let kind = Kind::ALL[usize::try_from(n % count).unwrap()];
    // A close leaves no journal of dead letters, and one of them has no control page.
    let first = usize::try_from(n / count % 3).unwrap();
    let of_kind =
        |which: usize| -> Vec<&Place> { all[which].iter().filter(|place| place.kind == kind).collect() };
    let which = [first, 1].into_iter().find(|which| !of_kind(*which).is_empty()).expect("each kind is there");
    let (database, places) = (&databases[which], of_kind(which));
    let place = places[usize::try_from(rng.below(places.len() as u64)).unwrap()];
    let (at, bit) = (place.draw(&mut rng), 1u8 << rng.below(8));
    let (name, file) = (database.name, place.file.display());
    let what = format!("seed {seed}, flip {n}: {name}, bit {bit:#x} of byte {at} ({kind:?}) of {file}");
    let disk = database.disk.kill();
    disk.rot(&place.file, |bytes| bytes[usize::try_from(at).unwrap()] ^= bit).unwrap();
    let unopened = disk.kill();
    let mut outcome = judge(&disk, &database.answers, &what);
    assert!(outcome != Outcome::Cut || name != databases[0].name, "{what}: a cut after a clean close");
    judge_verify(&unopened, place, at, outcome, &what);
    if let Some(other) = judge_letters(&unopened, database, place, &what) {
        assert_eq!(outcome, Outcome::Same, "{what}");
        outcome = other;
    }
    (kind, name, outcome)
}
