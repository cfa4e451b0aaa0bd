//! The letters against a plain model of them: one list, searched from end to end; and the changes they tell the
//! journal, replayed, against both.

use proptest::prelude::*;

use super::*;
use crate::class::Class;
use crate::dlq::id::Ids;
use crate::dlq::letter::Attempt;
use crate::dlq::parked::PARKED_MS;
use crate::dlq::test_letters::{attempt, new_letter};

const MAX_SIZE: usize = 5;
const TTL_SECS: i64 = 7_200;
const BACKENDS: [&str; 2] = ["a", "b"];
const KEYS: u8 = 9;
const MINUTE_MS: i64 = 60_000;

#[derive(Clone, Debug)]
enum Step {
    Add {
        backend: usize,
        key: u8,
        class: Class,
        priority: u8,
        poison: bool,
    },
    Claim(prop::sample::Index),
    ClaimDue {
        backend: usize,
        max: usize,
    },
    /// A verdict on one of the claims, by its place among them.
    Settle(prop::sample::Index, Verdict),
    Ask(prop::sample::Index),
    AskAll {
        backend: Option<usize>,
        class: Option<Class>,
    },
    Supersede {
        backend: usize,
        wanted: u16,
    },
    Drop(prop::sample::Index),
    Expire,
    Pass {
        minutes: i64,
    },
}

#[derive(Clone, Copy, Debug)]
enum Verdict {
    Resolved,
    Failed(Class),
    GivenBack,
}

#[derive(Clone, Debug)]
struct Entry {
    letter: Letter,
    held: Option<LetterState>,
}

impl Entry {
    fn unclaimed(&self) -> Letter {
        Letter { state: self.held.unwrap_or(self.letter.state), ..self.letter.clone() }
    }

    fn is_driven(&self) -> bool {
        self.held.is_none() && (self.letter.state == LetterState::Dead || self.letter.asked)
    }
}

/// What the letters should do.
struct Model {
    entries: Vec<Entry>,
    notes: Vec<(usize, String, Class, i64)>,
    overflow: Overflow,
    evicted: u64,
    expired: u64,
    rejected: u64,
    /// Letters once found due: they stay so, whatever the clock says then.
    now_ms: i64,
}

fn backoff_ms(redrives: u32) -> i64 {
    (0..redrives).fold(MINUTE_MS, |wait, _| (wait * 2).min(60 * MINUTE_MS))
}

impl Model {
    fn of(&self, backend: usize) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.letter.backend == BACKENDS[backend])
    }

    fn note(&mut self, backend: &str, key: &str, class: Class) {
        let at = BACKENDS.iter().position(|name| *name == backend).unwrap();
        self.notes.retain(|(b, k, _, _)| (*b, k.as_str()) != (at, key));
        self.notes.push((at, key.to_owned(), class, self.now_ms + PARKED_MS));
        if self.notes.iter().filter(|(b, _, _, _)| *b == at).count() > MAX_SIZE {
            let oldest = self.notes.iter().position(|(b, _, _, _)| *b == at).unwrap();
            self.notes.remove(oldest);
        }
    }

    fn add(&mut self, backend: usize, new: NewLetter, id: LetterId) {
        let now_ms = self.now_ms;
        let known = |entry: &&mut Entry| {
            (entry.letter.backend.as_str(), &entry.letter.key) == (BACKENDS[backend], &new.key)
        };
        if let Some(entry) = self.entries.iter_mut().find(known) {
            let letter = &mut entry.letter;
            letter.class = new.class;
            letter.retry_count += new.retry_count;
            letter.priority = new.priority;
            letter.asked = false;
            letter.next_redrive_at = letter.next_redrive_at.max(now_ms + backoff_ms(letter.redrives));
            if new.poison {
                match &mut entry.held {
                    Some(before) => *before = LetterState::Poison,
                    None => letter.state = LetterState::Poison,
                }
            }
            return;
        }
        if self.of(backend).count() >= MAX_SIZE {
            if self.overflow == Overflow::Reject {
                self.rejected += 1;
                self.note(BACKENDS[backend], &new.key, new.class);
                return;
            }
            let is_here = |entry: &Entry| entry.letter.backend == BACKENDS[backend];
            let free = self.entries.iter().position(|entry| is_here(entry) && entry.held.is_none());
            let oldest = free.or_else(|| self.entries.iter().position(is_here)).unwrap();
            let gone = self.entries.remove(oldest).letter;
            self.evicted += 1;
            self.note(&gone.backend, &gone.key, gone.class);
        }
        self.notes.retain(|(b, k, _, _)| (*b, k) != (backend, &new.key));
        let letter = new.into_letter(id, now_ms, TTL_SECS, now_ms + MINUTE_MS);
        self.entries.push(Entry { letter, held: None });
    }

    fn claim(&mut self, id: &LetterId) -> bool {
        let found = self.entries.iter_mut().find(|entry| entry.letter.id == *id && entry.held.is_none());
        found.is_some_and(|entry| {
            entry.held = Some(entry.letter.state);
            entry.letter.state = LetterState::Redriving;
            true
        })
    }

    fn due(&self, backend: usize, max: usize) -> Vec<LetterId> {
        let is_due = |e: &&Entry| e.is_driven() && e.letter.next_redrive_at <= self.now_ms;
        let mut due: Vec<_> =
            self.of(backend).filter(is_due).map(|e| (e.letter.priority, e.letter.id.clone())).collect();
        due.sort();
        due.into_iter().take(max).map(|(_, id)| id).collect()
    }

    fn settle(&mut self, id: &LetterId, verdict: Verdict) {
        let Some(at) = self.entries.iter().position(|entry| entry.letter.id == *id) else { return };
        let now_ms = self.now_ms;
        let entry = &mut self.entries[at];
        let Some(before) = entry.held.take() else { return };
        entry.letter.state = before;
        match verdict {
            Verdict::Resolved => drop(self.entries.remove(at)),
            Verdict::GivenBack => {}
            Verdict::Failed(class) => {
                let letter = &mut entry.letter;
                letter.class = class;
                if class != Class::Refused && class != Class::Auth {
                    letter.redrives += 1;
                    letter.asked = false;
                    letter.permanent_redrives += u32::from(class == Class::Permanent);
                    let hopeless = class == Class::Local || letter.permanent_redrives >= 3;
                    letter.state = if hopeless { LetterState::Poison } else { LetterState::Dead };
                }
                letter.next_redrive_at = now_ms + backoff_ms(letter.redrives);
            }
        }
    }

    fn ask(&mut self, wanted: impl Fn(&Letter) -> bool) -> u64 {
        let mut count = 0;
        for entry in self.entries.iter_mut().filter(|entry| wanted(&entry.letter)) {
            entry.letter.asked = true;
            entry.letter.next_redrive_at = self.now_ms;
            count += 1;
        }
        count
    }

    fn expire(&mut self) -> u64 {
        let now_secs = self.now_ms / 1_000;
        let old = |entry: &Entry| entry.held.is_none() && entry.letter.expires_at <= now_secs;
        let (mut gone, kept): (Vec<_>, _) = self.entries.drain(..).partition(old);
        self.entries = kept;
        gone.sort_by(|a, b| (a.letter.expires_at, &a.letter.id).cmp(&(b.letter.expires_at, &b.letter.id)));
        self.expired += gone.len() as u64;
        gone.iter().for_each(|entry| self.note(&entry.letter.backend, &entry.letter.key, entry.letter.class));
        let now_ms = self.now_ms;
        self.notes.retain(|(_, _, _, until)| *until > now_ms);
        gone.len() as u64
    }

    fn parked(&self, backend: usize, key: &str) -> bool {
        match self.of(backend).find(|entry| entry.letter.key == key) {
            Some(entry) => !entry.is_driven() || entry.letter.next_redrive_at > self.now_ms,
            None => {
                let holds = |(b, k, _, until): &(usize, String, Class, i64)| {
                    (*b, k.as_str()) == (backend, key) && *until > self.now_ms
                };
                self.notes.iter().any(holds)
            }
        }
    }
}

struct Pair {
    letters: Letters,
    model: Model,
    ids: Ids,
    claims: Vec<LetterId>,
    /// The journal, replayed.
    told: BTreeMap<LetterId, Letter>,
}

impl Pair {
    fn new(overflow: Overflow) -> Self {
        let settings = DlqSettings {
            max_size: u32::try_from(MAX_SIZE).unwrap(),
            ttl_seconds: TTL_SECS.unsigned_abs(),
            overflow,
            ..DlqSettings::default()
        };
        let model = Model {
            entries: Vec::new(),
            notes: Vec::new(),
            overflow,
            evicted: 0,
            expired: 0,
            rejected: 0,
            now_ms: 1_767_225_600_000,
        };
        Self {
            letters: Letters::new(&settings),
            model,
            ids: Ids::after(None, akidb_host::Rng::seeded(1)),
            claims: Vec::new(),
            told: BTreeMap::new(),
        }
    }

    fn pick(&self, index: prop::sample::Index) -> Option<LetterId> {
        let all = &self.model.entries;
        (!all.is_empty()).then(|| index.get(all).letter.id.clone())
    }

    fn step(&mut self, step: Step) {
        let now = self.model.now_ms;
        match step {
            Step::Add { backend, key, class, priority, poison } => {
                let id = self.ids.next(now);
                let new = NewLetter {
                    backend: BACKENDS[backend].into(),
                    class,
                    priority,
                    poison,
                    ..new_letter(&key.to_string())
                };
                self.letters.add(new.clone(), id.clone(), now);
                self.model.add(backend, new, id);
            }
            Step::Claim(index) => {
                let Some(id) = self.pick(index) else { return };
                let claimed = self.letters.claim(&id).is_some();
                assert_eq!(claimed, self.model.claim(&id));
                self.claims.extend(claimed.then_some(id));
            }
            Step::ClaimDue { backend, max } => {
                let claimed = self.letters.claim_due(BACKENDS[backend], now, max);
                let ids: Vec<_> = claimed.iter().map(|letter| letter.id.clone()).collect();
                assert_eq!(ids, self.model.due(backend, max));
                ids.iter().for_each(|id| assert!(self.model.claim(id)));
                self.claims.extend(ids);
            }
            Step::Settle(index, verdict) => self.settle(index, verdict),
            Step::Ask(index) => {
                let Some(id) = self.pick(index) else { return };
                assert!(self.letters.ask_retry(&id, now));
                self.model.ask(|letter| letter.id == id);
            }
            Step::AskAll { backend, class } => {
                let which = Which { backend: backend.map(|b| BACKENDS[b].to_owned()), class, state: None };
                let count = self.letters.ask_retry_all(&which, now);
                assert_eq!(count, self.model.ask(|letter| which.fits(letter)));
                self.model.notes.retain(|(b, _, c, _)| {
                    backend.is_some_and(|wanted| wanted != *b) || class.is_some_and(|wanted| wanted != *c)
                });
            }
            Step::Supersede { backend, wanted } => self.supersede(backend, wanted),
            Step::Drop(index) => {
                let Some(id) = self.pick(index) else { return };
                let at = self.model.entries.iter().position(|entry| entry.letter.id == id).unwrap();
                if self.model.entries[at].held.is_some() {
                    assert_eq!(self.letters.drop_entry(&id), Err(()));
                } else {
                    assert_eq!(self.letters.drop_entry(&id), Ok(true));
                    self.model.entries.remove(at);
                }
            }
            Step::Expire => {
                assert_eq!(self.letters.expire(now / 1_000, now), self.model.expire());
            }
            Step::Pass { minutes } => self.model.now_ms += minutes * MINUTE_MS,
        }
    }

    fn settle(&mut self, index: prop::sample::Index, verdict: Verdict) {
        if self.claims.is_empty() {
            return;
        }
        let id = self.claims.swap_remove(index.index(self.claims.len()));
        match verdict {
            Verdict::Resolved => drop(self.letters.resolve(&id)),
            Verdict::GivenBack => self.letters.give_back(&id),
            Verdict::Failed(class) => {
                let attempt: Attempt = attempt();
                self.letters.failed(&id, class, "failed", attempt, self.model.now_ms);
            }
        }
        self.model.settle(&id, verdict);
    }

    fn supersede(&mut self, backend: usize, wanted: u16) {
        let is_wanted = |key: &str| wanted >> key.parse::<u16>().unwrap() & 1 == 1;
        let keys = self.letters.keys(BACKENDS[backend]);
        let unwanted = keys.into_iter().filter(|key| !is_wanted(key)).collect();
        let count = self.letters.supersede(BACKENDS[backend], &unwanted);
        let before = self.model.entries.len();
        self.model
            .entries
            .retain(|entry| entry.letter.backend != BACKENDS[backend] || is_wanted(&entry.letter.key));
        assert_eq!(count, (before - self.model.entries.len()) as u64);
        self.model.notes.retain(|(b, key, _, _)| *b != backend || is_wanted(key));
    }

    fn agree(&mut self) {
        for change in self.letters.changes.take() {
            match change.what {
                What::Added(letter) | What::Updated(letter) => {
                    self.told.insert(letter.id.clone(), Letter::clone(&letter));
                }
                What::Gone(letter, _) => drop(self.told.remove(&letter.id)),
            }
        }
        let said =
            |letter: &Letter| Letter { error_message: String::new(), attempts: Vec::new(), ..letter.clone() };
        let all: Vec<_> = self.letters.all().iter().map(|letter| said(letter)).collect();
        let model: Vec<_> = self.model.entries.iter().map(|entry| said(&entry.unclaimed())).collect();
        assert_eq!(all, model);
        assert_eq!(self.told.values().map(said).collect::<Vec<_>>(), model, "the journal, replayed");
        let stats = self.letters.stats(None, self.model.now_ms);
        let held = self.model.entries.iter().filter(|entry| entry.held.is_some()).count();
        assert_eq!(
            (
                stats.size,
                stats.redriving,
                stats.total_evictions,
                stats.total_expired,
                stats.rejected,
                stats.parked
            ),
            (
                model.len() as u64,
                held as u64,
                self.model.evicted,
                self.model.expired,
                self.model.rejected,
                self.model.notes.len() as u64
            )
        );
        for (backend, name) in BACKENDS.into_iter().enumerate() {
            for key in (0..KEYS).map(|key| key.to_string()) {
                let parked = self.letters.parked(name, &key, self.model.now_ms);
                assert_eq!(parked, self.model.parked(backend, &key), "{name} {key}");
            }
        }
    }
}

fn class() -> impl Strategy<Value = Class> {
    use Class::{Auth, Local, Permanent, Refused, Timeout, Transient};
    prop::sample::select(vec![Transient, Permanent, Permanent, Local, Auth, Refused, Timeout])
}

fn step() -> impl Strategy<Value = Step> {
    let backend = || 0..BACKENDS.len();
    let index = any::<prop::sample::Index>;
    let verdict = prop_oneof![
        Just(Verdict::Resolved),
        class().prop_map(Verdict::Failed),
        class().prop_map(Verdict::Failed),
        Just(Verdict::GivenBack)
    ];
    prop_oneof![
        6 => (backend(), 0..KEYS, class(), 0..3_u8, prop::bool::weighted(0.2)).prop_map(
            |(backend, key, class, priority, poison)| Step::Add { backend, key, class, priority, poison }
        ),
        2 => index().prop_map(Step::Claim),
        2 => (backend(), 1..4_usize).prop_map(|(backend, max)| Step::ClaimDue { backend, max }),
        4 => (index(), verdict).prop_map(|(index, verdict)| Step::Settle(index, verdict)),
        1 => index().prop_map(Step::Ask),
        1 => (prop::option::of(backend()), prop::option::of(class()))
            .prop_map(|(backend, class)| Step::AskAll { backend, class }),
        1 => (backend(), any::<u16>()).prop_map(|(backend, wanted)| Step::Supersede { backend, wanted }),
        1 => index().prop_map(Step::Drop),
        1 => Just(Step::Expire),
        3 => (0..40_i64).prop_map(|minutes| Step::Pass { minutes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn the_letters_do_what_a_plain_list_does(
        rejects in any::<bool>(),
        steps in prop::collection::vec(step(), 1..100),
    ) {
        let mut pair = Pair::new(if rejects { Overflow::Reject } else { Overflow::EvictOldest });
        for step in steps {
            pair.step(step);
            pair.agree();
        }
    }
}
