import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IpAddress } from '../../src/base/address.js';
import { writeU16, writeU32 } from '../../src/wire/bytes.js';
import { finish, sumBytes } from '../../src/wire/checksum.js';
import { type IcmpExtensionObjects, readIcmpExtensions } from '../../src/wire/icmp-extensions.js';
import { ParsedPacket, parsePacket } from '../../src/wire/inner.js';

const QUOTE = 128;
const ascii = (text: string): number[] => [...text].map((letter) => letter.charCodeAt(0));

/** An ICMP "time exceeded" whose quotation of `QUOTE` bytes is followed by these objects. */
function message(
  family: 4 | 6,
  objects: readonly number[],
  options: { old?: boolean; checksum?: boolean } = {},
): Uint8Array {
  const ip = family === 4 ? 20 : 40;
  const bytes = new Uint8Array(ip + 8 + QUOTE + 4 + objects.length);
  bytes[0] = family === 4 ? 0x45 : 0x60;
  if (family === 4) {
    writeU16(bytes, 2, bytes.length);
    bytes[9] = 1;
  } else {
    writeU16(bytes, 4, bytes.length - 40);
    bytes[6] = 58;
  }
  bytes[ip] = family === 4 ? 11 : 3;
  if (options.old !== true) bytes[ip + (family === 4 ? 5 : 4)] = QUOTE / (family === 4 ? 4 : 8);
  const at = ip + 8 + QUOTE;
  bytes[at] = 0x20;
  bytes.set(objects, at + 4);
  if (options.checksum !== false) writeU16(bytes, at + 2, finish(sumBytes(bytes, at, bytes.length - at)));
  return bytes;
}

function read(bytes: Uint8Array): IcmpExtensionObjects | undefined {
  const packet = new ParsedPacket();
  return parsePacket(bytes, 0, bytes.length, packet) === 0 ? readIcmpExtensions(bytes, packet) : undefined;
}

const word = (value: number): number[] => {
  const bytes = new Uint8Array(4);
  writeU32(bytes, 0, value);
  return [...bytes];
};
const STACK = [0, 12, 1, 1, ...word((1000 << 12) | (5 << 9) | 254), ...word(((16 << 12) | 0x101) >>> 0)];

describe.each([4, 6] as const)('extensions of ICMP over IPv%i', (family) => {
  it('hold a label stack (RFC 4950 §3)', () => {
    const mpls = [
      { label: 1000, trafficClass: 5, bottom: false, ttl: 254 },
      { label: 16, trafficClass: 0, bottom: true, ttl: 1 },
    ];
    expect(read(message(family, STACK))).toEqual({ mpls, interfaces: [] });
    // Without a length field they begin behind 128 bytes.
    expect(read(message(family, STACK, { old: true }))).toEqual({ mpls, interfaces: [] });
  });

  it('hold interfaces (RFC 5837 §4)', () => {
    const full = [
      0,
      36,
      2,
      0b0000_1111,
      ...word(7),
      0,
      1,
      0,
      0,
      192,
      0,
      2,
      7,
      16,
      ...ascii('ge-0/0/1'),
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      ...word(9192),
    ];
    const six = [0, 24, 2, 0b1000_0100, 0, 2, 0, 0, ...IpAddress.parse('2001:db8::7')!.toBytes()];
    expect(read(message(family, [...full, ...six]))).toEqual({
      mpls: [],
      interfaces: [
        { role: 'incoming', index: 7, address: IpAddress.parse('192.0.2.7'), name: 'ge-0/0/1', mtu: 9192 },
        { role: 'outgoing', address: IpAddress.parse('2001:db8::7') },
      ],
    });
  });

  it('need a right checksum, or none at all where the length field tells of them', () => {
    const broken = message(family, STACK);
    broken[broken.length - 1]! ^= 2;
    expect(read(broken)).toBeUndefined();
    expect(read(message(family, STACK, { checksum: false }))?.mpls).toHaveLength(2);
    expect(read(message(family, STACK, { checksum: false, old: true }))).toBeUndefined();
  });

  it('skip objects they do not know and end at one that does not fit', () => {
    expect(read(message(family, [0, 8, 9, 9, 1, 2, 3, 4, ...STACK]))?.mpls).toHaveLength(2);
    expect(read(message(family, [...STACK, 0, 99, 1, 1]))?.mpls).toHaveLength(2);
    expect(read(message(family, [0, 3, 1, 1]))).toBeUndefined();
    for (const bad of [
      [0, 6, 2, 0x08, 1, 2],
      [0, 8, 2, 0x04, 0, 9, 0, 0],
      [0, 8, 2, 0x02, 9, 65, 65, 65],
      [0, 6, 2, 0x01, 1, 2],
    ]) {
      expect(read(message(family, bad))).toBeUndefined();
    }
    // A name that is not UTF-8 is no name.
    expect(read(message(family, [0, 8, 2, 0x02, 4, 0xff, 0xfe, 0]))).toEqual({
      mpls: [],
      interfaces: [{ role: 'incoming' }],
    });
  });

  it('can be anything', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.boolean(), (objects, old) => {
        read(message(family, [...objects], { old }));
      }),
    );
  });
});
