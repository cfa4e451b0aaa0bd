use super::*;
use crate::class::Class;
use crate::dlq::test_letters::{attempt, letters, new_letter};

const NOW: i64 = 1_767_225_600_000;

fn id(n: u32) -> LetterId {
    format!("00000000-0000-7000-8000-{n:012}").parse().unwrap()
}

fn queue(max_size: u32, keys: u32) -> Letters {
    let mut letters = Letters::new(&DlqSettings { max_size, ..DlqSettings::default() });
    (0..keys)
        .for_each(|n| assert_eq!(letters.add(new_letter(&n.to_string()), id(n), NOW), Added::New(id(n))));
    letters
}

#[test]
fn twenty_thousand_poison_uploads_against_ten_thousand_places() {
    let mut letters = queue(10_000, 20_000);
    let stats = letters.stats(Some("s3"), NOW);
    assert_eq!((stats.size, stats.total_evictions, stats.parked), (10_000, 10_000, 10_000));
    assert_eq!(letters.list(&Which::all()).next().map(|letter| letter.id.clone()), Some(id(10_000)));
    assert!((0..20_000).all(|key| letters.parked("s3", &key.to_string(), NOW)));
    assert_eq!(letters.ask_retry_all(&Which::all(), NOW), 10_000);
    assert!((0..20_000).all(|key| !letters.parked("s3", &key.to_string(), NOW)));
}

#[test]
fn one_backends_letters_take_no_place_from_another() {
    let mut letters = queue(2, 2);
    let new = NewLetter { backend: "b".into(), ..new_letter("0") };
    assert_eq!(letters.add(new, id(9), NOW), Added::New(id(9)));
    assert_eq!((letters.stats(Some("s3"), NOW).size, letters.stats(None, NOW).size), (2, 3));
}

#[test]
fn redrives_wait_a_minute_doubling_to_an_hour() {
    let mut letters = queue(2, 1);
    let mut now = NOW;
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(letters.next_due("s3"), Some(now + minutes * 60_000));
        assert!(letters.claim_due("s3", now + minutes * 60_000 - 1, 9).is_empty());
        now += minutes * 60_000;
        assert_eq!(letters.claim_due("s3", now, 9).len(), 1);
        assert_eq!(letters.next_due("s3"), None);
        letters.failed(&id(0), Class::Timeout, "no answer", attempt(), now);
    }
    assert_eq!((letters.get(&id(0)).unwrap().redrives, letters.get(&id(0)).unwrap().attempts.len()), (8, 5));
}

#[test]
fn what_the_breaker_held_back_says_nothing_of_the_upload() {
    let mut letters = queue(2, 1);
    for class in [Class::Refused, Class::Auth, Class::Refused] {
        letters.claim(&id(0)).unwrap();
        letters.failed(&id(0), class, "open", attempt(), NOW);
    }
    let letter = letters.get(&id(0)).unwrap();
    assert_eq!((letter.redrives, letter.state), (0, LetterState::Dead));
}

#[test]
fn lower_priority_numbers_first_then_the_oldest() {
    let mut letters = Letters::new(&DlqSettings::default());
    for (n, priority) in [3, 1, 2, 1].into_iter().enumerate() {
        let n = u32::try_from(n).unwrap();
        letters.add(NewLetter { priority, ..new_letter(&n.to_string()) }, id(n), NOW);
    }
    let due = letters.claim_due("s3", NOW + 60_000, 3);
    assert_eq!(due.iter().map(|letter| letter.id.clone()).collect::<Vec<_>>(), [id(1), id(3), id(2)]);
}

#[test]
fn a_wall_clock_set_back_by_days_makes_no_letter_wait_for_days() {
    let mut letters = queue(2, 3);
    let back = NOW - 8 * 86_400_000;
    assert!(!letters.parked("s3", "0", back));
    assert!(!letters.parked("s3", "2", back), "of two places the first letter's was given away");
    assert_eq!(letters.claim_due("s3", back, 9).len(), 2);
}

#[test]
fn claims_outlive_what_they_claim() {
    let mut letters = queue(1, 1);
    letters.claim(&id(0)).unwrap();
    // All places are claimed: the newcomer takes one all the same.
    assert_eq!(letters.add(new_letter("9"), id(9), NOW), Added::New(id(9)));
    letters.give_back(&id(0));
    letters.failed(&id(0), Class::Timeout, "late", attempt(), NOW);
    assert!(!letters.resolve(&id(0)));
    assert_eq!(letters.stats(None, NOW).redriving, 0);
    assert!(letters.claim(&id(9)).is_some());
}

#[test]
fn what_was_loaded_has_no_claims_one_letter_an_upload_and_no_more_than_fit() {
    let mut loaded = letters(6);
    loaded[5].state = LetterState::Redriving;
    loaded[4].key = loaded[3].key.clone();
    let settings = DlqSettings { max_size: 3, ..DlqSettings::default() };
    let letters = Letters::loaded(&settings, loaded.clone(), 17, NOW);
    let left: Vec<_> = letters.all().iter().map(|letter| letter.id.clone()).collect();
    assert_eq!(left, [2, 4, 5].map(|at: usize| loaded[at].id.clone()));
    assert_eq!(letters.get(&loaded[5].id).unwrap().state, LetterState::Dead);
    assert_eq!((letters.changes.last(), letters.stats(None, NOW).total_evictions), (20, 2));
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let mut letters = Letters::new(&DlqSettings::default());
    letters.add(NewLetter { error_message: "\u{20ac}".repeat(1_000), ..new_letter("a") }, id(0), NOW);
    assert_eq!(letters.get(&id(0)).unwrap().error_message, "\u{20ac}".repeat(682));
}

#[test]
fn what_nobody_writes_does_not_pile_up() {
    let mut letters = queue(2, 1);
    for _ in 0..30_000 {
        letters.ask_retry(&id(0), NOW);
    }
    assert!(letters.changes.has_gaps() && letters.changes.take().is_empty());
    assert_eq!(letters.changes.last(), 30_001);
}
