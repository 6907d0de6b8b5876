//! One quinn endpoint and its connections, driven in batches: packets and time in; runs of packets, events and the next
//! deadline out. Only connections that something happened to are looked at.
//!
//! Order of a turn: `receive` for each received run, `expire` when a deadline has passed, then events, then the caller's
//! own writes, then `transmit` until nothing is left. Ids are never used again.

use crate::address;
use crate::admission::{Admission, Verdict};
use crate::codes::{classify, counter, describe, kind, reason, response};
use crate::config::{Configs, Options};
use crate::slot::Slot;
use crate::timers::Timers;
use bytes::{Buf, Bytes, BytesMut};
use quinn_proto as q;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

pub const NO_CONNECTION: u32 = u32::MAX;

/// One row of the event table: kind, connection, a, b.
pub type Event = [f64; 4];

/// One run for one destination, as `transmit` leaves it.
pub struct Run {
    pub bytes: usize,
    pub segment: usize,
    pub destination: SocketAddr,
    pub connection: u32,
    pub response: u32,
}

pub struct Core {
    endpoint: q::Endpoint,
    configs: Configs,
    admission: Admission,
    handshake_timeout: Duration,
    answer_unknown: bool,
    base: Instant,
    /// By quinn's handle, which is used again; `ids` are not.
    slots: Vec<Option<Box<Slot>>>,
    ids: HashMap<u32, usize>,
    next_id: u32,
    touched: Vec<usize>,
    transmitting: VecDeque<usize>,
    timers: Timers,
    due: Vec<u32>,
    pub events: VecDeque<Event>,
    pub close_texts: HashMap<u32, String>,
    responses: VecDeque<(u32, SocketAddr, Vec<u8>)>,
    /// Answers that belong to no connection.
    scratch: Vec<u8>,
    rx: BytesMut,
    /// Connections in whose queues datagrams lie that are the caller's memory.
    lent: u32,
    pub counters: [f64; counter::COUNT],
}

/// Answers waiting for `transmit`; more are dropped (each is an answer to somebody unknown).
const MAX_RESPONSES: usize = 1024;

impl Core {
    pub fn new(configs: Configs, options: &Options) -> Self {
        Self {
            endpoint: q::Endpoint::new(configs.endpoint.clone(), configs.server.clone(), true, None),
            configs,
            admission: Admission::new(options),
            handshake_timeout: Duration::from_millis(options.handshake_timeout.into()),
            answer_unknown: options.answer_unknown,
            base: Instant::now(),
            slots: Vec::new(),
            ids: HashMap::new(),
            next_id: 0,
            touched: Vec::new(),
            transmitting: VecDeque::new(),
            timers: Timers::default(),
            due: Vec::new(),
            events: VecDeque::new(),
            close_texts: HashMap::new(),
            responses: VecDeque::new(),
            scratch: Vec::with_capacity(1 << 17),
            rx: BytesMut::new(),
            lent: 0,
            counters: [0.0; counter::COUNT],
        }
    }

    pub fn set_identity(&mut self, options: &Options, identity: (&str, &str)) -> Result<(), String> {
        self.configs.set_identity(options, Some(identity))?;
        self.endpoint.set_server_config(self.configs.server.clone());
        Ok(())
    }

    fn at(&self, micros: f64) -> Instant {
        self.base + Duration::from_nanos((micros * 1000.0).round() as u64)
    }

    /// The connection with this id, while it exists.
    pub fn slot(&mut self, id: u32) -> Option<&mut Slot> {
        let handle = *self.ids.get(&id)?;
        self.slots[handle].as_deref_mut()
    }

    pub fn connect(&mut self, micros: f64, to: SocketAddr, name: &str) -> Result<u32, String> {
        let now = self.at(micros);
        let config = self.configs.client.clone().ok_or("this endpoint makes no connections")?;
        let (handle, proto) = self.endpoint.connect(now, config, to, name).map_err(|error| error.to_string())?;
        let id = self.insert(now, handle, proto, None);
        self.settle(micros);
        Ok(id)
    }

    /// One received run: packets of `segment` bytes (the last may be shorter), the first `skip` of each not QUIC's.
    pub fn receive(&mut self, now: f64, run: &[u8], segment: usize, skip: usize, remote: SocketAddr) {
        let now = self.at(now);
        self.rx.extend_from_slice(run);
        let mut run = self.rx.split();
        let segment = if segment == 0 { run.len() } else { segment };
        while !run.is_empty() {
            let mut packet = run.split_to(segment.min(run.len()));
            self.counters[counter::PACKETS] += 1.0;
            if packet.len() <= skip {
                self.counters[counter::IGNORED] += 1.0;
                continue;
            }
            packet.advance(skip);
            self.scratch.clear();
            match self.endpoint.handle(now, remote, None, None, packet, &mut self.scratch) {
                Some(q::DatagramEvent::ConnectionEvent(handle, event)) => {
                    if let Some(slot) = self.slots.get_mut(handle.0).and_then(Option::as_deref_mut) {
                        slot.proto.handle_event(event);
                        self.touch(handle.0);
                    }
                }
                Some(q::DatagramEvent::NewConnection(incoming)) => self.incoming(now, incoming),
                Some(q::DatagramEvent::Response(_)) => {
                    let kind = classify(&self.scratch);
                    self.respond(kind, remote);
                }
                None => self.counters[counter::IGNORED] += 1.0,
            }
        }
    }

    fn incoming(&mut self, now: Instant, incoming: q::Incoming) {
        let remote = incoming.remote_address();
        let source = address::source_key(remote);
        let proved = incoming.remote_address_validated();
        match self.admission.judge(source, proved) {
            Verdict::Accept => match self.endpoint.accept(incoming, now, &mut self.scratch, None) {
                Ok((handle, proto)) => {
                    self.counters[counter::ACCEPTED] += 1.0;
                    self.admission.enter(source);
                    self.insert(now, handle, proto, Some(source));
                }
                Err(error) => {
                    self.counters[counter::INVALID_INITIAL] += 1.0;
                    if error.response.is_some() {
                        self.respond(response::REFUSAL, remote);
                    }
                }
            },
            Verdict::Retry => {
                if self.endpoint.retry(incoming, &mut self.scratch).is_ok() {
                    self.counters[counter::RETRIED] += 1.0;
                    self.respond(response::RETRY, remote);
                }
            }
            Verdict::Refuse(reason) => {
                self.counters[reason] += 1.0;
                if proved {
                    let _ = self.endpoint.refuse(incoming, &mut self.scratch);
                    self.respond(response::REFUSAL, remote);
                } else {
                    self.endpoint.ignore(incoming);
                }
            }
        }
    }

    /// Queues `scratch` as an answer that belongs to no connection.
    fn respond(&mut self, kind: u32, remote: SocketAddr) {
        if !self.answer_unknown || self.responses.len() >= MAX_RESPONSES {
            self.counters[counter::SUPPRESSED] += 1.0;
            return;
        }
        if kind == response::RESET {
            self.counters[counter::RESETS] += 1.0;
        }
        self.responses.push_back((kind, remote, self.scratch.clone()));
    }

    fn insert(
        &mut self,
        now: Instant,
        handle: q::ConnectionHandle,
        proto: q::Connection,
        source: Option<IpAddr>,
    ) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        let handle = handle.0;
        if self.slots.len() <= handle {
            self.slots.resize_with(handle + 1, || None);
        }
        let mut slot = Box::new(Slot::new(proto, id, now));
        slot.handshake_deadline = Some(now + self.handshake_timeout);
        slot.admitted = source;
        self.slots[handle] = Some(slot);
        self.ids.insert(id, handle);
        self.touch(handle);
        id
    }

    fn touch(&mut self, handle: usize) {
        if let Some(slot) = self.slots[handle].as_deref_mut() {
            if !slot.touched {
                slot.touched = true;
                self.touched.push(handle);
            }
        }
    }

    /// To be called when the caller has written something: the connection may have packets to send.
    pub fn wake(&mut self, id: u32) {
        if let Some(&handle) = self.ids.get(&id) {
            Self::enqueue(&mut self.slots[handle], &mut self.transmitting, handle);
        }
    }

    fn enqueue(slot: &mut Option<Box<Slot>>, queue: &mut VecDeque<usize>, handle: usize) {
        if let Some(slot) = slot.as_deref_mut() {
            if !slot.transmitting {
                slot.transmitting = true;
                queue.push_back(handle);
            }
        }
    }

    /// Ends a batch of `receive` calls.
    pub fn settle(&mut self, now: f64) {
        let now = self.at(now);
        while let Some(handle) = self.touched.pop() {
            if let Some(slot) = self.slots[handle].as_deref_mut() {
                slot.touched = false;
                let frames = slot.frames_received();
                if frames != slot.frames {
                    (slot.frames, slot.heard) = (frames, now);
                }
                Self::enqueue(&mut self.slots[handle], &mut self.transmitting, handle);
                self.service(handle);
            }
        }
    }

    /// Lets everything happen that is due at `now`.
    pub fn expire(&mut self, micros: f64) {
        let now = self.at(micros);
        let mut due = std::mem::take(&mut self.due);
        self.timers.expire(now, &mut due);
        for id in due.drain(..) {
            let Some(&handle) = self.ids.get(&id) else { continue };
            let Some(slot) = self.slots[handle].as_deref_mut() else { continue };
            slot.entry = None;
            if slot.proto.poll_timeout().is_some_and(|at| at <= now) {
                slot.proto.handle_timeout(now);
            }
            if slot.handshake_deadline.is_some_and(|at| at <= now) {
                slot.handshake_deadline = None;
                if slot.proto.is_handshaking() {
                    slot.proto.close(now, q::VarInt::from_u32(0), Bytes::new());
                    self.closed(handle, reason::TIMED_OUT, 0, "the handshake took too long".into());
                }
            }
            self.touch(handle);
        }
        self.due = due;
        self.settle(micros);
    }

    /// Microseconds on the caller's clock at which `expire` wants to be called, or −1; events waiting; 1 while `transmit`
    /// may find something; connections that hold memory which was lent. The deadline may be early, never late, and is rounded up:
    /// at a time below it by rounding, nothing would be due and the caller would spin.
    pub fn state(&self) -> [f64; 4] {
        let deadline = self.timers.next().map_or(-1.0, |at| (at - self.base).as_nanos().div_ceil(1000) as f64);
        let sends = !self.responses.is_empty() || !self.transmitting.is_empty();
        [deadline, self.events.len() as f64, f64::from(u8::from(sends)), self.lent.into()]
    }

    /// Datagrams of connection `id` are memory of the caller's from now until its queue is empty.
    pub fn lend(&mut self, id: u32) {
        if let Some(slot) = self.ids.get(&id).and_then(|&handle| self.slots[handle].as_deref_mut()) {
            if !slot.lent && !slot.closed {
                slot.lent = true;
                self.lent += 1;
            }
        }
    }

    pub fn silent_for(&mut self, now: f64, id: u32) -> f64 {
        let now = self.at(now);
        self.slot(id).map_or(-1.0, |slot| now.saturating_duration_since(slot.heard).as_nanos() as f64 / 1000.0)
    }

    pub fn close(&mut self, now: f64, id: u32, code: u32, text: Bytes) {
        let now = self.at(now);
        let Some(&handle) = self.ids.get(&id) else { return };
        let Some(slot) = self.slots[handle].as_deref_mut() else { return };
        slot.proto.close(now, q::VarInt::from_u32(code), text);
        self.closed(handle, reason::LOCAL, code.into(), String::new());
        self.wake(id);
        self.service(handle);
    }

    /// Moves what a connection has to say to the endpoint and to the caller, and sets its timer.
    fn service(&mut self, handle: usize) {
        let mut drained = false;
        loop {
            let Some(slot) = self.slots[handle].as_deref_mut() else { return };
            let Some(event) = slot.proto.poll_endpoint_events() else { break };
            drained |= event.is_drained();
            if let Some(answer) = self.endpoint.handle_event(q::ConnectionHandle(handle), event) {
                slot.proto.handle_event(answer);
            }
        }
        while let Some(event) = self.slots[handle].as_deref_mut().and_then(|slot| slot.proto.poll()) {
            self.translate(handle, event);
        }
        let Some(slot) = self.slots[handle].as_deref_mut() else { return };
        if drained {
            self.closed(handle, reason::LOCAL, 0, String::new());
            self.remove(handle);
            return;
        }
        if slot.remote != slot.proto.remote_address() {
            slot.remote = slot.proto.remote_address();
            self.events.push_back([kind::ADDRESS_CHANGED.into(), slot.id.into(), 0.0, 0.0]);
        }
        if !slot.closed && !slot.proto.is_handshaking() {
            let size = slot.proto.datagrams().max_size().unwrap_or(0);
            if size != slot.datagram_size {
                slot.datagram_size = size;
                self.events.push_back([kind::DATAGRAM_SIZE.into(), slot.id.into(), size as f64, 0.0]);
            }
        }
        self.schedule(handle);
    }

    fn schedule(&mut self, handle: usize) {
        let Some(slot) = self.slots[handle].as_deref_mut() else { return };
        let wanted = match (slot.proto.poll_timeout(), slot.handshake_deadline) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        slot.entry = self.timers.set(slot.id, slot.entry, wanted);
    }

    fn translate(&mut self, handle: usize, event: q::Event) {
        use q::StreamEvent as S;
        let Some(slot) = self.slots[handle].as_deref_mut() else { return };
        let (kind, a, b) = match event {
            q::Event::HandshakeDataReady => return,
            q::Event::Connected => {
                slot.handshake_deadline = None;
                let server = slot.proto.side().is_server();
                self.counters[counter::CONNECTED] += 1.0;
                self.release(handle);
                (kind::CONNECTED, u64::from(server), 0)
            }
            q::Event::ConnectionLost { reason } => {
                let (kind, code, text) = describe(&reason);
                return self.closed(handle, kind, code, text);
            }
            q::Event::DatagramReceived => (kind::DATAGRAMS, 0, 0),
            q::Event::DatagramsUnblocked => (kind::DATAGRAMS_UNBLOCKED, 0, 0),
            q::Event::Stream(S::Opened { dir }) => {
                while let Some(stream) = slot.proto.streams().accept(dir) {
                    let stream = u64::from(stream) as f64;
                    self.events.push_back([kind::STREAM_OPENED.into(), slot.id.into(), stream, 0.0]);
                }
                return;
            }
            q::Event::Stream(S::Readable { id }) => (kind::STREAM_READABLE, id.into(), 0),
            q::Event::Stream(S::Writable { id }) => (kind::STREAM_WRITABLE, id.into(), 0),
            q::Event::Stream(S::Finished { id }) => (kind::STREAM_FINISHED, id.into(), 0),
            q::Event::Stream(S::Stopped { id, error_code }) => {
                (kind::STREAM_STOPPED, id.into(), error_code.into_inner())
            }
            q::Event::Stream(S::Available { dir }) => (kind::STREAMS_AVAILABLE, u64::from(dir == q::Dir::Uni), 0),
        };
        let Some(slot) = self.slots[handle].as_deref_mut() else { return };
        if !slot.closed {
            self.events.push_back([kind.into(), slot.id.into(), a as f64, b as f64]);
        }
    }

    /// Says once that a connection has ended.
    fn closed(&mut self, handle: usize, reason: u32, code: u64, text: String) {
        let Some(slot) = self.slots[handle].as_deref_mut() else { return };
        if slot.closed {
            return;
        }
        slot.closed = true;
        // What waits is not sent any more.
        self.lent -= u32::from(std::mem::take(&mut slot.lent));
        slot.handshake_deadline = None;
        let id = slot.id;
        self.counters[counter::CLOSED] += 1.0;
        if slot.admitted.is_some() {
            self.counters[counter::HANDSHAKE_FAILED] += 1.0;
        }
        self.release(handle);
        self.close_texts.insert(id, text);
        self.events.push_back([kind::CLOSED.into(), id.into(), reason.into(), code as f64]);
    }

    /// Takes a connection out of the handshakes in flight.
    fn release(&mut self, handle: usize) {
        if let Some(source) = self.slots[handle].as_deref_mut().and_then(|slot| slot.admitted.take()) {
            self.admission.leave(source);
        }
    }

    fn remove(&mut self, handle: usize) {
        if let Some(slot) = self.slots[handle].take() {
            self.ids.remove(&slot.id);
            self.timers.clear(slot.id, slot.entry);
            self.lent -= u32::from(slot.lent);
        }
    }

    /// The next run, its packets in `packets`, which comes empty. `room` holds it with a prefix to each packet, for which none is left
    /// here, and holds at least one packet of any size.
    pub fn transmit(
        &mut self,
        now: f64,
        max_segments: usize,
        room: usize,
        prefix: usize,
        packets: &mut Vec<u8>,
    ) -> Option<Run> {
        let now = self.at(now);
        while let Some((response, destination, bytes)) = self.responses.pop_front() {
            if bytes.len() + prefix > room {
                self.counters[counter::SUPPRESSED] += 1.0;
                continue;
            }
            packets.extend_from_slice(&bytes);
            let bytes = bytes.len();
            return Some(Run { bytes, segment: bytes, destination, connection: NO_CONNECTION, response });
        }
        while let Some(handle) = self.transmitting.pop_front() {
            let Some(slot) = self.slots[handle].as_deref_mut() else { continue };
            if !slot.transmitting {
                continue;
            }
            let fit = room / (usize::from(slot.proto.current_mtu()) + prefix);
            let Some(sent) = slot.proto.poll_transmit(now, max_segments.min(fit).max(1), packets) else {
                packets.clear();
                slot.transmitting = false;
                if slot.lent && slot.is_empty() {
                    slot.lent = false;
                    self.lent -= 1;
                }
                self.service(handle);
                continue;
            };
            let connection = slot.id;
            self.transmitting.push_back(handle);
            let segment = sent.segment_size.unwrap_or(sent.size);
            return Some(Run {
                bytes: sent.size,
                segment,
                destination: sent.destination,
                connection,
                response: response::NONE,
            });
        }
        None
    }

    /// Handshakes in flight, connections that exist, and entries of the per-source table.
    pub fn gauges(&self) -> [usize; 3] {
        [self.admission.in_flight(), self.ids.len(), self.admission.sources()]
    }
}
