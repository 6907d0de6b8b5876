//! One connection, and what the endpoint has to remember of it.

use quinn_proto as q;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

pub struct Slot {
    pub proto: q::Connection,
    pub id: u32,
    pub remote: SocketAddr,
    pub datagram_size: usize,
    /// Space in quinn's queue of datagrams while that is empty.
    pub empty_space: usize,
    /// Datagrams of the caller's own memory may be in that queue; counted in `Core::lent`.
    pub lent: bool,
    /// In `Core::transmitting`.
    pub transmitting: bool,
    /// In `Core::touched`.
    pub touched: bool,
    /// This connection's entry in the timers.
    pub entry: Option<Instant>,
    pub handshake_deadline: Option<Instant>,
    /// Counted as a handshake in flight from this source.
    pub admitted: Option<IpAddr>,
    pub closed: bool,
    /// When the last frame arrived, and how many had by then: only the peer can have sent one.
    pub heard: Instant,
    pub frames: u64,
}

impl Slot {
    pub fn new(mut proto: q::Connection, id: u32, now: Instant) -> Self {
        Self {
            empty_space: proto.datagrams().send_buffer_space(),
            remote: proto.remote_address(),
            proto,
            id,
            datagram_size: 0,
            lent: false,
            transmitting: false,
            touched: false,
            entry: None,
            handshake_deadline: None,
            admitted: None,
            closed: false,
            heard: now,
            frames: 0,
        }
    }

    /// Whether no datagram waits to be sent.
    pub fn is_empty(&mut self) -> bool {
        self.proto.datagrams().send_buffer_space() == self.empty_space
    }

    /// Frames that authenticated packets carried; any valid packet has at least one of these or is all padding.
    pub fn frames_received(&self) -> u64 {
        let f = self.proto.stats().frame_rx;
        f.acks
            + f.crypto
            + f.datagram
            + f.ping
            + f.stream
            + f.max_data
            + f.max_stream_data
            + f.path_challenge
            + f.path_response
            + f.new_connection_id
            + f.retire_connection_id
            + u64::from(f.handshake_done)
    }
}
