//! The log against a plain list: random appends, syncs, closes, kills, truncations.

use akidb_wal::{Log, Lsn, Options};
use proptest::prelude::*;

use crate::support::{Place, append, rows};

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<usize>),
    Sync,
    Truncate(prop::sample::Index),
    Close,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let sizes = prop_oneof![5 => 0_usize..200, 2 => 0_usize..3000, 1 => 0_usize..20_000];
    prop_oneof![
        8 => prop::collection::vec(sizes, 1..5).prop_map(Step::Append),
        3 => Just(Step::Sync),
        1 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_open_gives_back_exactly_what_was_appended_above_the_floor(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let place = Place::new();
        let mut model = Vec::new();
        let mut floor = Lsn::ZERO;
        let mut byte = 0_u8;
        let (mut log, _) = place.open();
        for step in steps {
            match step {
                Step::Append(sizes) => {
                    byte = byte.wrapping_add(1);
                    let records: Vec<_> = sizes.iter().map(|size| vec![byte; *size]).collect();
                    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
                    append(&log, &records, &mut model);
                }
                Step::Sync => log.wait(log.watermarks().appended).unwrap(),
                Step::Truncate(at) => {
                    // As the engine does: only what is durable may leave, and the floor is remembered.
                    log.wait(log.watermarks().appended).unwrap();
                    if !model.is_empty() {
                        floor = floor.max(at.get(&model).0);
                        log.truncate_below(floor).unwrap();
                    }
                }
                Step::Close | Step::Kill => {
                    if matches!(step, Step::Close) {
                        log.close().unwrap();
                    }
                    drop(log);
                    let (reopened, recovered) = Log::open(Options { floor, ..place.options() }).unwrap();
                    model.retain(|row| row.0 >= floor);
                    prop_assert_eq!(&rows(&recovered), &model);
                    prop_assert_eq!(&recovered.cut, &None);
                    log = reopened;
                }
            }
        }
        drop(log);
        model.retain(|row| row.0 >= floor);
        let recovered = Log::open(Options { floor, ..place.options() }).unwrap().1;
        prop_assert_eq!(rows(&recovered), model);
    }
}
