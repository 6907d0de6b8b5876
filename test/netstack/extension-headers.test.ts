/** Extension headers of IPv6 and late fragments: what is skipped, dropped and told (RFC 8200 §4.2, §4.4, §4.5; RFC 792, RFC 4443). */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { Drop } from '../../src/base/drop.js';
import { instantAt, later, Seconds } from '../../src/base/time.js';
import { Arena } from '../../src/wire/arena.js';
import { readU32, writeU16 } from '../../src/wire/bytes.js';
import { writeIpv4Checksum } from '../../src/wire/checksum.js';
import { ParsedPacket, parsePacket } from '../../src/wire/inner.js';
import { ExtensionVerdict, judgeExtensions } from '../../src/wire/ipv6-options.js';
import { completeUdp, writeUdp } from '../../src/wire/udp.js';
import { Peer, type PeerOptions, pattern } from './harness.js';
import { ipPacket, LOCAL, REMOTE } from './wire-peer.js';

const [HOP, UDP, ROUTING, FRAGMENT, DESTINATION] = [0, 17, 43, 44, 60];
const now = instantAt(1_000_000);
const from = SocketAddress.parse('[2001:db8::1]:5000')!;
const to = SocketAddress.parse('[2001:db8::2]:53')!;

/** An extension header: its kind, and what follows its first two bytes, padded with Pad1. */
type Header = readonly [kind: number, body: readonly number[]];

/** A UDP datagram behind extension headers. */
function withHeaders(headers: readonly Header[], data = pattern(1, 24)): Uint8Array {
  const message: number[] = [];
  headers.forEach(([, body], i) => {
    const length = kindOf(headers, i) === FRAGMENT ? 8 : (2 + body.length + 7) & ~7;
    const bytes = [kindOf(headers, i + 1), length / 8 - 1, ...body.slice(0, length - 2)];
    message.push(...bytes, ...new Array<number>(length - bytes.length).fill(0));
  });
  const at = 40 + message.length;
  const packet = ipPacket(
    from.ip,
    to.ip,
    kindOf(headers, 0),
    Uint8Array.of(...message, ...new Uint8Array(8 + data.length)),
  );
  const arena = new Arena(packet.length);
  arena.bytes.set(packet);
  writeUdp(arena.bytes, at, from.port, to.port, data.length);
  arena.bytes.set(data, at + 8);
  completeUdp(arena, 0, at, 8 + data.length);
  return arena.bytes.slice(0, packet.length);
}
const kindOf = (headers: readonly Header[], i: number): number => headers[i]?.[0] ?? UDP;

function receiver(options: PeerOptions = {}): { peer: Peer; got: Uint8Array[] } {
  const got: Uint8Array[] = [];
  const peer = new Peer(options);
  peer.handlers.onUdp = (_addresses, bytes, offset, length) => {
    got.push(bytes.slice(offset, offset + length));
    return undefined;
  };
  return { peer, got };
}

/** [type, code, pointer] of the one ICMPv6 message that the stack has sent about `packet`, undefined when it has sent none. */
function told(peer: Peer, packet: Uint8Array): readonly number[] | undefined {
  const [message, ...rest] = peer.take(now);
  expect(rest).toEqual([]);
  if (message === undefined) return undefined;
  expect(message[6]).toBe(58);
  expect(Buffer.compare(message.subarray(48), packet)).toBe(0);
  return [message[40]!, message[41]!, readU32(message, 44)];
}

test.each([
  ['Pad1 and PadN', [0, 1, 2, 0, 0, 0], undefined],
  ['PadN of any content', [1, 4, 0xff, 0xff, 0xff, 0xff], undefined],
  ['unknown, 00: skipped', [0x1e, 2, 9, 9], undefined],
  ['unknown, 01: dropped', [0x5e, 2, 9, 9], 'dropped'],
  ['unknown, 10: told', [0x9e, 2, 9, 9], 42],
  ['unknown, 11: told', [0xde, 2, 9, 9], 42],
  ['unknown, 10, behind padding and another one', [0, 1, 1, 0, 0x3e, 1, 0, 0x9e, 0], 49],
  ['jumbo payload, which is not done here', [0xc2, 4, 0, 1, 0, 0], 42],
] as const)('options: %s', (_what, options, expected) => {
  for (const kind of [HOP, DESTINATION]) {
    const { peer, got } = receiver();
    const packet = withHeaders([[kind, options]]);
    const drop = peer.receive(now, packet);
    expect(drop).toBe(expected === undefined ? Drop.none : Drop.bad_option);
    expect(got.length).toBe(expected === undefined ? 1 : 0);
    expect(told(peer, packet)).toEqual(typeof expected === 'number' ? [4, 2, expected] : undefined);
  }
});

test('the second header is read too, and an option that is longer than its header is malformed', () => {
  const { peer, got } = receiver();
  const packet = withHeaders([
    [HOP, [0x1e, 0]],
    [DESTINATION, [0x9e, 0]],
  ]);
  expect(peer.receive(now, packet)).toBe(Drop.bad_option);
  expect(told(peer, packet)).toEqual([4, 2, 50]);
  for (const options of [
    [0x1e, 5, 0, 0, 0, 0],
    [1, 0, 1, 0, 0, 0x1e],
  ]) {
    expect(peer.receive(now, withHeaders([[DESTINATION, options]]))).toBe(Drop.malformed);
  }
  expect(peer.take(now)).toEqual([]);
  expect(got).toEqual([]);
});

test.each([0, 2, 3, 4, 253])('routing header of type %i: told while segments are left, else skipped', (type) => {
  const { peer, got } = receiver();
  const packet = withHeaders([
    [HOP, [0, 0, 0, 0, 0, 0]],
    [ROUTING, [type, 1, 0, 0, 0, 0, ...new Uint8Array(16)]],
  ]);
  expect(peer.receive(now, packet)).toBe(Drop.bad_option);
  // The Routing Type.
  expect(told(peer, packet)).toEqual([4, 0, 50]);
  expect(peer.receive(now, withHeaders([[ROUTING, [type, 0, 0, 0, 0, 0, ...new Uint8Array(16)]]]))).toBe(Drop.none);
  expect(got.length).toBe(1);
});

test('to a multicast address only the action 10 tells', () => {
  const parsed = new ParsedPacket();
  const verdict = new ExtensionVerdict();
  for (const [type, kind] of [
    [0x5e, undefined],
    [0x9e, 'unknown_option'],
    [0xde, undefined],
  ] as const) {
    const packet = withHeaders([[DESTINATION, [type, 0]]]);
    packet.set([0xff, 2], 24);
    expect(parsePacket(packet, 0, packet.length, parsed)).toBe(Drop.none);
    expect(judgeExtensions(packet, parsed, verdict)).toBe(Drop.bad_option);
    expect(verdict.kind).toBe(kind);
  }
});

test('in fragments: what stands before the Fragment header is judged with each, the rest when the packet is whole', () => {
  const rest = withHeaders([[DESTINATION, [0x9e, 0]]], pattern(2, 40)).subarray(40);
  const pieces = (before: readonly Header[]): Uint8Array[] =>
    [0, 1].map((i) => {
      const part = rest.subarray(i * 24, i === 0 ? 24 : rest.length);
      const headers = [...before, [FRAGMENT, [0, i === 0 ? 1 : 24, 0, 0, 0, 7]] as const];
      const head = withHeaders(headers, new Uint8Array(0)).subarray(40, -8);
      head[head.length - 8] = DESTINATION;
      return ipPacket(from.ip, to.ip, kindOf(headers, 0), Uint8Array.of(...head, ...part));
    });
  const { peer, got } = receiver();
  const [first, last] = pieces([]);
  expect(peer.receive(now, first!)).toBe(Drop.none);
  expect(peer.take(now)).toEqual([]);
  expect(peer.receive(now, last!)).toBe(Drop.bad_option);
  expect([...peer.take(now)[0]!.subarray(40, 42)]).toEqual([4, 2]);
  for (const piece of pieces([[HOP, [0x9e, 0]]])) expect(peer.receive(now, piece)).toBe(Drop.bad_option);
  // About a later fragment nothing is told.
  expect(peer.take(now).length).toBe(1);
  expect(got).toEqual([]);
});

test('what is told is rate limited', () => {
  const { peer } = receiver({ limits: { errorRate: 10, errorBurst: 5 } });
  for (let i = 0; i < 20; i++) peer.receive(now, withHeaders([[DESTINATION, [0x9e, 0]]]));
  expect(peer.take(now).length).toBe(5);
  expect(peer.stack.counters.stack.get('icmp_limited')).toBe(15);
});

test('any bytes as headers end in a verdict that points into the packet', () => {
  const parsed = new ParsedPacket();
  const verdict = new ExtensionVerdict();
  const kind = fc.constantFrom(HOP, ROUTING, FRAGMENT, DESTINATION, 51, 135);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(kind, fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 30 })), { maxLength: 9 }),
      (headers) => {
        const packet = withHeaders(headers);
        if (parsePacket(packet, 0, packet.length, parsed) !== Drop.none) return;
        const drop = judgeExtensions(packet, parsed, verdict);
        expect([Drop.none, Drop.bad_option, Drop.malformed]).toContain(drop);
        if (drop === Drop.bad_option) {
          expect(verdict.pointer).toBeGreaterThanOrEqual(42);
          expect(verdict.pointer).toBeLessThan(parsed.transportOffset);
        } else expect(verdict.kind).toBeUndefined();
      },
    ),
  );
});

/** The first and the last fragment of a packet of 48 bytes of payload. */
function fragments(family: 4 | 6): readonly [Uint8Array, Uint8Array] {
  const data = new Uint8Array(48);
  writeUdp(data, 0, 5000, 53, 40);
  const cut = (start: number, end: number): Uint8Array => {
    const part = data.subarray(start, end);
    const more = end < data.length;
    if (family === 6) {
      return ipPacket(from.ip, to.ip, FRAGMENT, Uint8Array.of(UDP, 0, 0, start | (more ? 1 : 0), 0, 0, 0, 9, ...part));
    }
    const v4 = ipPacket(SocketAddress.parse(`${REMOTE}:1`)!.ip, SocketAddress.parse(`${LOCAL}:1`)!.ip, UDP, part);
    writeU16(v4, 6, (start / 8) | (more ? 0x2000 : 0));
    writeIpv4Checksum(v4, 0);
    return v4;
  };
  return [cut(0, 24), cut(24, 48)];
}

test.each([
  [4, [11, 1]],
  [6, [3, 1]],
] as const)('IPv%i: a packet whose rest does not come is told of, if its first fragment has come', (family, codes) => {
  const [first, last] = fragments(family);
  const at = family === 4 ? 20 : 40;
  const { peer } = receiver();
  peer.receive(now, first);
  const due = later(now, Seconds(15));
  peer.stack.handleTimeout(instantAt(due - 1));
  expect(peer.take(now)).toEqual([]);
  expect(peer.stack.pollTimeout()).toBe(due);
  peer.stack.handleTimeout(due);
  const [message, ...others] = peer.take(due);
  expect(others).toEqual([]);
  expect([...message!.subarray(at, at + 2)]).toEqual([...codes]);
  expect(Buffer.compare(message!.subarray(at + 8), first)).toBe(0);
  expect(peer.stack.counters.drops.get('reassembly_timeout')).toBe(1);
  // Without the first fragment, whole, or with an overlap: nothing.
  const overlap = first.slice();
  overlap[overlap.length - 1]! ^= 1;
  for (const come of [[last], [first, last], [first, overlap]]) {
    const quiet = receiver();
    for (const packet of come) quiet.peer.receive(now, packet);
    quiet.peer.take(now);
    quiet.peer.stack.handleTimeout(due);
    expect(quiet.peer.take(due)).toEqual([]);
  }
});

test('late packets are told of within the rate of all errors, and not for want of room', () => {
  const { peer } = receiver({ limits: { errorRate: 10, errorBurst: 5, reassemblyPackets: 20 } });
  const [first] = fragments(4);
  for (let id = 0; id < 40; id++) {
    writeU16(first, 4, id);
    writeIpv4Checksum(first, 0);
    peer.receive(now, first);
  }
  expect(peer.take(now)).toEqual([]);
  peer.stack.handleTimeout(later(now, Seconds(15)));
  expect(peer.take(now).length).toBe(5);
  expect(peer.stack.counters.drops.get('reassembly_timeout')).toBe(20);
});
