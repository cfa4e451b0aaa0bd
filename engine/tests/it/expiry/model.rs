//! Random writes of rows with a time, and a clock that goes on and jumps, against a plain map; every read compared with
//! brute force. Rows lie in memtables, sealed ones, segments, merged ones, and are replayed.

use std::collections::BTreeMap;
use std::time::Duration;

use akidb::{Collection, Db, ErrorKind, Expect, Snapshot};
use akidb_host::{Clock, Rng};
use serde_json::json;

use super::world::{MINUTE, World, id, payload, schema, vector};

const IDS: u64 = 60;

/// Id to what was written, and until when.
type Rows = BTreeMap<String, (u32, Option<i64>)>;

struct Run {
    world: World,
    rng: Rng,
    db: Option<Db>,
    rows: Option<Collection>,
    written: Rows,
    next: u32,
    /// What was there when it was taken.
    held: Option<(Snapshot, Rows)>,
}

impl Run {
    fn rows(&self) -> &Collection {
        self.rows.as_ref().unwrap()
    }

    fn live(&self) -> Rows {
        let now = self.world.clock.unix_micros();
        let live = self.written.iter().filter(|(_, (_, until))| until.is_none_or(|until| until > now));
        live.map(|(id, row)| (id.clone(), *row)).collect()
    }

    fn until(&mut self) -> Option<i64> {
        let minutes = i64::try_from(self.rng.below(40)).unwrap() - 5;
        (self.rng.below(4) > 0).then(|| self.world.in_minutes(minutes))
    }

    fn write(&mut self) {
        let (n, id) = (self.next, id(self.rng.below(IDS) as u32));
        self.next += 1;
        let (until, there) = (self.until(), self.live().contains_key(&id));
        let rows = self.rows();
        let before = rows.get(id.clone()).unwrap();
        assert_eq!(before.is_some(), there, "{id}");
        match self.next % 5 {
            0 => {
                assert_eq!(rows.delete(id.clone()).unwrap(), there, "{id} is deleted");
                self.written.remove(&id);
                return;
            }
            1 => {
                let written = rows
                    .upsert_if(id.clone(), &vector(n), payload(n, until), Expect::Absent)
                    .map_err(|e| e.kind());
                assert_eq!(written.err(), there.then_some(ErrorKind::Conflict));
                if there {
                    return;
                }
            }
            2 => {
                let patch = json!({ "until": until });
                match rows.update_payload(id.clone(), patch) {
                    Ok(_) => self.written.get_mut(&id).unwrap().1 = until,
                    Err(error) => assert!(error.kind() == ErrorKind::NotFound && !there, "{error}"),
                }
                return;
            }
            _ => drop(rows.upsert(id.clone(), &vector(n), payload(n, until)).unwrap()),
        }
        self.written.insert(id, (n, until));
    }

    fn step(&mut self, jumps: bool) {
        match self.rng.below(24) {
            0..10 => self.write(),
            10..12 => self.db.as_ref().unwrap().flush().unwrap(),
            12 => drop(self.db.as_ref().unwrap().compact().unwrap()),
            13 => {
                let clean = self.rng.below(2) == 0;
                (self.rows, self.held) = (None, None);
                match self.db.take() {
                    Some(db) if clean => db.close().unwrap(),
                    db => drop(db),
                }
                self.open();
            }
            14 => {
                let below = self.rng.below(30);
                let (before, live) = (self.live().len(), self.live());
                let gone: Vec<&String> =
                    live.iter().filter(|(_, (n, _))| u64::from(*n) % 31 == below).map(|(id, _)| id).collect();
                for n in gone.iter().map(|id| live[*id].0) {
                    assert_eq!(self.rows().delete_where(&*format!("n = {n}")).unwrap(), 1);
                }
                self.written.retain(|id, _| !gone.contains(&id));
                assert!(self.live().len() <= before);
            }
            15 if jumps => {
                let minutes = i64::try_from(self.rng.below(60)).unwrap() - 30;
                self.world.clock.jump_wall(minutes * MINUTE);
            }
            16 => {
                let snapshot = self.db.as_ref().unwrap().snapshot("model").unwrap();
                self.held = Some((snapshot, self.live()));
            }
            17..19 => self.world.work(),
            _ => {
                let seconds = self.rng.below(180);
                self.world.clock.advance(Duration::from_secs(seconds));
                if self.rng.below(2) == 0 {
                    self.world.work();
                }
            }
        }
        let query = self.rng.below(u64::from(self.next) + 1) as u32;
        check(self.rows(), &self.live(), query);
        if let Some((snapshot, then)) = &self.held {
            check(&snapshot.collection("rows").unwrap(), then, 7);
        }
    }

    fn open(&mut self) {
        let db = self.world.open();
        self.rows = Some(match db.collections().unwrap().is_empty() {
            true => db.create_collection("rows", schema()).unwrap(),
            false => db.collection("rows").unwrap(),
        });
        self.db = Some(db);
    }
}

fn check(rows: &Collection, live: &Rows, query: u32) {
    let page = rows.scan().limit(10_000).run().unwrap();
    let scanned: Vec<String> = page.iter().map(|row| row.id.to_string()).collect();
    assert_eq!(scanned, live.keys().cloned().collect::<Vec<_>>(), "scan");
    for row in &page {
        let (n, until) = live[&row.id.to_string()];
        // A patched row keeps its number.
        assert_eq!(row.vector, vector(n), "{}", row.id);
        assert_eq!(row.payload.get("until").is_some(), until.is_some(), "{}", row.id);
    }
    assert_eq!(rows.count().unwrap() as usize, live.len(), "count");
    let got = rows.get_many(&(0..IDS as u32).map(|n| id(n).into()).collect::<Vec<_>>()).unwrap();
    assert_eq!(got.into_iter().flatten().collect::<Vec<_>>(), page, "get");
    for filter in [None, Some(("n % 2", 40))] {
        let least = filter.map_or(0, |(_, least)| least);
        let text = format!("n >= {least}");
        let taken: Vec<u32> = live.values().map(|(n, _)| *n).filter(|n| *n >= least).collect();
        assert_eq!(rows.count_where(&*text).unwrap() as usize, taken.len(), "{text}");
        let distance = |n: u32| -> f64 {
            let square = |(a, b): (f32, f32)| f64::from(a - b).powi(2);
            vector(query).into_iter().zip(vector(n)).map(square).sum()
        };
        let mut best: Vec<f64> = taken.iter().map(|n| distance(*n)).collect();
        best.sort_by(f64::total_cmp);
        for search in [rows.search(&vector(query)), rows.search(&vector(query)).exact()] {
            let search = if filter.is_some() { search.filter(&*text) } else { search };
            let hits = search.k(9).run().unwrap();
            assert_eq!(hits.len(), taken.len().min(9), "k rows that live and match come back");
            for (hit, best) in hits.iter().zip(&best) {
                let exact = distance(live[&hit.id.to_string()].0);
                assert!((exact - best).abs() < 1e-3, "{} is not among the nearest: {exact}, {best}", hit.id);
            }
        }
    }
}

/// Where nothing is purged the clock may go either way; where something is, only on.
#[test]
fn any_history_shows_what_a_plain_map_holds_that_has_not_expired() {
    let first: u64 = std::env::var("AKIDB_EXPIRY_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    for seed in first..first + 24 {
        println!("AKIDB_EXPIRY_SEED={seed}");
        let mut rng = Rng::seeded(seed);
        let purges = rng.below(2) == 0;
        let engine = format!(
            "ttl_purge_secs = {}\nmemtable_bytes = \"64 KiB\"\nfilter_cache_bytes = {}\nsnapshot_max_age_secs = 86400\nrest_after_secs = {}",
            if purges { 60 } else { 0 },
            if rng.below(4) == 0 { 0 } else { 1 << 20 },
            rng.below(3) * 40,
        );
        let world = World::new(&engine);
        let mut run = Run { world, rng, db: None, rows: None, written: Rows::new(), next: 0, held: None };
        run.open();
        for _ in 0..150 {
            run.step(!purges);
        }
    }
}
