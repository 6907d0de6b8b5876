import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Drop } from '../../src/base/drop.js';
import { Arena } from '../../src/wire/arena.js';
import { QuotedPacket, readQuote } from '../../src/wire/icmp-quote.js';
import { ParsedPacket, parsePacket } from '../../src/wire/inner.js';
import { writeFragmentHeader } from '../../src/wire/ipv6.js';
import { readTcpOptions, TcpOptions } from '../../src/wire/tcp.js';
import { verifyChecksums } from '../../src/wire/verify.js';
import { packet, pattern } from './packets.js';

const out = new ParsedPacket();
const parse = (bytes: Uint8Array): number => parsePacket(bytes, 0, bytes.length, out);

/** An IPv6 packet whose payload is `chain` after the fixed header; the first header is `next`. */
function v6(next: number, chain: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(40 + chain.length);
  bytes.set(packet({ family: 6, payload: new Uint8Array(0) }).subarray(0, 40));
  new DataView(bytes.buffer).setUint16(4, chain.length);
  bytes[6] = next;
  bytes.set(chain, 40);
  return bytes;
}

/** An extension header of 8 · (units + 1) bytes. */
function extension(next: number, units = 0, fourth = 0): number[] {
  const bytes = new Array<number>(8 * (units + 1)).fill(0);
  bytes[0] = next;
  bytes[1] = units;
  bytes[3] = fourth;
  return bytes;
}

const tcp = (family: 4 | 6): Uint8Array => packet({ family, payload: pattern(0) });
const tcpSegment = [...tcp(6).subarray(40)];

describe('parsePacket', () => {
  it('reads every field of TCP over both families, at any offset', () => {
    for (const family of [4, 6] as const) {
      const bytes = packet({
        family,
        payload: pattern(11),
        sequence: 0xfffffff0,
        flags: 0x18,
        window: 65_535,
        trafficClass: 0xb9,
      });
      const shifted = new Uint8Array(bytes.length + 5);
      shifted.set(bytes, 5);
      expect(parsePacket(shifted, 5, bytes.length, out)).toBe(Drop.none);
      const ip = family === 4 ? 20 : 40;
      expect(out).toMatchObject({
        family,
        offset: 5,
        totalLength: bytes.length,
        headerLength: ip,
        protocol: 6,
        hopLimit: 64,
        trafficClass: 0xb9,
        transportOffset: 5 + ip,
        transportLength: 31,
        payloadOffset: 5 + ip + 20,
        payloadLength: 11,
        sourcePort: 40000,
        destinationPort: 443,
        sequence: 0xfffffff0,
        acknowledgment: 77,
        tcpFlags: 0x18,
        tcpHeaderLength: 20,
        window: 65_535,
        isFragment: false,
        hasOptions: false,
        dontFragment: true,
        identification: family === 4 ? 0x1234 : 0,
        source0: family === 4 ? 0 : 0x20010db8,
        source2: family === 4 ? 0xffff : 0,
        source3: family === 4 ? 0x0a090801 : 1,
        destination0: family === 4 ? 0 : 0xfd00fffe,
        destination3: family === 4 ? 0xc00002c8 : 0x070707fa,
      });
    }
  });

  it('refuses a packet whose lengths disagree, at every truncation and with every wrong length field', () => {
    for (const family of [4, 6] as const) {
      for (const udp of [false, true]) {
        const whole = packet({ family, udp, payload: pattern(30), options: pattern(0) });
        expect(parse(whole)).toBe(Drop.none);
        for (let n = 0; n < whole.length; n++) expect(parse(whole.slice(0, n))).toBe(Drop.bad_length);
        const longer = new Uint8Array(whole.length + 1);
        longer.set(whole);
        expect(parse(longer)).toBe(Drop.bad_length);
      }
    }
    const short = tcp(4);
    short[0] = 0x44;
    expect(parse(short)).toBe(Drop.bad_length);
    short[0] = 0x55;
    expect(parse(short)).toBe(Drop.not_ip);
    const offset = tcp(6);
    offset[40 + 12] = 0x40;
    expect(parse(offset)).toBe(Drop.bad_length);
    offset[40 + 12] = 0x60;
    expect(parse(offset)).toBe(Drop.bad_length);
    const udp = packet({ family: 4, udp: true, payload: pattern(4) });
    udp[25] = 7;
    expect(parse(udp)).toBe(Drop.bad_length);
    udp[25] = 13;
    expect(parse(udp)).toBe(Drop.bad_length);
    udp[25] = 10;
    expect([parse(udp), out.payloadLength, out.transportLength]).toEqual([Drop.none, 2, 12]);
  });

  it('walks extension headers up to a limit', () => {
    const two = v6(0, new Uint8Array([...extension(60), ...extension(6, 1), ...tcpSegment]));
    expect(parse(two)).toBe(Drop.none);
    expect(out).toMatchObject({
      protocol: 6,
      headerLength: 40 + 8 + 16,
      hasOptions: true,
      isSourceRouted: false,
      sourcePort: 40000,
    });
    expect(parse(v6(43, new Uint8Array([...extension(6, 0, 1), ...tcpSegment])))).toBe(Drop.none);
    expect(out.isSourceRouted).toBe(true);
    const authentication = [6, 1, ...new Array<number>(10).fill(0)];
    expect(parse(v6(51, new Uint8Array([...authentication, ...tcpSegment])))).toBe(Drop.none);
    expect(out.headerLength).toBe(52);
    const chain = (n: number): Uint8Array =>
      v6(
        60,
        new Uint8Array([...Array.from({ length: n }, (_, i) => extension(i === n - 1 ? 6 : 60)).flat(), ...tcpSegment]),
      );
    expect(parse(chain(8))).toBe(Drop.none);
    expect(parse(chain(9))).toBe(Drop.malformed);
    expect(parse(v6(60, new Uint8Array([...extension(0), ...extension(6), ...tcpSegment])))).toBe(Drop.malformed);
    expect(parse(v6(60, new Uint8Array(extension(6, 3).slice(0, 16))))).toBe(Drop.bad_length);
    expect([parse(v6(59, new Uint8Array(0))), out.protocol, out.payloadLength]).toEqual([Drop.none, 59, 0]);
    expect([parse(v6(50, pattern(9))), out.protocol, out.payloadLength]).toEqual([Drop.none, 50, 9]);
  });

  it('knows fragments: first, middle, last, atomic; and refuses those that hide or overrun', () => {
    const fragment = (at: number, more: boolean, rest: number[] | Uint8Array, next = 6): Uint8Array => {
      const chain = new Uint8Array(8 + rest.length);
      writeFragmentHeader(chain, 0, next, at, more, 0xdeadbeef);
      chain.set(rest, 8);
      return v6(44, chain);
    };
    expect(parse(fragment(0, true, [...tcpSegment, 1, 2, 3, 4]))).toBe(Drop.none);
    expect(out).toMatchObject({
      isFragment: true,
      moreFragments: true,
      fragmentOffset: 0,
      identification: 0xdeadbeef,
      destinationPort: 443,
      fragmentHeaderOffset: 40,
    });
    expect([parse(fragment(1480, false, pattern(3))), out.sourcePort, out.payloadLength]).toEqual([Drop.none, 0, 3]);
    expect([parse(fragment(0, false, tcpSegment)), out.isFragment, out.sourcePort]).toEqual([Drop.none, false, 40000]);
    expect(parse(fragment(0, true, [...tcpSegment, 1]))).toBe(Drop.bad_length);
    expect(parse(fragment(0, true, tcpSegment.slice(0, 16)))).toBe(Drop.fragment);
    expect(parse(fragment(8, false, pattern(8)))).toBe(Drop.fragment);
    expect(parse(fragment(65_528, false, pattern(8), 17))).toBe(Drop.bad_length);
    expect(parse(fragment(1480, false, pattern(0), 17))).toBe(Drop.bad_length);
    expect(parse(fragment(0, true, [...extension(6), ...tcpSegment, 9, 9, 9, 9], 60))).toBe(Drop.none);
    expect(out.sourcePort).toBe(40000);

    const v4 = packet({ family: 4, payload: pattern(4), dontFragment: false });
    v4[6] = 0x20;
    expect([parse(v4), out.isFragment, out.moreFragments]).toEqual([Drop.none, true, true]);
    v4[6] = 0;
    v4[7] = 3;
    expect([parse(v4), out.fragmentOffset, out.sourcePort, out.payloadLength]).toEqual([Drop.none, 24, 0, 24]);
    v4[7] = 1;
    expect(parse(v4)).toBe(Drop.fragment);
  });

  it('flags an IPv4 source route', () => {
    const plain = tcp(4);
    const bytes = new Uint8Array(plain.length + 8);
    bytes.set(plain.subarray(0, 20));
    bytes.set([1, 131, 7, 4, 10, 0, 0, 1], 20);
    bytes.set(plain.subarray(20), 28);
    bytes[0] = 0x47;
    bytes[3] = bytes.length;
    expect([parse(bytes), out.isSourceRouted, out.hasOptions, out.sourcePort]).toEqual([Drop.none, true, true, 40000]);
    bytes[21] = 148;
    expect([parse(bytes), out.isSourceRouted]).toEqual([Drop.none, false]);
  });

  it('never throws and never leaves the packet, whatever the bytes', () => {
    const start = fc.constantFrom(0x45, 0x46, 0x4f, 0x60, 0x00);
    const next = fc.constantFrom(0, 6, 17, 43, 44, 51, 58, 60, 1, 255);
    const quote = new QuotedPacket();
    const options = new TcpOptions();
    fc.assert(
      fc.property(
        start,
        next,
        fc.uint8Array({ maxLength: 200 }),
        fc.boolean(),
        (first, protocol, bytes, fixLengths) => {
          if (bytes.length > 10) {
            bytes[0] = first;
            bytes[first >>> 4 === 4 ? 9 : 6] = protocol;
            if (fixLengths) {
              bytes[2] = bytes[4] = 0;
              if (first >>> 4 === 4) bytes[3] = bytes.length;
              else bytes[5] = Math.max(0, bytes.length - 40);
            }
          }
          for (let n = 0; n <= bytes.length; n += 1 + (n >> 4)) {
            if (parsePacket(bytes, 0, n, out) !== Drop.none) continue;
            expect(out.payloadOffset).toBeGreaterThanOrEqual(out.transportOffset);
            expect(out.payloadOffset + out.payloadLength).toBeLessThanOrEqual(n);
            expect(out.transportOffset + out.transportLength).toBe(n);
            verifyChecksums(new Arena(bytes.slice(0, n)), out);
            if (out.protocol === 6)
              readTcpOptions(bytes, out.transportOffset + 20, out.transportOffset + out.tcpHeaderLength, options);
            if (out.protocol === 1 || out.protocol === 58) readQuote(bytes, out, quote);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe('verifyChecksums', () => {
  it('accepts right packets and rejects every single wrong byte', () => {
    for (const family of [4, 6] as const) {
      for (const udp of [false, true]) {
        const whole = packet({ family, udp, payload: pattern(21) });
        expect(parse(whole)).toBe(Drop.none);
        expect(verifyChecksums(new Arena(whole.slice()), out)).toBe(Drop.none);
        // Beyond the addresses: bytes that the parser reads first are judged by it.
        for (let i = family === 4 ? 12 : 8; i < whole.length; i++) {
          const wrong = whole.slice();
          wrong[i]! ^= 0x10;
          if (parse(wrong) === Drop.none) expect(verifyChecksums(new Arena(wrong), out)).toBe(Drop.bad_checksum);
        }
      }
    }
  });

  it('takes a UDP checksum of zero in IPv4 only', () => {
    for (const family of [4, 6] as const) {
      const bytes = packet({ family, udp: true, payload: pattern(5) });
      const at = family === 4 ? 26 : 46;
      bytes[at] = bytes[at + 1] = 0;
      expect(parse(bytes)).toBe(Drop.none);
      expect(verifyChecksums(new Arena(bytes), out)).toBe(family === 4 ? Drop.none : Drop.bad_checksum);
    }
  });
});
