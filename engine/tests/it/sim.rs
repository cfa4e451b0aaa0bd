//! The whole engine on a simulated machine: one thread, one seed, a disk that forgets and fails, threads that run when
//! told, a clock that jumps. Whatever happens, what was acknowledged or shown is found and nothing else is.
//!
//! Seeds: `AKIDB_SIM_SEEDS` (300 unless set) from `AKIDB_SIM_SEED` (1 unless set) on; a failing one prints how it is
//! repeated. 10,000 run in `scripts/sim-nightly`.

use akidb_host::{Clock, RealClock};

use self::report::{Report, Total};

mod backend;
mod collections;
mod crashes;
mod dated;
mod errors;
mod flushes;
mod illness;
mod life;
mod machine;
mod names;
mod past;
mod reads;
mod report;
mod restores;
mod rivals;
mod rows;
mod truth;
mod uploads;
mod writes;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// One seeded world, from an empty disk to its end.
fn run(seed: u64) -> Report {
    let _note = Note(seed, "one_seed");
    life::run(seed)
}

/// Says how to repeat a run that failed.
struct Note(u64, &'static str);

impl Drop for Note {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!(
                "repeat it with AKIDB_SIM_SEED={} cargo test -p akidb --test it sim::{}",
                self.0, self.1
            );
        }
    }
}

#[test]
fn no_seed_loses_or_invents_a_row() {
    let (first, seeds) = (number("AKIDB_SIM_SEED", 1), number("AKIDB_SIM_SEEDS", 300));
    println!("AKIDB_SIM_SEED={first} AKIDB_SIM_SEEDS={seeds}");
    let (mut total, began) = (Total::default(), RealClock.now());
    for seed in first..first + seeds {
        total.add(&run(seed));
    }
    let seconds = (RealClock.now() - began).as_secs_f64();
    println!("simulation: {total}, {seconds:.1} s");
    if seeds >= 100 {
        total.assert_not_idle();
    }
}

/// Seeds that once found something: a compactor that never rested after a failed merge of which nothing was left to do;
/// a search in the middle of a read that it waited for; and a write that was told it is durable, as an earlier one is that
/// could not be applied, and had not been logged.
#[test]
fn seeds_that_found_bugs_stay_mended() {
    for seed in [3_454_914_612, 3_454_919_878, 5_000_428, 9_004_283] {
        run(seed);
    }
}

/// The seed that is named; without a name the first.
#[test]
fn one_seed() {
    println!("{:?}", run(number("AKIDB_SIM_SEED", 1)));
}

#[test]
fn the_same_seed_gives_the_same_log() {
    for seed in 1..=number("AKIDB_SIM_TWICE", 50) {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}

#[test]
fn of_copies_over_one_backend_the_newest_claim_alone_publishes() {
    let (first, seeds) = (number("AKIDB_SIM_SEED", 1), number("AKIDB_SIM_RIVALS", 20));
    let (mut fences, mut claims, mut faults, mut removed) = (0, 0, 0, 0);
    for seed in first..first + seeds {
        let _note = Note(seed, "of_copies");
        let met = rivals::run(seed);
        (fences, claims) = (fences + met.fences, claims + met.claims);
        (faults, removed) = (faults + met.faults, removed + met.removed);
    }
    let all = format!(
        "{claims} claims, {fences} copies fenced, {faults} calls failed, {removed} documents and files removed"
    );
    println!("rivals: {seeds} seeds, {all}");
    assert!(fences.min(claims).min(faults).min(removed) >= seeds, "{all}");
}
