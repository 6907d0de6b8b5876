//! quinn-proto and rustls for Node: no socket, no thread, no clock. Memory is shared once, at construction or by `attach`;
//! after that calls pass numbers only, and every offset and length is checked against the memory it belongs to.
//!
//! The caller must not transfer or resize an attached buffer. A panic here ends the process. Tables (indices of words):
//!
//!   runs       10 a run: memory, offset, length, segment, skip, address ×5    receive reads
//!   out        length, segment, connection, virtual, response, address ×5     transmit, remote write; connect reads address
//!   events     4 an event: kind, connection, a, b                             events writes
//!   inbound / outbound tables   2 a datagram: offset, length                  readDatagrams writes, writeDatagrams reads
//!   results    queued, too large, blocked, unsendable                         writeDatagrams writes
//!   figures    statistics, counters, gauges (see the methods)                 stats, counters write
//!   state      next deadline (µs, −1 none), events waiting, 1 while `transmit` may find something, connections whose queues hold
//!              datagrams that `writeDatagrams` was lent
//!                                                  every call that may change one of them writes it, so that nobody has to ask

mod address;
mod admission;
mod codes;
mod config;
mod controller;
mod datagrams;
mod endpoint;
mod ledger;
mod room;
mod session;
mod slot;
#[cfg(test)]
mod tests;
mod timers;
mod tls;

use address::ADDRESS_WORDS;
use bytes::Bytes;
use config::{Configs, Options};
use datagrams::LARGEST_DATAGRAM;
use endpoint::Core;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use quinn_proto as q;
use rustls::pki_types::CertificateDer;
use slot::Slot;
use std::sync::Arc;

const RUN_WORDS: usize = 10;
const OUT_ADDRESS: usize = 5;
const EVENT_WORDS: usize = 4;
const STATE_WORDS: usize = 4;
/// Free bytes `transmit` needs for one packet of any size that discovery may try, prefix included.
const PACKET_ROOM: usize = 2048;
/// Largest run: what one UDP send with segmentation takes (65,507 bytes of payload over IPv4), rounded down.
const MAX_RUN: usize = 65_000;
/// Payloads start at multiples of this in the inbound arena: checksums read words.
const ALIGNMENT: usize = 4;

/// `transmit`: nothing left; a run was written; the memory is full.
const NOTHING: u32 = 0;
const RUN: u32 = 1;
const NO_ROOM: u32 = 2;

/// Added to the count of `read_datagrams` when more wait; tables are smaller than this.
const MORE: u32 = 1 << 16;

/// Stream calls: a stream that does not exist or is over; one that the peer does not want written.
const UNKNOWN: i32 = -1;
const STOPPED: i32 = -2;
/// State of a stream after `read_stream`, in figures[0]: more may come, the end was reached, the peer gave it up.
const OPEN: f64 = 0.0;
const FINISHED: f64 = 1.0;
const RESET: f64 = 2.0;

/// The memory that both sides see.
#[napi(object, object_to_js = false)]
pub struct Shared {
    pub runs: Uint32Array,
    pub out: Uint32Array,
    pub tx: Uint8Array,
    pub events: Float64Array,
    pub inbound: Uint8Array,
    pub inbound_table: Uint32Array,
    pub outbound_table: Uint32Array,
    pub results: Uint32Array,
    pub figures: Float64Array,
    pub state: Float64Array,
    pub scratch: Uint8Array,
}

#[napi]
pub struct NativeEndpoint {
    core: Core,
    options: Options,
    clock: Arc<tls::WallClock>,
    shared: Shared,
    attached: Vec<Uint8Array>,
    aside: room::Aside,
    /// Payloads that `read_datagrams` has copied, let go of together: giving back a share of memory is a locked instruction, which waits
    /// until the copies before it have left the processor.
    spent: Vec<Bytes>,
}

#[napi]
impl NativeEndpoint {
    #[napi(constructor)]
    pub fn new(options: Options, shared: Shared) -> Result<Self> {
        let small = shared.out.len() < OUT_ADDRESS + ADDRESS_WORDS
            || shared.results.len() < 4
            || shared.figures.len() < 32
            || shared.state.len() < STATE_WORDS
            || shared.inbound.len() < LARGEST_DATAGRAM + ALIGNMENT
            || shared.inbound_table.len() < 2;
        if small || shared.inbound_table.len() / 2 >= MORE as usize {
            return Err(Error::from_reason("a shared table has the wrong size"));
        }
        let clock = Arc::new(tls::WallClock::default());
        clock.set(options.wall_time as u64);
        let configs = Configs::new(&options, clock.clone()).map_err(Error::from_reason)?;
        let core = Core::new(configs, &options);
        let mut endpoint = Self {
            core,
            options,
            clock,
            shared,
            attached: Vec::new(),
            aside: room::Aside::default(),
            spent: Vec::new(),
        };
        endpoint.publish();
        Ok(endpoint)
    }

    fn publish(&mut self) {
        unsafe { self.shared.state.as_mut()[..STATE_WORDS].copy_from_slice(&self.core.state()) };
    }

    /// The caller has written something to a connection.
    fn wake(&mut self, connection: u32) {
        self.core.wake(connection);
        self.publish();
    }

    #[napi]
    pub fn attach(&mut self, memory: Uint8Array) -> u32 {
        self.attached.push(memory);
        (self.attached.len() - 1) as u32
    }

    #[napi]
    pub fn set_wall_time(&self, millis: f64) {
        self.clock.set(millis as u64);
    }

    #[napi]
    pub fn set_identity(&mut self, certificate: String, key: String) -> Result<()> {
        self.core.set_identity(&self.options, (&certificate, &key)).map_err(Error::from_reason)
    }

    /// The address is in `out`.
    #[napi]
    pub fn connect(&mut self, now: f64, server_name: String) -> Result<u32> {
        let to = address::read(&self.shared.out[OUT_ADDRESS..]);
        let id = self.core.connect(now, to, &server_name).map_err(Error::from_reason);
        self.publish();
        id
    }

    /// Takes `count` runs of the table; returns how many lay outside their memory.
    #[napi]
    pub fn receive(&mut self, now: f64, count: u32) -> u32 {
        let mut outside = 0;
        for run in self.shared.runs.chunks_exact(RUN_WORDS).take(count as usize) {
            let [memory, from, length, segment, skip] = [0, 1, 2, 3, 4].map(|i| run[i] as usize);
            match self.attached.get(memory).and_then(|bytes| bytes.get(from..from + length)) {
                Some(bytes) => self.core.receive(now, bytes, segment, skip, address::read(&run[5..])),
                None => outside += 1,
            }
        }
        self.core.settle(now);
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
        let table = unsafe { self.shared.events.as_mut() };
        let mut count = 0;
        for row in table.chunks_exact_mut(EVENT_WORDS) {
            let Some(event) = self.core.events.pop_front() else { break };
            row.copy_from_slice(&event);
            count += 1;
        }
        self.publish();
        count
    }

    #[napi]
    pub fn close_text(&mut self, connection: u32) -> String {
        self.core.close_texts.remove(&connection).unwrap_or_default()
    }

    /// Writes the next run to `tx` at `offset` and describes it in `out`. Returns NOTHING, RUN or NO_ROOM.
    #[napi]
    pub fn transmit(&mut self, now: f64, offset: u32, max_segments: u32) -> u32 {
        let prefix = self.options.virtual_prefix_bytes as usize;
        let offset = offset as usize;
        let room = self.shared.tx.len().saturating_sub(offset).min(MAX_RUN);
        if room < PACKET_ROOM + prefix {
            return NO_ROOM;
        }
        let tx = unsafe { &mut self.shared.tx.as_mut()[offset..] };
        let core = &mut self.core;
        let run = self.aside.fill(tx, |packets| core.transmit(now, max_segments as usize, room, prefix, packets));
        let Some(run) = run else {
            self.publish();
            return NOTHING;
        };
        let is_virtual = prefix > 0 && address::is_virtual(run.destination);
        let prefix = if is_virtual { prefix } else { 0 };
        let count = run.bytes.div_ceil(run.segment.max(1));
        if prefix > 0 {
            // Room before each packet, the last first: none is written over.
            for i in (0..count).rev() {
                let (from, to) = (i * run.segment, ((i + 1) * run.segment).min(run.bytes));
                tx.copy_within(from..to, from + (i + 1) * prefix);
            }
        }
        self.publish();
        let length = run.bytes + count * prefix;
        let out = unsafe { self.shared.out.as_mut() };
        out[..OUT_ADDRESS].copy_from_slice(&[
            length as u32,
            (run.segment + prefix) as u32,
            run.connection,
            is_virtual.into(),
            run.response,
        ]);
        address::write(run.destination, &mut out[OUT_ADDRESS..]);
        RUN
    }

    /// Copies waiting datagrams to the inbound arena; returns how many, plus MORE when they did not all fit.
    #[napi]
    pub fn read_datagrams(&mut self, connection: u32) -> u32 {
        let Some(slot) = self.core.slot(connection) else { return 0 };
        let arena = unsafe { self.shared.inbound.as_mut() };
        let table = unsafe { self.shared.inbound_table.as_mut() };
        let (mut at, mut count) = (0, 0);
        let mut datagrams = slot.proto.datagrams();
        for row in table.chunks_exact_mut(2) {
            // The largest datagram must fit, because one that was taken cannot be put back.
            if arena.len() - at < LARGEST_DATAGRAM + ALIGNMENT {
                break;
            }
            let Some(payload) = datagrams.recv() else {
                self.spent.clear();
                return count;
            };
            arena[at..at + payload.len()].copy_from_slice(&payload);
            row.copy_from_slice(&[at as u32, payload.len() as u32]);
            at = (at + payload.len()).next_multiple_of(ALIGNMENT);
            count += 1;
            self.spent.push(payload);
        }
        self.spent.clear();
        count | MORE
    }

    /// Queues `count` datagrams of the outbound table, taken from memory `memory`; results say what became of them. They are copied
    /// unless they are lent: then the caller leaves these bytes as they are until the state says that nobody holds any.
    #[napi]
    pub fn write_datagrams(&mut self, connection: u32, memory: u32, count: u32, lend: bool) -> u32 {
        let mut results = [0u32; 4];
        if let (Some(slot), Some(bytes)) = (self.core.slot(connection), self.attached.get(memory as usize)) {
            let rows = || {
                let rows = self.shared.outbound_table.chunks_exact(2).take(count as usize);
                rows.map(|row| bytes.get(row[0] as usize..row[0] as usize + row[1] as usize))
            };
            // SAFETY: what is attached lives as long as this object, and the connections go first (order of the fields).
            results = match lend {
                true => datagrams::queue(slot.proto.datagrams(), rows(), |payload| unsafe { datagrams::lent(payload) }),
                false => datagrams::queue_copies(slot.proto.datagrams(), rows),
            };
            if lend {
                self.core.lend(connection);
            }
            self.wake(connection);
        } else {
            results[3] = count;
        }
        unsafe { self.shared.results.as_mut()[..4].copy_from_slice(&results) };
        results[0]
    }

    /// Opens a stream; −1 when the peer allows no more now.
    #[napi]
    pub fn open_stream(&mut self, connection: u32, unidirectional: bool) -> f64 {
        let dir = if unidirectional { q::Dir::Uni } else { q::Dir::Bi };
        let stream = self.core.slot(connection).and_then(|slot| slot.proto.streams().open(dir));
        stream.map_or(-1.0, |id| u64::from(id) as f64)
    }

    /// Reads up to `max` bytes in order to the scratch memory; returns how many, or UNKNOWN. figures[0] is the state
    /// after them (OPEN, FINISHED, RESET: the stream is then over), figures[1] the code of a reset.
    #[napi]
    pub fn read_stream(&mut self, connection: u32, stream: f64, max: u32) -> i32 {
        let scratch = unsafe { self.shared.scratch.as_mut() };
        let figures = unsafe { self.shared.figures.as_mut() };
        let max = scratch.len().min(max as usize);
        let Some((proto, id)) = readable(self.core.slot(connection), stream) else { return UNKNOWN };
        let mut receiver = proto.recv_stream(id);
        let Ok(mut chunks) = receiver.read(true) else { return UNKNOWN };
        let mut read = 0;
        figures[0] = OPEN;
        while read < max {
            match chunks.next(max - read) {
                Ok(Some(chunk)) => {
                    scratch[read..read + chunk.bytes.len()].copy_from_slice(&chunk.bytes);
                    read += chunk.bytes.len();
                    continue;
                }
                Ok(None) => figures[0] = FINISHED,
                Err(q::ReadError::Blocked) => {}
                Err(q::ReadError::Reset(code)) => {
                    figures[0] = RESET;
                    figures[1] = code.into_inner() as f64;
                }
            }
            break;
        }
        let _ = chunks.finalize();
        self.wake(connection);
        read as i32
    }

    /// Writes `length` bytes of the scratch memory; bytes accepted (0: full), or STOPPED, UNKNOWN.
    #[napi]
    pub fn write_stream(&mut self, connection: u32, stream: f64, length: u32) -> i32 {
        let data = &self.shared.scratch[..self.shared.scratch.len().min(length as usize)];
        let Some((proto, id)) = writable(self.core.slot(connection), stream) else { return UNKNOWN };
        let result = match proto.send_stream(id).write(data) {
            Ok(n) => n as i32,
            Err(q::WriteError::Blocked) => 0,
            Err(q::WriteError::Stopped(_)) => STOPPED,
            Err(q::WriteError::ClosedStream) => UNKNOWN,
        };
        self.wake(connection);
        result
    }

    /// Says that nothing more will be written.
    #[napi]
    pub fn finish_stream(&mut self, connection: u32, stream: f64) -> bool {
        let done =
            writable(self.core.slot(connection), stream).is_some_and(|(c, id)| c.send_stream(id).finish().is_ok());
        self.wake(connection);
        done
    }

    #[napi]
    pub fn reset_stream(&mut self, connection: u32, stream: f64, code: u32) -> bool {
        let done = writable(self.core.slot(connection), stream)
            .is_some_and(|(c, id)| c.send_stream(id).reset(q::VarInt::from_u32(code)).is_ok());
        self.wake(connection);
        done
    }

    /// Asks the peer to stop writing.
    #[napi]
    pub fn stop_stream(&mut self, connection: u32, stream: f64, code: u32) -> bool {
        let done = readable(self.core.slot(connection), stream)
            .is_some_and(|(c, id)| c.recv_stream(id).stop(q::VarInt::from_u32(code)).is_ok());
        self.wake(connection);
        done
    }

    /// Ends a connection; CLOSED follows at once, the id is dead after that event.
    #[napi]
    pub fn close(&mut self, now: f64, connection: u32, code: u32, text: String) {
        self.core.close(now, connection, code, Bytes::from(text));
        self.publish();
    }

    #[napi]
    pub fn ping(&mut self, connection: u32) {
        if let Some(slot) = self.core.slot(connection) {
            slot.proto.ping();
            self.wake(connection);
        }
    }

    #[napi]
    pub fn force_key_update(&mut self, connection: u32) {
        if let Some(slot) = self.core.slot(connection) {
            slot.proto.force_key_update();
            slot.proto.ping();
            self.wake(connection);
        }
    }

    /// The caller's own address has changed: makes the peer notice at once (clients).
    #[napi]
    pub fn local_address_changed(&mut self, connection: u32) {
        if let Some(slot) = self.core.slot(connection) {
            slot.proto.local_address_changed();
            self.wake(connection);
        }
    }

    /// The peer's certificates (DER), its own first; empty before CONNECTED.
    #[napi]
    pub fn peer_certificates(&mut self, connection: u32) -> Vec<Buffer> {
        let chain = self.core.slot(connection).and_then(|slot| slot.proto.crypto_session().peer_identity());
        let chain = chain.and_then(|any| any.downcast::<Vec<CertificateDer>>().ok());
        chain.map_or_else(Vec::new, |chain| chain.iter().map(|der| Buffer::from(der.to_vec())).collect())
    }

    /// Writes the peer's address to `out`; false for an unknown connection.
    #[napi]
    pub fn remote(&mut self, connection: u32) -> bool {
        let Some(slot) = self.core.slot(connection) else { return false };
        let remote = slot.proto.remote_address();
        address::write(remote, unsafe { &mut self.shared.out.as_mut()[OUT_ADDRESS..] });
        true
    }

    /// Microseconds since something authentic arrived, or since the connection was made; −1 for an unknown one.
    #[napi]
    pub fn silent_for(&mut self, now: f64, connection: u32) -> f64 {
        self.core.silent_for(now, connection)
    }

    /// figures: rtt, min rtt (µs), window, MTU, max datagram, packets sent, packets lost, bytes lost, datagrams in, out,
    /// UDP payloads in, out, UDP bytes in, out, black holes, free bytes of the datagram send buffer.
    #[napi]
    pub fn stats(&mut self, connection: u32) -> bool {
        let Some(slot) = self.core.slot(connection) else { return false };
        let s = slot.proto.stats();
        let max = slot.proto.datagrams().max_size().unwrap_or(0);
        let space = slot.proto.datagrams().send_buffer_space();
        let p = &s.path;
        // Either counts what the other does not: losses that were settled, and those found by time alone.
        let (lost, lost_bytes) = session::lost(&slot.proto);
        let figures = [
            p.rtt.as_nanos() as f64 / 1000.0,
            p.min_rtt.as_nanos() as f64 / 1000.0,
            p.cwnd as f64,
            p.current_mtu.into(),
            max as f64,
            p.sent_packets as f64,
            p.lost_packets.max(lost) as f64,
            p.lost_bytes.max(lost_bytes) as f64,
            s.frame_rx.datagram as f64,
            s.frame_tx.datagram as f64,
            s.udp_rx.datagrams as f64,
            s.udp_tx.datagrams as f64,
            s.udp_rx.bytes as f64,
            s.udp_tx.bytes as f64,
            p.black_holes_detected as f64,
            space as f64,
        ];
        unsafe { self.shared.figures.as_mut()[..figures.len()].copy_from_slice(&figures) };
        true
    }

    /// figures: the counters in the order of `codes::counter`, then handshakes in flight, connections, sources.
    #[napi]
    pub fn counters(&mut self) {
        let figures = unsafe { self.shared.figures.as_mut() };
        let gauges = self.core.gauges().map(|n| n as f64);
        let counters = self.core.counters;
        figures[..counters.len()].copy_from_slice(&counters);
        figures[counters.len()..counters.len() + gauges.len()].copy_from_slice(&gauges);
    }
}

fn stream_id(stream: f64) -> Option<q::StreamId> {
    q::VarInt::from_u64(stream as u64).ok().map(q::StreamId::from)
}

fn readable(slot: Option<&mut Slot>, stream: f64) -> Option<(&mut q::Connection, q::StreamId)> {
    let (slot, id) = (slot?, stream_id(stream)?);
    (id.dir() == q::Dir::Bi || id.initiator() != slot.proto.side()).then_some((&mut slot.proto, id))
}

fn writable(slot: Option<&mut Slot>, stream: f64) -> Option<(&mut q::Connection, q::StreamId)> {
    let (slot, id) = (slot?, stream_id(stream)?);
    (id.dir() == q::Dir::Bi || id.initiator() == slot.proto.side()).then_some((&mut slot.proto, id))
}
