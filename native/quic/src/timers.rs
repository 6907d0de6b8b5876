//! Deadlines of many connections, one per connection, earliest first. Moving a deadline later costs nothing until it fires:
//! an entry may be early, never late, and its owner is asked again when it is due.

use std::collections::BTreeSet;
use std::time::Instant;

#[derive(Default)]
pub struct Timers {
    entries: BTreeSet<(Instant, u32)>,
}

impl Timers {
    /// Records that `id`, whose entry is at `current`, wants to be called at `wanted`; returns where its entry is now.
    pub fn set(&mut self, id: u32, current: Option<Instant>, wanted: Option<Instant>) -> Option<Instant> {
        let Some(wanted) = wanted else { return current };
        if current.is_some_and(|at| at <= wanted) {
            return current;
        }
        self.clear(id, current);
        self.entries.insert((wanted, id));
        Some(wanted)
    }

    pub fn clear(&mut self, id: u32, current: Option<Instant>) {
        if let Some(at) = current {
            self.entries.remove(&(at, id));
        }
    }

    pub fn next(&self) -> Option<Instant> {
        self.entries.first().map(|entry| entry.0)
    }

    /// Moves the ids whose deadline is at or before `now` to `due`.
    pub fn expire(&mut self, now: Instant, due: &mut Vec<u32>) {
        while self.entries.first().is_some_and(|entry| entry.0 <= now) {
            due.extend(self.entries.pop_first().map(|entry| entry.1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_entry_per_id_early_at_worst() {
        let base = Instant::now();
        let at = |n: u64| base + Duration::from_millis(n);
        let mut timers = Timers::default();
        let entry = timers.set(1, None, Some(at(50)));
        let entry = timers.set(1, entry, Some(at(80)));
        assert_eq!(entry, Some(at(50)));
        let entry = timers.set(1, entry, Some(at(20)));
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.entries.len(), 1);
        timers.set(2, None, Some(at(30)));
        let mut due = vec![];
        timers.expire(at(19), &mut due);
        assert!(due.is_empty());
        timers.expire(at(20), &mut due);
        assert_eq!(due, [1]);
        timers.clear(1, entry);
        timers.clear(2, Some(at(30)));
        assert_eq!(timers.next(), None);
    }
}
