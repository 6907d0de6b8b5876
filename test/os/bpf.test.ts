import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { filterProgram, INSTRUCTIONS_MAX } from '../../src/os/bpf.js';
import type { FilterSpec } from '../../src/os/packet-io.js';
import { icmp, tcp, udp } from '../trace/net/packets.js';
import { runFilter } from './bpf-machine.js';

const v4 = { from: IpAddress.parse('192.0.2.9')!, to: IpAddress.parse('192.0.2.1')! };
const v6 = { from: IpAddress.parse('2001:db8::9')!, to: IpAddress.parse('2001:db8::1')! };
const ports = { sourcePort: 443, destinationPort: 40_000, sequence: 1, acknowledgment: 2 };
const PACKETS = {
  icmp4: icmp(v4, 0, 0, 0, new Uint8Array(8)),
  icmp6: icmp(v6, 129, 0, 0, new Uint8Array(8)),
  udp4: udp(v4, 53, 40_000, new Uint8Array(4)),
  udp6: udp(v6, 53, 40_000, new Uint8Array(4)),
  syn4: tcp(v4, { ...ports, flags: 2 }),
  synAck4: tcp(v4, { ...ports, flags: 0x12 }),
  syn6: tcp(v6, { ...ports, flags: 2 }),
  synAck6: tcp(v6, { ...ports, flags: 0x12 }),
};
const tuple = (ends: { from: IpAddress; to: IpAddress }): FilterSpec => ({
  kind: 'tcp',
  source: new SocketAddress(ends.from, 443),
  destination: new SocketAddress(ends.to, 40_000),
});
const accepts = (spec: FilterSpec, packet: Uint8Array, linkHeader = 0): boolean =>
  runFilter(filterProgram(spec, linkHeader)!, packet) > 0;
const row = (spec: FilterSpec, linkHeader = 0): string =>
  Object.values(PACKETS)
    .map((packet) =>
      accepts(spec, Uint8Array.from([...new Array<number>(linkHeader).fill(0x45), ...packet]), linkHeader) ? 1 : 0,
    )
    .join('');

describe('filter programs', () => {
  it.each([0, 4, 14])('accept what the specification says behind a link header of %i bytes', (linkHeader) => {
    expect(row({ kind: 'nothing' }, linkHeader)).toBe('00000000');
    expect(row({ kind: 'icmp' }, linkHeader)).toBe('11000000');
    expect(row({ kind: 'udp' }, linkHeader)).toBe('11110000');
    expect(row(tuple(v4), linkHeader)).toBe('11001100');
    expect(row(tuple(v6), linkHeader)).toBe('11000011');
    expect(row({ kind: 'syn-ack' }, linkHeader)).toBe('00000101');
    expect(row({ kind: 'ports', ports: [40_000] }, linkHeader)).toBe('11111111');
    expect(row({ kind: 'ports', ports: [40_001, 443] }, linkHeader)).toBe('11000000');
    expect(row({ kind: 'ports', ports: [] }, linkHeader)).toBe('11000000');
    expect(filterProgram({ kind: 'none' })).toBeUndefined();
  });

  it('compare every field of a TCP tuple', () => {
    for (const [ends, good] of [
      [v4, PACKETS.synAck4],
      [v6, PACKETS.synAck6],
    ] as const) {
      const header = ends === v4 ? 20 : 40;
      const addresses = ends === v4 ? 12 : 8;
      for (let at = addresses; at < header + 4; at++) {
        const other = good.slice();
        other[at]! ^= 1;
        expect(accepts(tuple(ends), other), `byte ${at}`).toBe(false);
      }
    }
  });

  it('find ports behind IPv4 options and not in later fragments', () => {
    const plain = PACKETS.synAck4;
    const optioned = Uint8Array.from([...plain.subarray(0, 20), 1, 1, 1, 1, ...plain.subarray(20)]);
    optioned[0] = 0x46;
    const later = plain.slice();
    later[7] = 1;
    for (const spec of [tuple(v4), { kind: 'syn-ack' }, { kind: 'ports', ports: [40_000] }] as const) {
      expect(accepts(spec, optioned)).toBe(true);
      expect(accepts(spec, later)).toBe(false);
    }
  });

  it('see ICMPv6 and UDP behind a Fragment header', () => {
    const fragment = Uint8Array.from([
      ...PACKETS.icmp6.subarray(0, 40),
      58,
      0,
      0,
      0,
      0,
      0,
      0,
      1,
      ...PACKETS.icmp6.subarray(40),
    ]);
    fragment[6] = 44;
    const datagram = fragment.slice();
    datagram[40] = 17;
    expect([accepts({ kind: 'icmp' }, fragment), accepts({ kind: 'icmp' }, datagram)]).toEqual([true, false]);
    expect(accepts({ kind: 'udp' }, datagram)).toBe(true);
  });

  it('hold as many ports as there are traces', () => {
    const many = Array.from({ length: 1024 }, (_, i) => 30_000 + i);
    const program = filterProgram({ kind: 'ports', ports: many })!;
    expect(program.length / 8).toBeLessThan(INSTRUCTIONS_MAX);
    for (const port of [29_999, 30_000, 30_511, 31_023, 31_024]) {
      const packet = udp(v4, 53, port, new Uint8Array(1));
      expect(runFilter(program, packet) > 0, String(port)).toBe(many.includes(port));
    }
  });

  it('end for any bytes, and take no packet of another version', () => {
    const specs: FilterSpec[] = [{ kind: 'icmp' }, { kind: 'udp' }, tuple(v4), tuple(v6), { kind: 'syn-ack' }];
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 80 }),
        fc.constantFrom(...specs, { kind: 'ports' as const, ports: [7] }),
        (bytes, spec) => {
          const accepted = accepts(spec, bytes);
          const version = (bytes[0] ?? 0) >>> 4;
          return !accepted || version === 4 || version === 6;
        },
      ),
    );
  });
});
