//! The open congestion controller: inner flows do their own congestion control (cf. RFC 9298 §5), so loss never holds a
//! datagram back. What it does bound is memory: quinn keeps a record of every packet in flight.
//!
//!   window = 2^33 while fewer than `cap` bytes are in flight, else two packets. A window above u32::MAX turns quinn's
//!   pacer off.

use quinn_proto::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// Bytes; above u32::MAX, which is where quinn stops pacing.
pub const OPEN_WINDOW: u64 = 1 << 33;
/// Bytes in flight at which the window closes by default: some 200 bytes of record per packet make it about 40 MB.
pub const DEFAULT_CAP: u64 = 256 << 20;

/// Makes one [`Open`] controller per path.
pub struct OpenFactory {
    pub cap: u64,
}

impl ControllerFactory for OpenFactory {
    fn build(self: Arc<Self>, _now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Open { cap: self.cap, mtu: current_mtu.into(), in_flight: 0 })
    }
}

#[derive(Clone)]
struct Open {
    cap: u64,
    mtu: u64,
    /// Counted here between acknowledgements and set to quinn's own figure at each.
    in_flight: u64,
}

impl Controller for Open {
    fn on_sent(&mut self, _now: Instant, bytes: u64, _last_packet_number: u64) {
        self.in_flight += bytes;
    }

    fn on_ack(&mut self, _: Instant, _: Instant, bytes: u64, _: bool, _: &RttEstimator) {
        self.in_flight = self.in_flight.saturating_sub(bytes);
    }

    fn on_end_acks(&mut self, _: Instant, in_flight: u64, _: bool, _: Option<u64>) {
        self.in_flight = in_flight;
    }

    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, lost_bytes: u64) {
        self.in_flight = self.in_flight.saturating_sub(lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
    }

    fn window(&self) -> u64 {
        if self.in_flight < self.cap {
            OPEN_WINDOW
        } else {
            2 * self.mtu
        }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        OPEN_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_closes_at_the_cap_and_opens_when_packets_are_accounted_for() {
        let now = Instant::now();
        let mut open = Arc::new(OpenFactory { cap: 10_000 }).build(now, 1200);
        assert_eq!(open.window(), OPEN_WINDOW);
        open.on_sent(now, 9_999, 0);
        assert_eq!(open.window(), OPEN_WINDOW);
        open.on_sent(now, 1, 1);
        assert_eq!(open.window(), 2_400);
        open.on_congestion_event(now, now, false, 1);
        assert_eq!(open.window(), OPEN_WINDOW);
        open.on_sent(now, 50_000, 2);
        open.on_mtu_update(1452);
        assert_eq!(open.window(), 2_904);
        open.on_end_acks(now, 0, false, None);
        assert_eq!(open.window(), OPEN_WINDOW);
    }
}
