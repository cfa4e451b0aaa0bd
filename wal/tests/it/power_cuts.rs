//! Power cuts on a simulated disk: whatever a crash leaves, every acknowledged record is found and no other.

use akidb_host::{Clock, RealClock};

use self::history::{Tally, history};

mod history;
pub(crate) mod machine;
pub(crate) mod truth;

pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn a_crash_at_any_moment_loses_nothing_shows_no_ghost_and_never_looks_like_damage() {
    let (seed, wanted) = (number("AKIDB_SEED", 20_261_125), number("AKIDB_POWER_CUTS", 4_000));
    println!("AKIDB_SEED={seed} AKIDB_POWER_CUTS={wanted}");
    let (mut tally, began) = (Tally::default(), RealClock.now());
    while tally.states < wanted {
        history(seed + tally.histories, &mut tally);
    }
    let seconds = (RealClock.now() - began).as_secs_f64();
    println!("power cuts: {tally:?}, {seconds:.1} s, {:.0} states/s", tally.states as f64 / seconds);
}

#[test]
fn a_seed_replays_a_history() {
    for seed in 1..4 {
        let tried = [(); 2].map(|()| {
            let mut tally = Tally::default();
            history(seed, &mut tally);
            tally
        });
        assert_eq!(tried[0], tried[1], "seed {seed}");
    }
}
