//! Numbers that cross to TypeScript: event kinds, close reasons, kinds of answers, counters. `src/quic/native.ts` has the
//! same lists.

use quinn_proto as q;

/// Event kinds, as numbers in the event table: kind, connection, a, b.
pub mod kind {
    pub const CONNECTED: u32 = 1; // a: 1 on the server side
    pub const CLOSED: u32 = 2; // a: reason kind, b: code
    pub const DATAGRAMS: u32 = 3;
    pub const STREAM_OPENED: u32 = 4; // a: stream
    pub const STREAM_READABLE: u32 = 5; // a: stream
    pub const STREAM_WRITABLE: u32 = 6; // a: stream
    pub const STREAM_FINISHED: u32 = 7; // a: stream
    pub const STREAM_STOPPED: u32 = 8; // a: stream, b: code
    pub const STREAMS_AVAILABLE: u32 = 9; // a: 0 bidirectional, 1 unidirectional
    pub const DATAGRAMS_UNBLOCKED: u32 = 10;
    pub const ADDRESS_CHANGED: u32 = 11;
    pub const DATAGRAM_SIZE: u32 = 12; // a: largest datagram in bytes
}

/// Why a connection ended.
pub mod reason {
    pub const LOCAL: u32 = 1;
    pub const PEER_APPLICATION: u32 = 2;
    pub const PEER_TRANSPORT: u32 = 3;
    pub const TRANSPORT: u32 = 4;
    pub const RESET: u32 = 5;
    pub const TIMED_OUT: u32 = 6;
    pub const VERSION: u32 = 7;
    pub const NO_IDS: u32 = 8;
}

/// What the endpoint itself wants to send, without a connection.
pub mod response {
    pub const NONE: u32 = 0;
    pub const RESET: u32 = 1;
    pub const VERSION_NEGOTIATION: u32 = 2;
    pub const RETRY: u32 = 3;
    pub const REFUSAL: u32 = 4;
}

/// Indices into the counters.
pub mod counter {
    pub const PACKETS: usize = 0;
    pub const IGNORED: usize = 1;
    pub const ACCEPTED: usize = 2;
    pub const RETRIED: usize = 3;
    pub const REFUSED_TOTAL: usize = 4;
    pub const REFUSED_SOURCE: usize = 5;
    pub const INVALID_INITIAL: usize = 6;
    pub const HANDSHAKE_FAILED: usize = 7;
    pub const SUPPRESSED: usize = 8;
    pub const RESETS: usize = 9;
    pub const CONNECTED: usize = 10;
    pub const CLOSED: usize = 11;
    pub const COUNT: usize = 12;
}

/// Tells the endpoint's own answers apart by their first bytes (RFC 9000 §17).
pub fn classify(packet: &[u8]) -> u32 {
    match packet {
        [first, ..] if first & 0x80 == 0 => response::RESET,
        [_, 0, 0, 0, 0, ..] => response::VERSION_NEGOTIATION,
        _ => response::REFUSAL,
    }
}

/// Longest close reason of a peer that is kept, in characters.
const MAX_REASON: usize = 256;

/// Reason, code and text of the end of a connection.
pub fn describe(error: &q::ConnectionError) -> (u32, u64, String) {
    use q::ConnectionError as E;
    match error {
        E::VersionMismatch => (reason::VERSION, 0, error.to_string()),
        E::TransportError(e) => (reason::TRANSPORT, e.code.into(), e.to_string()),
        E::ConnectionClosed(e) => (reason::PEER_TRANSPORT, e.error_code.into(), e.to_string()),
        E::ApplicationClosed(e) => (
            reason::PEER_APPLICATION,
            e.error_code.into_inner(),
            String::from_utf8_lossy(&e.reason).chars().take(MAX_REASON).collect(),
        ),
        E::Reset => (reason::RESET, 0, error.to_string()),
        E::TimedOut => (reason::TIMED_OUT, 0, error.to_string()),
        E::LocallyClosed => (reason::LOCAL, 0, error.to_string()),
        E::CidsExhausted => (reason::NO_IDS, 0, error.to_string()),
    }
}
