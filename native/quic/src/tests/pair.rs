//! Two endpoints in one thread with a path between them that a test may tamper with, in time that the test moves.

use crate::codes::kind;
use crate::config::{Configs, Options};
use crate::endpoint::{Core, Event, Run};
use crate::room::WHOLE;
use crate::tls::WallClock;
use std::net::SocketAddr;
use std::sync::Arc;

pub const CA: &str = include_str!("ca.pem");
/// For server and client alike; its private key is public, which is all right for the CA of nobody.
pub const CERTIFICATE: &str = include_str!("node.pem");
pub const KEY: &str = include_str!("node-key.pem");
pub const NAME: &str = "server.fuzz";
/// 2100-01-01, inside the life of the certificates.
const WALL: u64 = 4_102_444_800_000;

pub fn clock() -> Arc<WallClock> {
    let clock = Arc::new(WallClock::default());
    clock.set(WALL);
    clock
}

pub fn options() -> Options {
    Options {
        server: true,
        client: true,
        alpn: "fuzz".into(),
        ca: CA.into(),
        certificate: Some(CERTIFICATE.into()),
        key: Some(KEY.into()),
        suite: None,
        wall_time: WALL as f64,
        migration: true,
        idle_timeout: 30_000,
        keep_alive: None,
        handshake_timeout: 10_000,
        initial_mtu: 1200,
        mtu_upper_bound: Some(1452),
        datagram_receive_buffer: 1 << 16,
        datagram_send_buffer: 1 << 16,
        stream_window: 1 << 16,
        connection_window: 1 << 20,
        bidirectional_streams: 4,
        unidirectional_streams: 4,
        controller: "open".into(),
        in_flight_cap: None,
        virtual_prefix_bytes: 9,
        retry_above: 50,
        max_handshakes: 100,
        max_handshakes_per_source: 100,
        answer_unknown: true,
        reset_key: None,
        connection_id_key: None,
        connection_id_lifetime: None,
        seed: Some(1),
    }
}

/// The next run, written to memory that never grows, with a room that changes from time to time.
pub fn transmit(core: &mut Core, now: f64, max_segments: usize) -> Option<(Run, Vec<u8>)> {
    const PREFIX: usize = 9;
    let room = [2_057, 6_000, 65_000][(now / 5_000.0) as usize % 3];
    let mut packets = Vec::with_capacity(WHOLE);
    let capacity = packets.capacity();
    let run = core.transmit(now, max_segments, room, PREFIX, &mut packets);
    assert_eq!(packets.capacity(), capacity);
    run.map(|run| {
        assert!(run.bytes + run.bytes.div_ceil(run.segment) * PREFIX <= room);
        (run, packets)
    })
}

pub fn core(options: &Options) -> Core {
    Core::new(Configs::new(options, clock()).expect("these options are right"), options)
}

pub struct Side {
    pub core: Core,
    pub address: SocketAddr,
    /// Connections that were announced, of which some may have ended.
    pub connected: Vec<u32>,
    pub events: Vec<Event>,
}

impl Side {
    pub fn new(core: Core, address: &str) -> Self {
        Self { core, address: address.parse().unwrap(), connected: Vec::new(), events: Vec::new() }
    }
}

/// Server (0) and client (1). Microseconds.
pub struct Pair {
    pub now: f64,
    pub sides: [Side; 2],
}

impl Pair {
    pub fn new(server: Core, client: Core) -> Self {
        Self { now: 1e6, sides: [Side::new(server, "192.0.2.1:443"), Side::new(client, "[2001:db8::2]:5000")] }
    }

    /// Lets the client begin a connection.
    pub fn connect(&mut self) -> u32 {
        let to = self.sides[0].address;
        self.sides[1].core.connect(self.now, to, NAME).expect("the name is right")
    }

    /// Carries everything there is to carry, `times` times back and forth, 5 ms each way; `tamper` may change a packet, and
    /// drop it by emptying it.
    pub fn run(&mut self, times: usize, mut tamper: impl FnMut(usize, &mut Vec<u8>)) {
        for _ in 0..times {
            for from in [1, 0] {
                let [server, client] = &mut self.sides;
                let (from_side, to_side) = if from == 1 { (client, server) } else { (server, client) };
                while let Some((run, bytes)) = transmit(&mut from_side.core, self.now, 10) {
                    assert_eq!(bytes.len(), run.bytes);
                    let packets: Vec<Vec<u8>> = bytes.chunks(run.segment).map(<[u8]>::to_vec).collect();
                    for mut packet in packets {
                        tamper(from, &mut packet);
                        to_side.core.receive(self.now, &packet, packet.len(), 0, from_side.address);
                    }
                    to_side.core.settle(self.now);
                }
                self.now += 5_000.0;
                self.drain();
            }
            for side in &mut self.sides {
                let [due, ..] = side.core.state();
                if due >= 0.0 && due <= self.now {
                    side.core.expire(self.now);
                }
            }
        }
    }

    fn drain(&mut self) {
        for side in &mut self.sides {
            while let Some(event) = side.core.events.pop_front() {
                if event[0] == f64::from(kind::CONNECTED) {
                    side.connected.push(event[1] as u32);
                }
                side.events.push(event);
            }
        }
    }
}
