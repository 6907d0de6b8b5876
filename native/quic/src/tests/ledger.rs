//! The ledger against a model that remembers everything: exactly the refuted losses of plain packets are told as acknowledged,
//! every loss is counted once, probes are not, and any bytes are looked at without a panic.

use super::{rounds, Random};
use crate::ledger::{put_integer, Ledger, PATIENCE};
use bytes::{BufMut, BytesMut};
use std::collections::{BTreeMap, BTreeSet};

const DELAY: u64 = 7;
const BEHIND: &[u8] = b"\x31\x03and more";

fn take(bytes: &mut &[u8]) -> u64 {
    let length = 1 << (bytes[0] >> 6);
    let mut value = u64::from(bytes[0] & 0x3f);
    for &byte in &bytes[1..length] {
        value = value << 8 | u64::from(byte);
    }
    *bytes = &bytes[length..];
    value
}

/// A payload with an ACK frame of these packets.
fn payload(acknowledged: &BTreeSet<u64>) -> BytesMut {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for &number in acknowledged.iter().rev() {
        match ranges.last_mut() {
            Some(last) if last.0 == number + 1 => last.0 = number,
            _ => ranges.push((number, number)),
        }
    }
    let mut out = BytesMut::from(&[2][..]);
    for value in [ranges[0].1, DELAY, ranges.len() as u64 - 1, ranges[0].1 - ranges[0].0] {
        put_integer(&mut out, value);
    }
    for pair in ranges.windows(2) {
        put_integer(&mut out, pair[0].0 - pair[1].1 - 2);
        put_integer(&mut out, pair[1].1 - pair[1].0);
    }
    out.put_slice(BEHIND);
    out
}

/// What `payload` was made of.
fn acknowledged(mut bytes: &[u8]) -> BTreeSet<u64> {
    assert_eq!(take(&mut bytes), 2);
    let mut end = take(&mut bytes);
    assert_eq!(take(&mut bytes), DELAY);
    let blocks = take(&mut bytes);
    let mut all = BTreeSet::new();
    for block in 0..=blocks {
        if block > 0 {
            end -= take(&mut bytes) + 2;
        }
        let start = end - take(&mut bytes);
        all.extend(start..=end);
        end = start;
    }
    assert_eq!(bytes, BEHIND);
    all
}

/// Of a packet that is plain, and of one in which there is an ACK; both, or neither.
fn frames(random: &mut Random, is_plain: bool, is_telling: bool) -> Vec<u8> {
    let datagram: &[u8] =
        if is_plain { &[0x31, 2, 1, 2] } else { [&[8, 0, 0][..], &[6, 0, 0], &[1, 0x31, 0]][random.below(3)] };
    let ack: &[u8] = if is_telling { [&[2, 9, 0, 0, 0][..], &[2, 9, 0, 1, 0, 0, 0]][random.below(2)] } else { &[] };
    // An ACK behind frames that stop the reading is not found, and need not be.
    let mut frames = if is_plain && random.chance(2) { [datagram, ack] } else { [ack, datagram] }.concat();
    if random.chance(3) {
        frames.extend([0x31, 1, 9]);
    }
    if random.chance(4) {
        frames.extend([0; 5]);
    }
    frames
}

struct Packet {
    size: usize,
    is_plain: bool,
    is_telling: bool,
    arrives: bool,
}

#[test]
fn refuted_losses_are_told_as_acknowledged_and_nothing_else_is() {
    let mut random = Random::new("ledger");
    let mut settled_in_all = 0;
    for _ in 0..rounds(60) {
        let mut ledger = Ledger::default();
        let mut sent: BTreeMap<u64, Packet> = BTreeMap::new();
        let mut number = random.below(1 << 20) as u64;
        let (one_in, sizes) = (2 + random.below(30), 1 + random.below(200));
        let mut settled = BTreeSet::new();
        let mut counted = 0;
        let first = number;
        for _ in 0..20 {
            for _ in 0..=random.below(60) {
                let (is_plain, is_telling) = (!random.chance(5), random.chance(9));
                let packet =
                    Packet { size: 1200 + random.below(sizes), is_plain, is_telling, arrives: !random.chance(one_in) };
                ledger.sent(number, packet.size, &frames(&mut random, is_plain, is_telling));
                sent.insert(number, packet);
                number += if random.chance(50) { 2 } else { 1 };
            }
            let arrived: BTreeSet<u64> =
                sent.iter().filter(|(_, packet)| packet.arrives).map(|(&number, _)| number).collect();
            let (Some(&largest), false) = (arrived.last(), random.chance(5)) else { continue };
            let before = payload(&arrived);
            let after = ledger.received(&before);
            let new: BTreeSet<u64> = match &after {
                Some(after) => acknowledged(after).difference(&arrived).copied().collect(),
                None => BTreeSet::new(),
            };
            assert!(after.is_none() || acknowledged(after.as_ref().unwrap()).is_superset(&arrived));
            let lost = sent.iter().filter(|(&number, packet)| !packet.arrives && number + 3 <= largest);
            counted = counted.max(lost.clone().count() as u64);
            let refuted: BTreeSet<u64> = lost
                .filter(|(&number, lost)| {
                    let later = || sent.range(number..).map(|(_, packet)| packet).filter(|packet| packet.arrives);
                    let is_refuted = later().any(|packet| packet.size >= lost.size);
                    lost.is_plain && is_refuted && (!lost.is_telling || later().any(|packet| packet.is_telling))
                })
                .map(|(&number, _)| number)
                .collect();
            assert!(new.is_subset(&refuted), "only what is refuted");
            settled.extend(&new);
            let given_up = |number: &u64| number + u64::from(PATIENCE) <= largest;
            assert!(refuted.difference(&settled).all(given_up), "all of it while there is patience");
        }
        assert_eq!(ledger.lost, counted, "of packets from {first} on");
        settled_in_all += settled.len();
    }
    assert!(settled_in_all > 200, "{settled_in_all} were settled");
}

#[test]
fn a_size_that_never_arrives_is_not_settled() {
    let mut ledger = Ledger::default();
    for number in 0..100 {
        ledger.sent(number, if number % 2 == 0 { 1400 } else { 1300 }, &[0x31, 1, 1]);
    }
    assert_eq!(ledger.received(&payload(&(0..100).filter(|number| number % 2 == 1).collect())), None);
    assert_eq!(ledger.lost, 49, "the last is not passed over yet");
}

#[test]
fn probes_are_not_counted_and_their_arrival_tells_their_size() {
    let mut ledger = Ledger::default();
    for number in 0..9 {
        let probe: &[u8] = if number % 2 == 0 { &[1, 0x1f, 0, 0] } else { &[1, 0, 0] };
        ledger.sent(number, 1443, if number < 4 || number == 8 { probe } else { &[0x31, 1, 1] });
    }
    let apart = ledger.received(&payload(&BTreeSet::from([7, 8]))).unwrap();
    assert_eq!(acknowledged(&apart), BTreeSet::from([4, 5, 7, 8]), "6 is not passed over yet");
    assert_eq!(ledger.lost, 2);
}

#[test]
fn an_acknowledgement_behind_datagrams_is_found() {
    let mut ledger = Ledger::default();
    (0..9).for_each(|number| ledger.sent(number, 1300, &[0x31, 1, 1]));
    let before = b"\x31\x02ab\x31\x00";
    let ack = payload(&BTreeSet::from([1, 2, 4, 5, 6, 7]));
    let changed = ledger.received(&[&before[..], &ack].concat()).unwrap();
    assert!(changed.starts_with(before));
    assert_eq!(acknowledged(&changed[before.len()..]), (0..8).collect());
}

#[test]
fn any_bytes_are_looked_at() {
    let mut random = Random::new("ledger bytes");
    let mut changed = 0;
    for _ in 0..rounds(10_000) {
        let mut ledger = Ledger::default();
        for number in 0..40 {
            let length = random.below(6);
            let noise = random.bytes(length);
            ledger.sent(number, 1200 + random.below(3), if random.chance(3) { &noise } else { &[0x31, 1, 1] });
        }
        let mut bytes = payload(&(0..40).filter(|number| number % 5 != 0).collect()).to_vec();
        random.mutate(&mut bytes);
        changed += usize::from(ledger.received(&bytes).is_some());
    }
    assert!(changed > 100, "{changed} were changed");
}
