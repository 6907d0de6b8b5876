//! What a turn of the caller's loop takes in, and the shortcuts for it: each crossing costs more than what it does for one packet.

use crate::address;
use crate::codes::kind;
use crate::{NativeEndpoint, EVENT_WORDS, RUN_WORDS, STATE_PUBLISHED};
use napi_derive::napi;

#[napi]
impl NativeEndpoint {
    /// Takes `count` runs of the table; returns how many lay outside their memory.
    #[napi]
    pub fn receive(&mut self, now: f64, count: u32) -> u32 {
        let outside = self.take_runs(now, count);
        self.publish();
        outside
    }

    #[napi]
    pub fn expire(&mut self, now: f64) {
        self.core.expire(now);
        self.publish();
    }

    /// Moves events to the table; returns how many. A full table means there may be more.
    #[napi]
    pub fn events(&mut self) -> u32 {
        let count = self.move_events();
        self.publish();
        count
    }

    /// `receive`, `expire`, `events`, and `read_datagrams` of the first connection that has some, in one.
    #[napi]
    pub fn take(&mut self, now: f64, count: u32) -> u32 {
        let outside = if count > 0 { self.take_runs(now, count) } else { 0 };
        self.core.expire(now);
        let events = self.move_events();
        let table = self.shared.events.chunks_exact(EVENT_WORDS).take(events as usize);
        let first = table.into_iter().find(|row| row[0] == f64::from(kind::DATAGRAMS)).map(|row| row[1]);
        let read = first.map_or(0, |id| self.read_datagrams(id as u32));
        let taken = [f64::from(outside), first.unwrap_or(-1.0), f64::from(read)];
        unsafe { self.shared.state.as_mut()[STATE_PUBLISHED..][..taken.len()].copy_from_slice(&taken) };
        self.publish();
        events
    }

    /// `write_datagrams`, then `transmit` to the beginning of `tx`: returns as that does, `results` say what became of the datagrams.
    #[napi]
    pub fn send(&mut self, now: f64, connection: u32, memory: u32, count: u32, max_segments: u32) -> u32 {
        self.write_datagrams(connection, memory, count);
        self.transmit(now, 0, max_segments)
    }

    fn take_runs(&mut self, now: f64, count: u32) -> u32 {
        let mut outside = 0;
        for run in self.shared.runs.chunks_exact(RUN_WORDS).take(count as usize) {
            let [memory, from, length, segment, skip] = [0, 1, 2, 3, 4].map(|i| run[i] as usize);
            match self.attached.get(memory).and_then(|bytes| bytes.get(from..from + length)) {
                Some(bytes) => self.core.receive(now, bytes, segment, skip, address::read(&run[5..])),
                None => outside += 1,
            }
        }
        self.core.settle(now);
        outside
    }

    fn move_events(&mut self) -> u32 {
        let table = unsafe { self.shared.events.as_mut() };
        let mut count = 0;
        for row in table.chunks_exact_mut(EVENT_WORDS) {
            let Some(event) = self.core.events.pop_front() else { break };
            row.copy_from_slice(&event);
            count += 1;
        }
        count
    }
}
