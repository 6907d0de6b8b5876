import { describe, expect, it } from 'vitest';
import { IpAddress } from '../../src/base/address.js';
import { Drop } from '../../src/base/drop.js';
import { HostSegments } from '../../src/node/host-segments.js';
import { TcpWatch } from '../../src/node/tcp-watch.js';
import type { Arena } from '../../src/wire/arena.js';
import { ParsedPacket, parsePacket } from '../../src/wire/inner.js';
import { verifyChecksums } from '../../src/wire/verify.js';
import { addressWords } from '../support/packets.js';

const SYN = 0x02;
const RST = 0x04;
const ACK = 0x10;

/** A TCP packet of the host as the parser would have described it. */
function packet(from: IpAddress, to: IpAddress, port: number, flags: number, seq: number, ack = 0, payload = 0) {
  const parsed = new ParsedPacket();
  Object.assign(parsed, {
    family: from.family,
    ...addressWords(from, to),
    sourcePort: port,
    destinationPort: 443,
    tcpFlags: flags,
    sequence: seq,
    acknowledgment: ack,
    payloadLength: payload,
  });
  return parsed;
}

function watch() {
  const resets: ParsedPacket[] = [];
  const segments = new HostSegments((arena: Arena, offset, length) => {
    const parsed = new ParsedPacket();
    expect(parsePacket(arena.bytes, offset, length, parsed)).toBe(Drop.none);
    expect(verifyChecksums(arena, parsed)).toBe(Drop.none);
    resets.push(parsed);
  });
  const flows = new TcpWatch(segments);
  return { flows, resets };
}

describe.each([
  ['100.64.0.1', '10.100.0.9'],
  ['fd00:1::1', 'fd00:2::9'],
])('flows from %s', (own, service) => {
  const from = IpAddress.parse(own)!;
  const to = IpAddress.parse(service)!;

  it('are reset at exactly the sequence number the host expects', () => {
    const { flows, resets } = watch();
    flows.note(packet(from, to, 40_000, SYN, 100), 'c1');
    flows.note(packet(from, to, 40_000, ACK, 101, 7_000, 500), 'c1');
    flows.note(packet(from, to, 40_000, ACK, 601, 9_000), 'c1');
    expect(flows.reset((flow) => flow.peer === 'c1')).toBe(1);
    expect(resets).toMatchObject([
      { sequence: 9_000, acknowledgment: 601, tcpFlags: RST | ACK, sourcePort: 443, destinationPort: 40_000 },
    ]);
    expect([resets[0]!.source3, resets[0]!.destination3]).toEqual([to.w3, from.w3]);
    expect(flows.size).toBe(0);
  });

  it('of other connectors, and those that ended themselves, are left alone', () => {
    const { flows, resets } = watch();
    flows.note(packet(from, to, 1, SYN, 1), 'c1');
    flows.note(packet(from, to, 2, SYN, 1), 'c2');
    flows.note(packet(from, to, 3, SYN, 1), 'c1');
    flows.note(packet(from, to, 3, RST, 2), 'c1');
    expect(flows.reset((flow) => flow.peer === 'c1')).toBe(1);
    expect(resets.map((reset) => reset.destinationPort)).toEqual([1]);
  });

  it('that were never seen to begin are not watched, and no more than 8192 are', () => {
    const { flows } = watch();
    flows.note(packet(from, to, 5, ACK, 1, 1), 'c1');
    expect(flows.size).toBe(0);
    for (let port = 1; port <= 9_000; port++) flows.note(packet(from, to, port, SYN, 1), 'c1');
    expect(flows.size).toBeLessThanOrEqual(8_192);
    expect(flows.size).toBeGreaterThan(8_000);
  });
});
