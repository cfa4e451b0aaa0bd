//! All that ever happened, in order: what a collection was at an LSN.

use std::sync::Arc;

use akidb::Lsn;

use super::truth::{Event, Table, Tables};

/// Events along one line of opens of one directory, none left out.
#[derive(Clone, Default)]
pub(crate) struct Past(Vec<Arc<Event>>);

impl Past {
    pub(crate) fn push(&mut self, event: Event) {
        self.0.push(Arc::new(event));
    }

    /// What may be found of a collection where everything up to `lsn` counts and nothing after it, for each time that a
    /// collection of this name was created. More than one state where it is not known which LSN a write got. What `later`
    /// holds has begun.
    pub(crate) fn at(&self, name: &str, lsn: Lsn, later: &[Event]) -> Vec<Vec<Table>> {
        let events = self.0.iter().map(|event| &**event).chain(later).filter(|event| event.name() == name);
        let (mut lives, mut states, mut now, mut is_over) = (Vec::new(), Vec::new(), Tables::new(), false);
        for event in events {
            match event {
                Event::Write { lsns, .. } => {
                    is_over |= lsns.is_some_and(|(_, last)| last > lsn);
                    if is_over {
                        continue;
                    }
                    match lsns {
                        // Whatever was uncertain before is certain now.
                        Some(_) => states.clear(),
                        None => states.extend(now.get(name).cloned()),
                    }
                }
                Event::Create(..) | Event::Drop(_) => {
                    end(&mut lives, &mut states, now.remove(name));
                    is_over = false;
                }
            }
            event.apply(&mut now);
        }
        end(&mut lives, &mut states, now.remove(name));
        lives
    }
}

/// A collection is at its end, if it was there.
fn end(lives: &mut Vec<Vec<Table>>, states: &mut Vec<Table>, last: Option<Table>) {
    if let Some(last) = last {
        states.push(last);
        lives.push(std::mem::take(states));
    }
}
