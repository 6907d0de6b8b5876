//! What arrives at the socket: bytes of strangers, and real packets changed on their way.

use super::pair::{core, options, transmit, Pair};
use super::{rounds, Random};
use crate::address;
use crate::codes::counter;
use bytes::Bytes;
use quinn_proto as q;
use std::net::SocketAddr;

#[test]
fn bytes_of_strangers_cost_nothing_that_stays() {
    let mut random = Random::new("strangers");
    let mut server = core(&options());
    let mut now = 1e6;
    for _ in 0..rounds(50_000) {
        let length = random.below(1500);
        let mut bytes = random.bytes(length);
        // Half of them look like a long header of this version, so that they get further.
        if length > 30 && random.chance(2) {
            bytes[0] = 0xc0 | (bytes[0] & 0x3f);
            bytes[1..5].copy_from_slice(&[0, 0, 0, 1]);
            bytes[5] %= 21;
        }
        let segment = [0, 1, 7, 1200, length][random.below(5)];
        let skip = [0, 9, 1500][random.below(3)];
        server.receive(now, &bytes, segment, skip, stranger(&mut random));
        server.settle(now);
        while transmit(&mut server, now, 10).is_some() {}
        server.events.clear();
        now += 1000.0;
        server.expire(now);
    }
    for _ in 0..100 {
        now += 1e6;
        server.expire(now);
        while transmit(&mut server, now, 10).is_some() {}
    }
    assert_eq!(server.gauges(), [0, 0, 0], "handshakes, connections and sources are gone");
    assert_eq!(server.counters[counter::CONNECTED], 0.0);
    assert!(server.counters[counter::IGNORED] > 0.0);
}

#[test]
fn changed_packets_break_nothing_but_themselves() {
    let mut random = Random::new("changed packets");
    let (mut connected, mut carried) = (0, 0);
    for _ in 0..rounds(200) {
        let mut pair = Pair::new(core(&options()), core(&options()));
        let one_in = 1 + random.below(12);
        let id = pair.connect();
        for step in 0..10 {
            pair.run(3, |_, packet| {
                if random.chance(one_in) {
                    random.mutate(packet);
                }
            });
            if let Some(slot) = pair.sides[1].core.slot(id) {
                let _ = slot.proto.datagrams().send(Bytes::from(vec![step; 300]), true);
                if let Some(stream) = slot.proto.streams().open(q::Dir::Bi) {
                    let _ = slot.proto.send_stream(stream).write(&[step; 2000]);
                }
                pair.sides[1].core.wake(id);
            }
            for id in pair.sides[0].connected.clone() {
                let Some(slot) = pair.sides[0].core.slot(id) else { continue };
                while let Some(payload) = slot.proto.datagrams().recv() {
                    assert!(
                        payload.len() == 300 && payload.iter().all(|byte| *byte == payload[0]),
                        "authentic or nothing"
                    );
                    carried += 1;
                }
            }
        }
        connected += pair.sides[0].connected.len();
        let now = pair.now;
        pair.sides[1].core.close(now, id, 7, Bytes::from_static(b"over"));
        pair.run(2, |_, _| {});
    }
    assert!(connected > 0 && carried > 0, "some got through: {connected} connections, {carried} datagrams");
}

#[test]
fn first_packets_recorded_and_changed_make_no_connection_of_their_own() {
    let mut random = Random::new("first packets");
    let mut first = Vec::new();
    let mut pair = Pair::new(core(&options()), core(&options()));
    pair.connect();
    pair.run(4, |from, packet| {
        if from == 1 {
            first.push(packet.clone());
        }
    });
    assert_eq!(pair.sides[0].connected.len(), 1);
    let mut server = core(&options());
    let (mut now, mut sent) = (1e6, 0.0);
    for _ in 0..rounds(20_000) {
        let mut packet = first[random.below(first.len())].clone();
        random.mutate(&mut packet);
        sent += f64::from(u8::from(!packet.is_empty()));
        server.receive(now, &packet, 0, 0, stranger(&mut random));
        server.settle(now);
        while transmit(&mut server, now, 10).is_some() {}
        server.events.clear();
        now += 10_000.0;
        server.expire(now);
    }
    assert_eq!(server.counters[counter::CONNECTED], 0.0);
    assert_eq!(server.counters[counter::PACKETS], sent);
}

fn stranger(random: &mut Random) -> SocketAddr {
    let words = [0, 0, 0xffff, random.word() as u32, 1 + random.below(65_535) as u32];
    address::read(&words)
}
