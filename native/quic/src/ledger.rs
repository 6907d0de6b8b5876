//! Lost packets that carried nothing but DATAGRAMs and an ACK are settled as soon as a later packet of their size has arrived.
//!
//!   sent ──acknowledged──► done        sent ──passed over by 3, a larger or equal later one arrived──► settled
//!
//! Nobody sends a DATAGRAM again (RFC 9221 §5.2) and the open controller does not mind a loss, so all that quinn-proto does with
//! such a loss is to suspect an MTU black hole. Its detector remembers of all that arrived only the largest size and the last
//! packet of it; where sizes differ by a few bytes, or a hundred packets are acknowledged at once, random loss of some percent
//! looks to it like a path that swallows large packets. The ledger knows each size. A loss that a later packet of no smaller
//! size refutes is told to quinn-proto as an acknowledgement, by closing the gap in the ACK frame (RFC 9000 §19.3) that
//! shows it; everything else, with all that a real black hole swallows, goes its usual way. Losses are counted here instead;
//! probes of the path's size are none. What a lost ACK said the peer must have heard from a later one, which said as much.

use bytes::{Buf, BufMut, BytesMut};
use std::collections::VecDeque;

/// Acknowledged packets beyond a missing one after which it is lost (kPacketThreshold of RFC 9002 §6.1.1).
const PASSED_OVER: u64 = 3;
/// As many for quinn-proto: until then a later packet may still refute that the size was the reason. Streams do not wait for
/// it: their losses are also found by time.
pub const PATIENCE: u32 = 128;
/// Round trips after which quinn-proto deems a packet lost; 9/8 (RFC 9002 §6.1.2) leave later packets too little time to refute it.
pub const TIME_PATIENCE: f32 = 1.25;
/// Packets remembered, two bytes each: 100 ms at 7 Gbit/s. Older ones are left to quinn-proto.
const CAPACITY: usize = 1 << 16;

/// Frame types (RFC 9000 §19, RFC 9221). ACKs with ECN counts (0x03) stay as they are: no connection here sends ECT.
const PADDING: u8 = 0x00;
const PING: u8 = 0x01;
const ACK: u8 = 0x02;
const HANDSHAKE_DONE: u8 = 0x1e;
/// Two bytes by its draft (draft-ietf-quic-ack-frequency), one as quinn-proto writes it.
const IMMEDIATE_ACK: u8 = 0x1f;
const DATAGRAM: u8 = 0x30;
const DATAGRAM_WITH_LENGTH: u8 = 0x31;

/// An entry: size in bytes and these; 0: nothing that may be settled (never sent, settled).
const ACKNOWLEDGED: u16 = 0x8000;
/// DATAGRAMs, an ACK before them or not.
const PLAIN: u16 = 0x4000;
/// Counted as lost, or never to be.
const COUNTED: u16 = 0x2000;
/// An ACK is in it.
const TELLING: u16 = 0x1000;
/// Those of links and relay connections are below 1500 bytes.
const SIZE: u16 = 0x0fff;

/// First and last packet number.
type Range = (u64, u64);

/// The packets of a connection's application space that are on their way.
#[derive(Default)]
pub struct Ledger {
    /// Number of the first entry.
    first: u64,
    entries: VecDeque<u16>,
    /// Packets and bytes that were passed over.
    pub lost: u64,
    pub lost_bytes: u64,
    ranges: Vec<Range>,
    settled: Vec<u64>,
}

impl Ledger {
    /// A packet leaves: its number, its bytes, and the frames in it.
    pub fn sent(&mut self, number: u64, bytes: usize, frames: &[u8]) {
        if self.entries.is_empty() {
            self.first = number;
        }
        let end = self.first + self.entries.len() as u64;
        // Numbers are skipped to find out who acknowledges what was never sent (RFC 9000 §21.4).
        if number < end || number - end > CAPACITY as u64 {
            return;
        }
        self.entries.extend((end..number).map(|_| 0));
        self.entries.push_back(bytes.min(SIZE.into()) as u16 | kind(frames));
        while self.entries.len() > CAPACITY {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// A payload has come: what to take instead of it when it shows losses that can be settled.
    pub fn received(&mut self, payload: &[u8]) -> Option<BytesMut> {
        if self.entries.is_empty() {
            return None;
        }
        let mut rest = payload;
        // Most ACKs come first, others behind what they were bundled with.
        while !matches!(rest.first(), None | Some(&ACK)) {
            skip(&mut rest)?;
        }
        let skipped = payload.len() - rest.len();
        rest = rest.get(1..)?;
        let largest = integer(&mut rest)?;
        if largest < self.first {
            return None;
        }
        let delay = integer(&mut rest)?;
        let mut more = integer(&mut rest)?;
        let mut range = below(largest, integer(&mut rest)?)?;
        self.ranges.clear();
        self.ranges.push(range);
        // Ranges below the first entry stay as they came.
        while more > 0 && range.0 > self.first {
            let gap = integer(&mut rest)?;
            let end = range.0.checked_sub(gap.checked_add(2)?)?;
            range = below(end, integer(&mut rest)?)?;
            self.ranges.push(range);
            more -= 1;
        }
        self.judge(largest);
        self.forget(largest);
        if self.settled.is_empty() {
            return None;
        }
        let merged = merge(&self.ranges, &self.settled);
        let mut out = BytesMut::with_capacity(payload.len() + 64);
        out.put_slice(&payload[..=skipped]);
        let blocks = merged.len() as u64 - 1 + more;
        for value in [merged[0].1, delay, blocks, merged[0].1 - merged[0].0] {
            put_integer(&mut out, value);
        }
        for pair in merged.windows(2) {
            put_integer(&mut out, pair[0].0 - pair[1].1 - 2);
            put_integer(&mut out, pair[1].1 - pair[1].0);
        }
        out.put_slice(rest);
        Some(out)
    }

    /// From the newest entry down: what is acknowledged, what is lost, and which losses a later packet refutes.
    fn judge(&mut self, largest: u64) {
        self.settled.clear();
        let mut ranges = self.ranges.iter().peekable();
        let mut arrived = 0;
        let mut is_told = false;
        let newest = largest.min(self.first + self.entries.len() as u64 - 1);
        for number in (self.first..=newest).rev() {
            let entry = &mut self.entries[(number - self.first) as usize];
            while ranges.next_if(|range| range.0 > number).is_some() {}
            let size = *entry & SIZE;
            if ranges.peek().is_some_and(|range| number <= range.1) {
                *entry |= ACKNOWLEDGED;
            }
            if *entry & ACKNOWLEDGED != 0 {
                arrived = arrived.max(size);
                is_told |= *entry & TELLING != 0;
            } else if size != 0 && number + PASSED_OVER <= largest {
                if *entry & COUNTED == 0 {
                    *entry |= COUNTED;
                    self.lost += 1;
                    self.lost_bytes += u64::from(size);
                }
                if *entry & PLAIN != 0 && size <= arrived && (is_told || *entry & TELLING == 0) {
                    *entry = 0;
                    self.settled.push(number);
                }
            }
        }
    }

    /// Drops what is done at the old end, and what quinn-proto deems lost now.
    fn forget(&mut self, largest: u64) {
        while let Some(&entry) = self.entries.front() {
            let is_open = entry & ACKNOWLEDGED == 0 && entry & SIZE != 0;
            if self.first > largest || (is_open && self.first + u64::from(PATIENCE) > largest) {
                return;
            }
            self.entries.pop_front();
            self.first += 1;
        }
    }
}

/// What there is to know of a packet with these frames.
fn kind(mut frames: &[u8]) -> u16 {
    if matches!(frames, [PING, PADDING, ..] | [PING, IMMEDIATE_ACK, PADDING, ..]) {
        return COUNTED;
    }
    let mut kind = 0;
    while let Some(&first) = frames.first() {
        match first {
            ACK => kind |= TELLING,
            PADDING => break,
            DATAGRAM | DATAGRAM_WITH_LENGTH => kind |= PLAIN,
            _ => return kind & !PLAIN,
        }
        if skip(&mut frames).is_none() {
            return kind & !PLAIN;
        }
    }
    kind
}

/// Over a frame, when it is one of those that are in the same packet as an ACK or a DATAGRAM here.
fn skip(bytes: &mut &[u8]) -> Option<()> {
    let first = *bytes.first()?;
    bytes.advance(1);
    match first {
        PADDING | PING | HANDSHAKE_DONE | IMMEDIATE_ACK => {}
        ACK => {
            let (_largest, _delay, more, _first) = (integer(bytes)?, integer(bytes)?, integer(bytes)?, integer(bytes)?);
            for _ in 0..more {
                let (_gap, _length) = (integer(bytes)?, integer(bytes)?);
            }
        }
        DATAGRAM => *bytes = &[],
        DATAGRAM_WITH_LENGTH => {
            let length = usize::try_from(integer(bytes)?).ok()?;
            *bytes = bytes.get(length..)?;
        }
        _ => return None,
    }
    Some(())
}

/// The ranges with the single numbers in their gaps, all of them highest first.
fn merge(ranges: &[Range], numbers: &[u64]) -> Vec<Range> {
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len() + numbers.len());
    let mut numbers = numbers.iter().map(|&number| (number, number)).peekable();
    let mut add = |range: Range| match merged.last_mut() {
        Some(last) if last.0 == range.1 + 1 => last.0 = range.0,
        _ => merged.push(range),
    };
    for &range in ranges {
        while let Some(number) = numbers.next_if(|number| number.0 > range.1) {
            add(number);
        }
        add(range);
    }
    numbers.for_each(add);
    merged
}

/// The range of `length` more than one packet that ends with `end`.
fn below(end: u64, length: u64) -> Option<Range> {
    Some((end.checked_sub(length)?, end))
}

/// A variable-length integer (RFC 9000 §16).
fn integer(bytes: &mut &[u8]) -> Option<u64> {
    let length = 1usize << (bytes.first()? >> 6);
    let (number, rest) = bytes.split_at_checked(length)?;
    let value = number.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
    *bytes = rest;
    Some(value & (u64::MAX >> (66 - 8 * length)))
}

/// Below 2^62, as it came from `integer`.
pub fn put_integer(out: &mut BytesMut, value: u64) {
    match value {
        0..=0x3f => out.put_u8(value as u8),
        0x40..=0x3fff => out.put_u16(value as u16 | 0x4000),
        0x4000..=0x3fff_ffff => out.put_u32(value as u32 | 0x8000_0000),
        _ => out.put_u64(value | 0xc000_0000_0000_0000),
    }
}
