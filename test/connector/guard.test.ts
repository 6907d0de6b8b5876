/** The guard: every field that decides about an agent's packet, one by one and in all combinations. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { IpAddress } from '../../src/base/address.js';
import { Drop, dropName } from '../../src/base/drop.js';
import { Guard } from '../../src/connector/guard.js';
import { parseDocument } from '../../src/policy/document.js';
import { compile } from '../../src/policy/view.js';
import { policyDocument } from '../support/identities.js';
import { echoRequest, icmpPacket, ipPacket, PROTO, tcpPacket, udpPacket } from '../support/packets.js';

const OWN4 = '100.64.0.9';
const OWN6 = 'fd00:1:2:f::9';
const document = policyDocument();
const view = compile(
  parseDocument({
    ...document,
    services: [
      ...document.services,
      { id: 'lan', protocols: ['tcp'], ports: 'any', target: 'cidr', prefix: '10.20.0.0/24', connectors: ['c1'] },
      { id: 'vault', protocols: ['tcp'], ports: 'any', target: 'cidr', prefix: '10.20.0.7/32', connectors: ['c1'] },
    ],
    grants: [...document.grants, { from: ['group:staff'], to: ['lan'] }],
  }),
);
const alice = { role: 'agent' as const, name: 'alice', groups: ['staff'], invitationId: '0'.repeat(32) };
const access = view.accessFor(alice, 'c1');
const guard = new Guard(IpAddress.parse(OWN4), IpAddress.parse(OWN6));

const judge = (packet: Uint8Array, length = packet.length): string => {
  const bytes = new Uint8Array(packet.length + 8);
  bytes.set(packet, 4);
  return dropName(guard.judge(access, bytes, 4, length));
};
const web = { from: OWN4, to: '10.100.0.1' };
const web6 = { from: OWN6, to: 'fd00:1:2::1' };
const box = { from: OWN4, to: '10.100.0.3' };
const box6 = { from: OWN6, to: 'fd00:1:2::3' };
const data = new Uint8Array(64);
/** An ICMP message of this type, about nothing in particular. */
const error = (type: number): Uint8Array => Uint8Array.of(type, 1, 0, 0, 0, 0, 0, 0, ...data);
/** An address as 16 bytes, IPv4-mapped where it is one. */
const bytes16 = (text: string): Uint8Array => {
  const { w0, w1, w2, w3 } = IpAddress.parse(text)!;
  const bytes = new Uint8Array(16);
  [w0, w1, w2, w3].forEach((word, i) => {
    new DataView(bytes.buffer).setUint32(i * 4, word);
  });
  return bytes;
};

describe('source', () => {
  test.each(['100.64.0.8', '100.64.1.9', '10.100.0.1', '127.0.0.1', '0.0.0.0', '255.255.255.255'])(
    '%s is refused',
    (from) => {
      expect(judge(tcpPacket({ ...web, from }, 1, 80))).toBe('source_not_allowed');
    },
  );
  test.each(['fd00:1:2:f::8', 'fd00:1:3:f::9', 'fd00:1:2:e::9', '::1', '::ffff:100.64.0.9', '::'])(
    '%s is refused',
    (from) => {
      const packet = tcpPacket(web6, 1, 80);
      packet.set(bytes16(from), 8);
      expect(judge(packet)).toBe('source_not_allowed');
    },
  );
  test('an agent without an address of a family sends nothing in it', () => {
    const only4 = new Guard(IpAddress.parse(OWN4), undefined);
    const packet = tcpPacket(web6, 1, 80);
    expect(only4.judge(access, packet, 0, packet.length)).toBe(Drop.source_not_allowed);
  });
});

describe('destination, protocol, port', () => {
  test.each([
    ['its service', tcpPacket(web, 1, 80), 'none'],
    ['its service in IPv6', tcpPacket(web6, 1, 80), 'none'],
    ['another port', tcpPacket(web, 1, 81), 'port_not_allowed'],
    ['another protocol', udpPacket(web, 1, 80, ''), 'protocol_not_allowed'],
    ['a service that is not granted', tcpPacket({ ...web, to: '10.100.0.5' }, 1, 5432), 'destination_not_allowed'],
    ['a service of another connector', tcpPacket({ ...web, to: '10.100.0.6' }, 1, 80), 'destination_not_allowed'],
    ['no service at all', tcpPacket({ ...web, to: '10.100.0.200' }, 1, 80), 'destination_not_allowed'],
    ['the backend’s real address', tcpPacket({ ...web, to: '10.0.0.5' }, 1, 8080), 'destination_not_allowed'],
    ['the connector’s loopback', tcpPacket({ ...web, to: '127.0.0.1' }, 1, 80), 'destination_not_allowed'],
    ['another agent', tcpPacket({ ...web, to: '100.64.0.8' }, 1, 80), 'destination_not_allowed'],
    ['multicast', udpPacket({ ...web, to: '224.0.0.251' }, 5353, 5353, ''), 'destination_not_allowed'],
    ['broadcast', udpPacket({ ...web, to: '255.255.255.255' }, 67, 67, ''), 'destination_not_allowed'],
    ['a granted prefix', tcpPacket({ ...web, to: '10.20.0.6' }, 1, 9), 'none'],
    [
      'a longer prefix in it that is not granted',
      tcpPacket({ ...web, to: '10.20.0.7' }, 1, 9),
      'destination_not_allowed',
    ],
    ['any port of a host', udpPacket(box, 1, 9999, ''), 'none'],
    ['a protocol nobody can grant', ipPacket({ ...box, protocol: 47, body: data }), 'protocol_not_allowed'],
    ['IPv6 in IPv4', ipPacket({ ...box, protocol: 41, body: data }), 'protocol_not_allowed'],
    ['ICMPv6 over IPv4', ipPacket({ ...box, protocol: PROTO.icmp6, body: data }), 'protocol_not_allowed'],
  ])('%s', (_name, packet, result) => {
    expect(judge(packet)).toBe(result);
  });
});

describe('ICMP', () => {
  test.each([
    ['an echo request to a host', echoRequest(box, 1, 1), 'none'],
    ['an echo request in IPv6', echoRequest(box6, 1, 1), 'none'],
    ['an echo request to a TCP service', echoRequest(web, 1, 1), 'protocol_not_allowed'],
    ['an echo reply', icmpPacket(box, 0, 0, 0), 'protocol_not_allowed'],
    ['an echo reply in IPv6', icmpPacket(box6, 129, 0, 0), 'protocol_not_allowed'],
    ['a redirect', icmpPacket(box, 5, 1, 0), 'protocol_not_allowed'],
    ['a timestamp request', icmpPacket(box, 13, 0, 0), 'protocol_not_allowed'],
    ['an address mask request', icmpPacket(box, 17, 0, 0), 'protocol_not_allowed'],
    ['a router advertisement', icmpPacket(box6, 134, 0, 0), 'protocol_not_allowed'],
    ['a neighbour solicitation', icmpPacket(box6, 135, 0, 0), 'protocol_not_allowed'],
    ['frag-needed about a TCP flow', icmpPacket(web, 3, 4, 1280, data), 'none'],
    ['packet-too-big about a TCP flow', icmpPacket(web6, 2, 0, 1280, data), 'none'],
    ['time exceeded', icmpPacket(web, 11, 0, 0, data), 'none'],
    [
      'an error to somebody who is not allowed',
      icmpPacket({ ...web, to: '10.100.0.5' }, 3, 1, 0, data),
      'destination_not_allowed',
    ],
    ['an ICMPv6 type in ICMP', icmpPacket(box, 128, 0, 0), 'protocol_not_allowed'],
    ['a redirect in IPv6', icmpPacket(web6, 137, 0, 0, data), 'protocol_not_allowed'],
    ['an ICMP error in IPv6', ipPacket({ ...web6, protocol: PROTO.icmp, body: error(3) }), 'protocol_not_allowed'],
    ['an ICMPv6 error in IPv4', ipPacket({ ...web, protocol: PROTO.icmp6, body: error(1) }), 'protocol_not_allowed'],
  ])('%s', (_name, packet, result) => {
    expect(judge(packet)).toBe(result);
  });
});

describe('fragments', () => {
  const part = (
    ends: { from: string; to: string },
    protocol: number,
    offset: number,
    more: boolean,
    body: Uint8Array = data,
  ) => ipPacket({ ...ends, protocol, body, fragment: { offset, more } });
  const udpHead = (port: number): Uint8Array => {
    const body = new Uint8Array(64);
    new DataView(body.buffer).setUint16(2, port);
    new DataView(body.buffer).setUint16(4, 128);
    return body;
  };
  test.each([
    ['the first, of an allowed port', part({ ...web, to: '10.100.0.2' }, PROTO.udp, 0, true, udpHead(53)), 'none'],
    [
      'the first, of another port',
      part({ ...web, to: '10.100.0.2' }, PROTO.udp, 0, true, udpHead(54)),
      'port_not_allowed',
    ],
    [
      'a later one: its ports are judged with the first',
      part({ ...web, to: '10.100.0.2' }, PROTO.udp, 64, false),
      'none',
    ],
    ['a later one of another protocol', part(web, PROTO.udp, 64, false), 'protocol_not_allowed'],
    ['a later one to nowhere', part({ ...web, to: '10.100.0.5' }, PROTO.tcp, 64, false), 'destination_not_allowed'],
    ['a later one from elsewhere', part({ ...web, from: '100.64.0.8' }, PROTO.tcp, 64, false), 'source_not_allowed'],
    ['a TCP part that would rewrite the header', part(web, PROTO.tcp, 8, false), 'fragment'],
    ['a first one that hides its ports', part(web, PROTO.tcp, 0, true, data.subarray(0, 8)), 'fragment'],
    ['one that reaches beyond 65,535', part({ ...web, to: '10.100.0.2' }, PROTO.udp, 65_528, false), 'bad_length'],
    [
      'one of a length that is no multiple of 8',
      part({ ...web, to: '10.100.0.2' }, PROTO.udp, 64, true, data.subarray(0, 60)),
      'bad_length',
    ],
  ])('%s', (_name, packet, result) => {
    expect(judge(packet)).toBe(result);
  });
});

describe('lengths and options', () => {
  const packet = tcpPacket(web, 1, 80);
  const changed = (at: number, value: number): Uint8Array => {
    const copy = packet.slice();
    copy[at] = value;
    return copy;
  };
  test.each([
    ['nothing', new Uint8Array(0), 'bad_length'],
    ['a header cut short', packet.slice(0, 19), 'bad_length'],
    ['shorter than it says', packet.slice(0, 30), 'bad_length'],
    ['longer than it says', changed(3, 39), 'bad_length'],
    ['a header of 16 bytes', changed(0, 0x44), 'bad_length'],
    ['a header longer than the packet', changed(0, 0x4f), 'bad_length'],
    ['a TCP header longer than the packet', changed(32, 0xf0), 'bad_length'],
    ['a TCP header of 16 bytes', changed(32, 0x40), 'bad_length'],
    ['version 5', changed(0, 0x55), 'not_ip'],
    [
      'loose source route',
      tcpPacket({ ...web, options: Uint8Array.of(131, 7, 4, 10, 0, 0, 1, 0) }, 1, 80),
      'bad_option',
    ],
    [
      'strict source route behind padding',
      tcpPacket({ ...web, options: Uint8Array.of(1, 137, 7, 4, 10, 0, 0, 1) }, 1, 80),
      'bad_option',
    ],
    ['a harmless option', tcpPacket({ ...web, options: Uint8Array.of(148, 4, 0, 0) }, 1, 80), 'none'],
  ])('%s', (_name, bytes, result) => {
    expect(judge(bytes)).toBe(result);
  });
});

test('what passes is from the agent itself to what the policy gives it, in every combination', () => {
  const open: Record<string, { protocols: readonly number[]; port?: number }> = {
    '10.100.0.1': { protocols: [PROTO.tcp], port: 80 },
    '10.100.0.2': { protocols: [PROTO.udp], port: 53 },
    '10.100.0.3': { protocols: [PROTO.tcp, PROTO.udp, PROTO.icmp] },
    '10.100.0.4': { protocols: [PROTO.tcp], port: 80 },
    '10.20.0.9': { protocols: [PROTO.tcp] },
  };
  const packets = fc.record({
    from: fc.constantFrom(OWN4, OWN4, OWN4, '100.64.0.8'),
    to: fc.constantFrom(...Object.keys(open), '10.100.0.5', '10.100.0.6', '10.20.0.7', '10.0.0.5'),
    protocol: fc.constantFrom(PROTO.tcp, PROTO.udp, PROTO.icmp, 47),
    port: fc.constantFrom(53, 80, 81, 443),
    type: fc.constantFrom(0, 3, 5, 8, 11, 13),
  });
  fc.assert(
    fc.property(packets, ({ from, to, protocol, port, type }) => {
      const packet =
        protocol === PROTO.tcp
          ? tcpPacket({ from, to }, 999, port)
          : protocol === PROTO.udp
            ? udpPacket({ from, to }, 999, port, 'x')
            : protocol === PROTO.icmp
              ? icmpPacket({ from, to }, type, 0, 0, data)
              : ipPacket({ from, to, protocol, body: data });
      const service = open[to];
      const isError = protocol === PROTO.icmp && (type === 3 || type === 11);
      const allowed =
        from === OWN4 &&
        service !== undefined &&
        (isError ||
          (service.protocols.includes(protocol) &&
            (protocol === PROTO.icmp ? type === 8 : service.port === undefined || service.port === port)));
      return (judge(packet) === 'none') === allowed;
    }),
    { numRuns: 2000 },
  );
});

test('bytes that are changed anywhere pass only if source, destination, protocol and port are still right', () => {
  const seeds = [tcpPacket(web, 1, 80), tcpPacket(web6, 1, 80), udpPacket(box, 1, 2, 'xyz'), echoRequest(box6, 1, 1)];
  fc.assert(
    fc.property(
      fc.nat(seeds.length - 1),
      fc.array(fc.tuple(fc.nat(59), fc.nat(255)), { maxLength: 4 }),
      fc.nat(80),
      (which, changes, cut) => {
        const packet = seeds[which]!.slice(0, Math.max(1, seeds[which]!.length - (cut > 70 ? cut - 70 : 0)));
        for (const [at, value] of changes) if (at < packet.length) packet[at] = value;
        if (judge(packet) !== 'none') return true;
        const isV4 = packet[0]! >>> 4 === 4;
        const own = IpAddress.parse(isV4 ? OWN4 : OWN6)!;
        return IpAddress.fromBytes(packet, isV4 ? 12 : 8, isV4 ? 4 : 16).equals(own);
      },
    ),
    { numRuns: 3000 },
  );
});

test('random bytes never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
      judge(bytes);
    }),
    { numRuns: 3000 },
  );
});
