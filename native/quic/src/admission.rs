//! Whom the server begins a handshake with: limits on handshakes in flight, in total and per source, and Retry (RFC 9000
//! §8.1.2) for addresses that have not proved themselves once there are many.

use crate::codes::counter;
use crate::config::Options;
use std::collections::HashMap;
use std::net::IpAddr;

pub enum Verdict {
    Accept,
    Retry,
    /// The counter that says why.
    Refuse(usize),
}

pub struct Admission {
    retry_above: u32,
    most: u32,
    most_per_source: u32,
    in_flight: u32,
    sources: HashMap<IpAddr, u32>,
}

impl Admission {
    pub fn new(options: &Options) -> Self {
        Self {
            // A Retry is an answer to a stranger.
            retry_above: if options.answer_unknown { options.retry_above } else { u32::MAX },
            most: options.max_handshakes,
            most_per_source: options.max_handshakes_per_source,
            in_flight: 0,
            sources: HashMap::new(),
        }
    }

    pub fn judge(&self, source: IpAddr, proved: bool) -> Verdict {
        if self.in_flight >= self.most {
            Verdict::Refuse(counter::REFUSED_TOTAL)
        } else if self.sources.get(&source).is_some_and(|n| *n >= self.most_per_source) {
            Verdict::Refuse(counter::REFUSED_SOURCE)
        } else if !proved && self.in_flight >= self.retry_above {
            Verdict::Retry
        } else {
            Verdict::Accept
        }
    }

    pub fn enter(&mut self, source: IpAddr) {
        self.in_flight += 1;
        *self.sources.entry(source).or_default() += 1;
    }

    /// Undoes one `enter`.
    pub fn leave(&mut self, source: IpAddr) {
        self.in_flight -= 1;
        if let Some(n) = self.sources.get_mut(&source) {
            *n -= 1;
            if *n == 0 {
                self.sources.remove(&source);
            }
        }
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight as usize
    }

    pub fn sources(&self) -> usize {
        self.sources.len()
    }
}
