import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SocketAddress } from '../../../src/base/address.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { instantAt } from '../../../src/base/time.js';
import { IcmpMethod } from '../../../src/trace/net/icmp.js';
import type { RawMethod } from '../../../src/trace/net/method.js';
import { type Answer, Probe } from '../../../src/trace/net/probe.js';
import { QuicDatagrams } from '../../../src/trace/net/quic.js';
import { Reply } from '../../../src/trace/net/reply.js';
import { SackMethod } from '../../../src/trace/net/sack.js';
import { SynMethod } from '../../../src/trace/net/syn.js';
import { UdpMethod } from '../../../src/trace/net/udp.js';
import { Arena } from '../../../src/wire/arena.js';
import { TcpOptions } from '../../../src/wire/tcp.js';
import { captured, icmp, ip, tcp, timeExceeded, tooBig, udp, unreachable } from './packets.js';

const arena = new Arena(4096);
const shared = { tos: 0, paris: false };
const families = [
  {
    name: 'IPv4',
    local: ip('192.0.2.1'),
    target: ip('203.0.113.9'),
    router: ip('198.51.100.1'),
    other: ip('203.0.113.10'),
  },
  {
    name: 'IPv6',
    local: ip('2001:db8::1'),
    target: ip('2001:db8:9::9'),
    router: ip('2001:db8:1::1'),
    other: ip('2001:db8:9::a'),
  },
];
type Family = (typeof families)[number];

function write(method: RawMethod, ttl: number, index = 0, flow = 0): { probe: Probe; bytes: Uint8Array } {
  const probe = new Probe(ttl, index, flow, 0);
  return { probe, bytes: arena.bytes.slice(0, method.write(probe, arena)) };
}
const answer = (method: RawMethod, packet: Uint8Array): Answer | undefined => {
  const reply = captured(packet);
  return reply === undefined ? undefined : method.match(reply);
};
const from = (
  family: Family,
  who: 'router' | 'target' | 'other' = 'router',
): { from: Family['local']; to: Family['local'] } => ({
  from: family[who],
  to: family.local,
});

function draws(): { portOf: (flow: number) => number; nextIdentification: () => number; nextSequence: () => number } {
  const entropy = new SeededEntropy(5);
  let id = 0;
  return { portOf: (flow) => 40_000 + flow, nextIdentification: () => ++id, nextSequence: () => entropy.uint32() };
}

const methods: Record<string, (family: Family) => RawMethod> = {
  udp: ({ local, target }) =>
    new UdpMethod({
      ...shared,
      source: new SocketAddress(local, 40_000),
      destination: new SocketAddress(target, 33_434),
    }),
  quic: ({ local, target }) =>
    new UdpMethod(
      { ...shared, source: new SocketAddress(local, 40_000), destination: new SocketAddress(target, 443) },
      new QuicDatagrams(new SeededEntropy(1)),
    ),
  icmp: ({ local, target }) =>
    new IcmpMethod({ ...shared, source: new SocketAddress(local, 0), destination: new SocketAddress(target, 0) }, 4711),
  syn: ({ local, target }) =>
    new SynMethod(
      { ...shared, source: new SocketAddress(local, 40_000), destination: new SocketAddress(target, 443) },
      draws(),
    ),
  sack: ({ local, target }) =>
    new SackMethod(
      { ...shared, source: new SocketAddress(local, 40_000), destination: new SocketAddress(target, 443) },
      { sequence: 0xffffff00, acknowledgment: 5 },
      () => undefined,
    ),
};
const cases = families.flatMap((family) =>
  Object.keys(methods).map((name) => ({ family, name, label: `${name} over ${family.name}` })),
);

describe.each(cases)('$label', ({ family, name }) => {
  const make = (): RawMethod => methods[name]!(family);

  it('takes a router’s "time exceeded" for the probe it quotes, also when only 8 bytes of it are quoted', () => {
    const method = make();
    const probes = [1, 2, 255].map((ttl) => write(method, ttl));
    const header = family.name === 'IPv4' ? 20 : 40;
    for (const { probe, bytes } of probes) {
      for (const quoted of [bytes.length, header + 8]) {
        const found = answer(method, timeExceeded({ ...from(family), ttl: 61 }, bytes, quoted));
        expect(found).toMatchObject({ probe, kind: 'time_exceeded', isDestination: false, nat: false, replyTtl: 61 });
        expect(found!.from.equals(family.router)).toBe(true);
        expect(found!.icmp).toEqual(family.name === 'IPv4' ? { type: 11, code: 0 } : { type: 3, code: 0 });
        expect(found!.quotedTtl).toBe(probe.ttl);
      }
    }
  });

  it('never takes "time exceeded" from the target’s own address for arrival', () => {
    const method = make();
    const { bytes } = write(method, 3);
    expect(answer(method, timeExceeded(from(family, 'target'), bytes))).toMatchObject({ isDestination: false });
  });

  it('takes the target’s "unreachable" for arrival and a router’s for what it is', () => {
    const method = make();
    const { bytes } = write(method, 3);
    expect(answer(method, unreachable(from(family, 'target'), bytes, 1))).toMatchObject({
      kind: 'unreachable',
      isDestination: true,
    });
    expect(answer(method, unreachable(from(family), bytes, 1))).toMatchObject({
      kind: 'unreachable',
      isDestination: false,
    });
  });

  it('reads the MTU of "packet too big"', () => {
    const method = make();
    const { bytes } = write(method, 3);
    expect(answer(method, tooBig(from(family), bytes, 1400))).toMatchObject({ kind: 'packet_too_big', mtu: 1400 });
  });

  it('refuses a quotation in which a field that makes it ours is another', () => {
    const v4 = family.name === 'IPv4';
    const header = v4 ? 20 : 40;
    const range = (start: number, length: number): number[] => Array.from({ length }, (_, i) => start + i);
    // Source, destination; ports, identifier or sequence number.
    const fields = [...range(v4 ? 12 : 8, v4 ? 8 : 32), ...(name === 'icmp' ? range(header + 4, 2) : range(header, 4))];
    if (name === 'syn' || name === 'sack') fields.push(...range(header + 4, 4));
    if (name === 'icmp') fields.push(header + 7);
    if (v4 && (name === 'udp' || name === 'syn')) fields.push(4, 5);
    const loose =
      name === 'sack' ? new Set([...range(v4 ? 12 : 8, v4 ? 4 : 16), header, header + 1]) : new Set<number>();
    for (const at of fields) {
      const method = make();
      const { bytes } = write(method, 7);
      const other = bytes.slice();
      other[at]! ^= 0x40;
      const found = answer(method, timeExceeded(from(family), other));
      // Inside a session the sequence number is enough: some NATs do not translate quotations back.
      if (loose.has(at)) expect(found, `byte ${at}`).toMatchObject({ nat: true });
      else expect(found, `byte ${at}`).toBeUndefined();
    }
  });

  it('ignores what is addressed to somebody else, and errors of other kinds', () => {
    const method = make();
    const { bytes } = write(method, 2);
    expect(answer(method, timeExceeded({ from: family.router, to: family.other }, bytes))).toBeUndefined();
    const redirect = icmp(from(family), family.name === 'IPv4' ? 5 : 4, 0, 0, bytes);
    expect(answer(method, redirect)).toBeUndefined();
  });

  it('survives every cut and any changed byte', () => {
    const method = make();
    const { bytes } = write(method, 2);
    const error = timeExceeded(from(family), bytes);
    for (let length = 0; length <= error.length; length++) {
      const reply = new Reply();
      const isWhole = length === error.length;
      expect(reply.read(error, 0, length, instantAt(0)), String(length)).toBe(isWhole);
    }
    fc.assert(
      fc.property(fc.nat(error.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const other = error.slice();
        other[at]! ^= change;
        answer(method, other);
      }),
    );
  });
});

describe.each(families)('direct answers over $name', (family) => {
  const target = from(family, 'target');
  const ports = { sourcePort: 443, destinationPort: 40_000, sequence: 9, acknowledgment: 0 };

  it('echo replies by identifier and sequence, from the target only', () => {
    const method = methods['icmp']!(family);
    const { probe } = write(method, 5, 2);
    const reply = (who: 'target' | 'other', id: number, sequence: number): Answer | undefined =>
      answer(
        method,
        icmp(from(family, who), family.name === 'IPv4' ? 0 : 129, 0, id * 65_536 + sequence, new Uint8Array(1)),
      );
    expect(reply('target', 4711, 5 + 512)).toMatchObject({ probe, kind: 'echo_reply', isDestination: true });
    expect(reply('other', 4711, 5 + 512)).toBeUndefined();
    expect(reply('target', 4712, 5 + 512)).toBeUndefined();
    expect(reply('target', 4711, 5)).toBeUndefined();
  });

  it('SYN+ACK and RST+ACK by what they acknowledge, a bare RST by elimination', () => {
    const method = methods['syn']!(family);
    const first = write(method, 1);
    const second = write(method, 2);
    const third = write(method, 3);
    const sequence = (bytes: Uint8Array): number =>
      new DataView(bytes.buffer).getUint32(family.name === 'IPv4' ? 24 : 44);
    const reply = (
      flags: number,
      acknowledgment: number,
      who: 'target' | 'other' = 'target',
      port = 40_000,
    ): Answer | undefined =>
      answer(method, tcp(from(family, who), { ...ports, destinationPort: port, flags, acknowledgment }));
    const acked = (sequence(second.bytes) + 1) >>> 0;
    expect(reply(0x12, acked)).toMatchObject({ probe: second.probe, kind: 'syn_ack', isDestination: true });
    expect(reply(0x14, acked)).toMatchObject({ probe: second.probe, kind: 'rst' });
    expect(reply(0x12, acked + 1)).toBeUndefined();
    expect(reply(0x12, acked, 'other')).toBeUndefined();
    expect(reply(0x12, acked, 'target', 40_001)).toBeUndefined();
    expect(reply(0x10, acked)).toBeUndefined();
    answer(method, timeExceeded(from(family), first.bytes));
    expect(reply(0x04, 0)).toMatchObject({ probe: second.probe, kind: 'rst' });
    second.probe.answered = true;
    expect(reply(0x04, 0)).toMatchObject({ probe: third.probe });
  });

  it('the lowest SACK block, whatever else was acknowledged', () => {
    const method = methods['sack']!(family);
    const probes = [1, 2, 3].map((ttl) => write(method, ttl).probe);
    const options = new TcpOptions();
    options.sackCount = 2;
    options.sackEdges.set([0xffffff03, 0xffffff04, 0xffffff02, 0xffffff03]);
    expect(answer(method, tcp(target, { ...ports, flags: 0x10, acknowledgment: 0xffffff00, options }))).toMatchObject({
      probe: probes[1],
      kind: 'sack',
      isDestination: true,
    });
    const syn = tcp(target, { ...ports, flags: 0x12, acknowledgment: 0xffffff00, options });
    expect(answer(method, syn)).toBeUndefined();
  });

  it('a segment without SACK says that it is not supported', () => {
    let told = 0;
    const method = new SackMethod(
      {
        ...shared,
        source: new SocketAddress(family.local, 40_000),
        destination: new SocketAddress(family.target, 443),
      },
      { sequence: 1, acknowledgment: 5 },
      () => told++,
    );
    expect(answer(method, tcp(target, { ...ports, flags: 0x18, acknowledgment: 1 }))).toBeUndefined();
    expect(told).toBe(1);
  });

  it('a datagram of the service, and QUIC’s version negotiation', () => {
    const plain = methods['udp']!(family);
    const near = write(plain, 1);
    const far = write(plain, 2);
    answer(plain, timeExceeded(from(family), near.bytes));
    expect(answer(plain, udp(target, 33_434, 40_000, new Uint8Array(3)))).toMatchObject({
      probe: far.probe,
      kind: 'udp',
    });
    expect(answer(plain, udp(target, 33_435, 40_000, new Uint8Array(3)))).toBeUndefined();
    expect(answer(plain, udp(from(family, 'other'), 33_434, 40_000, new Uint8Array(3)))).toBeUndefined();

    const quic = methods['quic']!(family);
    write(quic, 1);
    const { probe, bytes } = write(quic, 2);
    const payload = bytes.subarray(bytes.length - 1200);
    expect(payload[0]! & 0xc0).toBe(0xc0);
    const negotiation = new Uint8Array(27);
    negotiation[0] = 0x80;
    negotiation[5] = 8;
    negotiation.set(payload.subarray(15, 23), 6);
    negotiation[14] = 8;
    negotiation.set(payload.subarray(6, 14), 15);
    negotiation[26] = 1;
    expect(answer(quic, udp(target, 443, 40_000, negotiation))).toMatchObject({
      probe,
      kind: 'quic',
      isDestination: true,
    });
    for (let at = 0; at < 23; at++) {
      const other = negotiation.slice();
      other[at]! ^= 0x80;
      expect(answer(quic, udp(target, 443, 40_000, other)), `byte ${at}`).toBeUndefined();
    }
    for (let length = 0; length < 27; length++) {
      expect(answer(quic, udp(target, 443, 40_000, negotiation.subarray(0, length)))).toBeUndefined();
    }
  });
});

describe('probes of one TTL', () => {
  it.each(cases.filter(({ name }) => name !== 'sack'))('are told apart: $label', ({ family, name }) => {
    const method = methods[name]!(family);
    const probes = Array.from({ length: 100 }, (_, index) => write(method, 9, index));
    for (const { probe, bytes } of probes) {
      expect(answer(method, timeExceeded(from(family), bytes, bytes.length))!.probe).toBe(probe);
    }
  });
});

describe('NATs', () => {
  it.each(families)('show in the quoted checksum of UDP over $name', (family) => {
    const method = methods['udp']!(family);
    const { probe, bytes } = write(method, 9);
    const other = bytes.slice();
    other[(family.name === 'IPv4' ? 20 : 40) + 6]! ^= 0xff;
    expect(answer(method, timeExceeded(from(family), other))).toMatchObject({ probe, nat: true });
  });
});

describe('captured packets', () => {
  it('may be followed by link-layer padding', () => {
    const family = families[0]!;
    const method = methods['udp']!(family);
    const { probe, bytes } = write(method, 9);
    const padded = new Uint8Array(200);
    padded.set(timeExceeded(from(family), bytes));
    expect(answer(method, padded)).toMatchObject({ probe });
  });

  it('with a wrong ICMP checksum are noise', () => {
    for (const family of families) {
      const method = methods['udp']!(family);
      const { bytes } = write(method, 9);
      const error = timeExceeded(from(family), bytes);
      error[error.length - 1]! ^= 1;
      expect(captured(error)).toBeUndefined();
    }
  });

  it('can be anything', () => {
    const reply = new Reply();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        reply.read(bytes, 0, bytes.length, instantAt(0));
      }),
    );
  });
});
