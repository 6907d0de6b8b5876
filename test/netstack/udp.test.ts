/** UDP, fragments and ICMP of a stack: RFC 768, 791, 8200, 792, 4443, 5722, 5927. */
import { describe, expect, test } from 'vitest';
import { ADDRESS_WORDS, SocketAddress } from '../../src/base/address.js';
import { Drop } from '../../src/base/drop.js';
import { type Instant, instantAt, Seconds } from '../../src/base/time.js';
import type { Rejection } from '../../src/netstack/types.js';
import { Arena } from '../../src/wire/arena.js';
import { readU16, writeU16 } from '../../src/wire/bytes.js';
import { finish, writeIpv4Checksum } from '../../src/wire/checksum.js';
import { completeIcmp } from '../../src/wire/icmp.js';
import { completeUdp, writeUdp } from '../../src/wire/udp.js';
import { Peer, type PeerOptions, pattern } from './harness.js';
import { ipPacket, LOCAL, REMOTE, tcpPacket, WirePeer } from './wire-peer.js';

const now: Instant = instantAt(1_000_000);
const PAIRS = [
  ['4', `${REMOTE}:5000`, `${LOCAL}:53`],
  ['6', '[2001:db8::1]:5000', '[2001:db8::2]:53'],
] as const;

function datagram(from: SocketAddress, to: SocketAddress, data: Uint8Array, checksum = true): Uint8Array {
  const message = new Uint8Array(8 + data.length);
  writeUdp(message, 0, from.port, to.port, data.length);
  message.set(data, 8);
  const packet = ipPacket(from.ip, to.ip, 17, message);
  const arena = new Arena(packet.length);
  arena.bytes.set(packet);
  if (checksum) completeUdp(arena, 0, packet.length - message.length, message.length);
  return arena.bytes.slice(0, packet.length);
}

/** A stack that keeps what UDP brings. */
function udpPeer(options: PeerOptions = {}, answer?: Rejection) {
  const got: { from: string; to: string; data: Uint8Array }[] = [];
  const peer = new Peer(options);
  peer.handlers.onUdp = (addresses, bytes, offset, length) => {
    got.push({
      from: SocketAddress.read(addresses, 0).toString(),
      to: SocketAddress.read(addresses, 1).toString(),
      data: bytes.slice(offset, offset + length),
    });
    return answer;
  };
  return { peer, got };
}

const words = (from: string, to: string): Uint32Array => {
  const w = new Uint32Array(2 * ADDRESS_WORDS);
  SocketAddress.parse(from)!.write(w, 0);
  SocketAddress.parse(to)!.write(w, 1);
  return w;
};

describe.each(PAIRS)('UDP over IPv%s', (family, from, to) => {
  const longest = family === '4' ? 65_507 : 65_527;

  test.each([0, 1, 1000, 1400, 9000, longest])('%i bytes out and in again, whole or in fragments', (size) => {
    const { peer, got } = udpPeer({ mtu: 1400 });
    const data = pattern(size, size);
    expect(peer.stack.sendUdp(now, words(from, to), 0, 1, data, 0, size)).toBe(0);
    const packets = peer.take(now);
    for (const p of packets) expect(p.length).toBeLessThanOrEqual(1400);
    expect(packets.length > 1).toBe(size + 28 + (family === '6' ? 20 : 0) > 1400);
    const receiver = udpPeer();
    for (const p of packets.reverse()) receiver.peer.receive(now, p);
    expect(got).toEqual([]);
    expect(receiver.got.length).toBe(1);
    expect([receiver.got[0]!.from, receiver.got[0]!.to]).toEqual([from, to]);
    expect(Buffer.compare(receiver.got[0]!.data, data)).toBe(0);
    expect(receiver.peer.stack.counters.drops.snapshot()).toEqual({});
    expect(receiver.peer.stack.pollTimeout()).toBeUndefined();
  });

  test('longer than UDP can say, or between families, is refused', () => {
    const { peer } = udpPeer();
    expect(peer.stack.sendUdp(now, words(from, to), 0, 1, new Uint8Array(65_536), 0, longest + 1)).toBe(Drop.too_big);
    const mixed = words(PAIRS[0][1], PAIRS[1][2]);
    expect(peer.stack.sendUdp(now, mixed, 0, 1, new Uint8Array(1), 0, 1)).toBe(Drop.bad_address);
    expect(peer.take(now)).toEqual([]);
  });

  test('a datagram may be answered from inside the handler with the addresses at hand', () => {
    const { peer } = udpPeer();
    peer.handlers.onUdp = (addresses, bytes, offset, length) => {
      peer.stack.sendUdp(now, addresses, 1, 0, bytes, offset, length);
      return undefined;
    };
    peer.receive(now, datagram(SocketAddress.parse(from)!, SocketAddress.parse(to)!, pattern(1, 50)));
    const back = udpPeer();
    for (const p of peer.take(now)) back.peer.receive(now, p);
    expect(back.got.map((g) => [g.from, g.to, g.data.length])).toEqual([[to, from, 50]]);
  });

  test('checksum: zero is none in IPv4 and wrong in IPv6; a wrong one is dropped', () => {
    const { peer, got } = udpPeer();
    const [a, b] = [SocketAddress.parse(from)!, SocketAddress.parse(to)!];
    expect(peer.receive(now, datagram(a, b, pattern(1, 9), false))).toBe(family === '4' ? 0 : Drop.bad_checksum);
    expect(got.length).toBe(family === '4' ? 1 : 0);
    const bad = datagram(a, b, pattern(1, 9));
    bad[bad.length - 1]! ^= 1;
    expect(peer.receive(now, bad)).toBe(Drop.bad_checksum);
  });

  test('a run of datagrams behind one header is delivered one by one', () => {
    const { peer, got } = udpPeer();
    const packet = datagram(SocketAddress.parse(from)!, SocketAddress.parse(to)!, pattern(1, 2500));
    const arena = new Arena(packet.length);
    arena.bytes.set(packet);
    expect(peer.stack.handlePacket(now, arena, 0, packet.length, 1000, true)).toBe(0);
    expect(got.map((g) => g.data.length)).toEqual([1000, 1000, 500]);
  });

  test('a refused datagram is answered by ICMP that quotes it, now or later', () => {
    const { peer } = udpPeer({}, 'port-unreachable');
    const packet = datagram(SocketAddress.parse(from)!, SocketAddress.parse(to)!, pattern(1, 2000 - 1000));
    peer.receive(now, packet);
    peer.stack.rejectUdp(now, words(from, to), 1000, 'admin-prohibited');
    const [first, second] = peer.take(now);
    const ip = family === '4' ? 20 : 40;
    expect([first![ip], first![ip + 1]]).toEqual(family === '4' ? [3, 3] : [1, 4]);
    expect([second![ip], second![ip + 1]]).toEqual(family === '4' ? [3, 13] : [1, 1]);
    expect(first!.length).toBe(family === '4' ? 576 : ip + 8 + packet.length);
    const quoted = first!.subarray(ip + 8, first!.length);
    expect(Buffer.compare(quoted, packet.subarray(0, quoted.length))).toBe(0);
    // The later one quotes the headers only: the same addresses, ports and length.
    expect(Buffer.compare(second!.subarray(2 * ip + 8, 2 * ip + 14), packet.subarray(ip, ip + 6))).toBe(0);
    // Whoever sent it hears of it.
    const sender = new Peer();
    const heard: string[] = [];
    sender.handlers.onUdpError = (addresses) => {
      heard.push(`${SocketAddress.read(addresses, 0)} → ${SocketAddress.read(addresses, 1)}`);
    };
    sender.receive(now, first!);
    sender.receive(now, second!);
    expect(heard).toEqual([`${from} → ${to}`, `${from} → ${to}`]);
  });
});

describe('reassembly', () => {
  /** IPv4 fragments of a datagram, cut where told. */
  function fragments(cuts: readonly (readonly [number, number])[], size: number, id = 9): Uint8Array[] {
    const whole = datagram(SocketAddress.parse(PAIRS[0][1])!, SocketAddress.parse(PAIRS[0][2])!, pattern(3, size - 8));
    return cuts.map(([start, end]) => {
      const p = new Uint8Array(20 + end - start);
      p.set(whole.subarray(0, 20));
      p.set(whole.subarray(20 + start, 20 + end), 20);
      writeU16(p, 2, p.length);
      writeU16(p, 4, id);
      writeU16(p, 6, (start / 8) | (end < size ? 0x2000 : 0));
      writeIpv4Checksum(p, 0);
      return p;
    });
  }
  const whole = [
    [0, 800],
    [800, 1600],
    [1600, 2000],
  ] as const;

  test('any order, and exact duplicates do not matter', () => {
    const { peer, got } = udpPeer();
    const [a, b, c] = fragments(whole, 2000);
    for (const p of [c!, c!, a!, a!, b!]) peer.receive(now, p);
    expect(got.map((g) => g.data.length)).toEqual([1992]);
    expect(peer.stack.counters.drops.snapshot()).toEqual({ duplicate: 2 });
  });

  test('an overlap drops all of it, later pieces too (RFC 5722)', () => {
    const { peer, got } = udpPeer();
    const [a, b, overlap, c] = fragments(
      [
        [0, 800],
        [800, 1600],
        [792, 1600],
        [1600, 2000],
      ],
      2000,
    );
    for (const p of [a!, b!, overlap!, c!]) peer.receive(now, p);
    for (const p of fragments(whole, 2000)) peer.receive(now, p);
    expect(got).toEqual([]);
    expect(peer.stack.counters.drops.get('reassembly_overlap')).toBe(5);
  });

  test('two ends, or bytes beyond the end, drop all', () => {
    const { peer, got } = udpPeer();
    const [end1] = fragments([[800, 1000]], 1000);
    const [more] = fragments([[1600, 2000]], 2000);
    peer.receive(now, end1!);
    expect(peer.receive(now, more!)).toBe(Drop.reassembly_overlap);
    expect(got).toEqual([]);
  });

  test('gives up after the configured time', () => {
    const { peer, got } = udpPeer({ limits: { reassemblyTime: Seconds(5) } });
    const [a, b, c] = fragments(whole, 2000);
    peer.receive(now, a!);
    peer.receive(now, b!);
    expect(peer.stack.pollTimeout()).toBe(now + Seconds(5));
    const late = instantAt(now + Seconds(5));
    peer.stack.handleTimeout(late);
    expect(peer.stack.counters.drops.get('reassembly_timeout')).toBe(1);
    peer.receive(late, c!);
    expect(got).toEqual([]);
  });

  test('bounded in packets and in bytes; the oldest goes', () => {
    const few = udpPeer({ limits: { reassemblyPackets: 4 } });
    for (let id = 0; id < 50; id++) few.peer.receive(now, fragments([[0, 800]], 2000, id)[0]!);
    for (let id = 49; id >= 40; id--) {
      for (const p of fragments(
        [
          [800, 1600],
          [1600, 2000],
        ],
        2000,
        id,
      ))
        few.peer.receive(now, p);
    }
    expect(few.got.length).toBe(4);
    const survivors = udpPeer({ limits: { reassemblyPackets: 64, reassemblyBytes: 3000 } });
    for (let id = 0; id < 50; id++) survivors.peer.receive(now, fragments([[0, 800]], 2000, id)[0]!);
    // 3000 bytes hold three of them; completing the newest pushes out the oldest.
    for (let id = 49; id >= 45; id--) {
      for (const p of fragments(
        [
          [800, 1600],
          [1600, 2000],
        ],
        2000,
        id,
      ))
        survivors.peer.receive(now, p);
    }
    expect(survivors.got.length).toBe(2);
  });
});

describe('ICMP', () => {
  const echo = (from: SocketAddress, to: SocketAddress, data: Uint8Array): Uint8Array => {
    const isV4 = from.ip.isV4;
    const message = new Uint8Array(8 + data.length);
    message.set([isV4 ? 8 : 128, 0, 0, 0, 0x12, 0x34, 0, 7]);
    message.set(data, 8);
    const packet = ipPacket(from.ip, to.ip, isV4 ? 1 : 58, message);
    const arena = new Arena(packet.length);
    arena.bytes.set(packet);
    completeIcmp(arena, 0, packet.length - message.length, message.length);
    return arena.bytes.slice(0, packet.length);
  };

  test.each(PAIRS)('echo over IPv%s: answered at once, later, or not', (_family, a, b) => {
    const [from, to] = [SocketAddress.parse(a)!, SocketAddress.parse(b)!];
    const peer = new Peer();
    const request = echo(from, to, pattern(4, 3000 - 1700));
    expect(peer.receive(now, request)).toBe(Drop.no_handler);
    peer.handlers.onEcho = (_addresses, identifier, sequence, _bytes, _offset, length) => {
      expect([identifier, sequence, length]).toEqual([0x1234, 7, 1300]);
      return true;
    };
    peer.receive(now, request);
    const [reply, ...rest] = peer.take(now);
    expect(rest).toEqual([]);
    const ip = from.ip.isV4 ? 20 : 40;
    expect(reply![ip]).toBe(from.ip.isV4 ? 0 : 129);
    expect(Buffer.compare(reply!.subarray(ip + 4), request.subarray(ip + 4))).toBe(0);
    // Back at a stack it is an echo reply with good checksums and nobody asked for it.
    expect(new Peer().receive(now, reply!)).toBe(Drop.no_handler);
    let later: Uint32Array | undefined;
    peer.handlers.onEcho = (addresses) => {
      later = addresses.slice();
      return false;
    };
    peer.receive(now, request);
    expect(peer.take(now)).toEqual([]);
    peer.stack.sendEchoReply(now, later!, 0x1234, 7, pattern(4, 1300), 0, 1300);
    expect(Buffer.compare(peer.take(now)[0]!.subarray(ip + 4), reply!.subarray(ip + 4))).toBe(0);
    peer.handlers.onEcho = () => 'admin-prohibited';
    peer.receive(now, request);
    const refused = peer.take(now).map((packet) => [packet[ip], packet[ip + 1]]);
    expect(refused).toEqual([from.ip.isV4 ? [3, 13] : [1, 1]]);
    peer.handlers.onEcho = () => 'ignore';
    peer.receive(now, request);
    expect(peer.take(now)).toEqual([]);
  });

  test('errors are rate limited, and never about errors, multicast or later fragments', () => {
    const { peer } = udpPeer({ limits: { errorRate: 1000, errorBurst: 50 } }, 'port-unreachable');
    const packet = datagram(SocketAddress.parse(PAIRS[0][1])!, SocketAddress.parse(PAIRS[0][2])!, pattern(1, 10));
    for (let i = 0; i < 200; i++) peer.receive(now, packet);
    expect(peer.take(now).length).toBe(50);
    expect(peer.stack.counters.stack.get('icmp_limited')).toBe(150);
    peer.stack.handleTimeout(instantAt(now + 10_000));
    for (let i = 0; i < 200; i++) peer.receive(instantAt(now + 10_000), packet);
    expect(peer.take(now).length).toBe(10);
    const quiet = udpPeer({}, 'port-unreachable');
    expect(
      quiet.peer.receive(
        now,
        datagram(SocketAddress.parse(PAIRS[0][1])!, SocketAddress.parse('224.0.0.251:53')!, pattern(1, 10)),
      ),
    ).toBe(Drop.bad_address);
    expect(quiet.peer.take(now)).toEqual([]);
  });

  test('an unknown protocol is refused with an error', () => {
    const peer = new Peer();
    const packet = ipPacket(
      SocketAddress.parse(PAIRS[0][1])!.ip,
      SocketAddress.parse(PAIRS[0][2])!.ip,
      47,
      pattern(1, 60),
    );
    expect(peer.receive(now, packet)).toBe(Drop.protocol_not_allowed);
    expect([...peer.take(now)[0]!.subarray(20, 22)]).toEqual([3, 2]);
  });

  /** An ICMP error quoting a segment that the stack sent (or might have). */
  const about = (w: WirePeer, quoted: Uint8Array, type: number, code: number, mtu = 0): Uint8Array => {
    const message = new Uint8Array(8 + 28);
    message[0] = type;
    message[1] = code;
    writeU16(message, 6, mtu);
    message.set(quoted.subarray(0, 28), 8);
    let sum = 0;
    for (let i = 0; i < message.length; i += 2) sum += readU16(message, i);
    writeU16(message, 2, finish(sum));
    return ipPacket(w.remote.ip, w.local.ip, 1, message);
  };

  test('packet too big lowers the segment size and resends, if the quoted number is in flight', () => {
    const w = new WirePeer();
    w.open();
    w.app.connection!.write(pattern(1, 4380), 0, 4380);
    const sent = w.take();
    expect(sent.map((s) => s.data.length)).toEqual([1460, 1460, 1460]);
    const forged = tcpPacket(w.local, w.remote, 'A', { seq: w.irs + 500_000 });
    w.peer.receive(w.now, about(w, forged, 3, 4, 1000));
    expect(w.app.connection!.sender.mss).toBe(1460);
    w.peer.receive(w.now, about(w, sent[0]!.packet, 3, 4, 1000));
    expect(w.app.connection!.sender.mss).toBe(960);
    const again = w.take();
    expect(Math.max(...again.map((s) => s.data.length))).toBe(960);
    expect(again[0]!.seq).toBe(1);
    w.peer.receive(w.now, about(w, sent[0]!.packet, 3, 4, 68));
    expect(w.app.connection!.sender.mss).toBe(536);
  });

  test('an established connection outlives unreachable errors, one in SYN-SENT does not (RFC 5927 §5)', () => {
    const w = new WirePeer();
    w.open();
    w.app.connection!.write(pattern(1, 10), 0, 10);
    const [sent] = w.take();
    w.peer.receive(w.now, about(w, sent!.packet, 3, 3));
    expect(w.app.closed).toBeUndefined();
    const v = new WirePeer();
    const syn = v.connect();
    v.peer.receive(v.now, about(v, syn.packet, 11, 0));
    expect(v.app.closed).toBeUndefined();
    v.peer.receive(v.now, about(v, syn.packet, 3, 1));
    expect(v.app.closed).toBe('unreachable');
  });
});

test('an IPv4-mapped address in an IPv6 packet is not taken for the IPv4 flow', () => {
  const { peer, got } = udpPeer();
  const v4 = SocketAddress.parse(PAIRS[0][1])!;
  const packet = datagram(
    SocketAddress.parse('[2001:db8::1]:1')!,
    SocketAddress.parse('[2001:db8::2]:2')!,
    pattern(1, 4),
    true,
  );
  packet.fill(0, 8, 18);
  packet.set([0xff, 0xff], 18);
  packet.set(v4.ip.toBytes(), 20);
  expect(peer.receive(now, packet)).toBe(Drop.bad_address);
  expect(got).toEqual([]);
});
