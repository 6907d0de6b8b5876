import { describe, expect, it } from 'vitest';
import { IpAddress } from '../../src/base/address.js';
import { Drop } from '../../src/base/drop.js';
import { Arena } from '../../src/wire/arena.js';
import {
  announcedMtu,
  answerEcho,
  completeIcmp,
  isEchoReply,
  isEchoRequest,
  isIcmpError,
  writeIcmp,
} from '../../src/wire/icmp.js';
import { ICMP_ERROR_MAX, type IcmpErrorKind, mayReport, writeIcmpError } from '../../src/wire/icmp-error.js';
import { QuotedPacket, readQuote } from '../../src/wire/icmp-quote.js';
import { ParsedPacket, parsePacket } from '../../src/wire/inner.js';
import { verifyChecksums } from '../../src/wire/verify.js';
import { packet, pattern, slowPseudo, slowSum } from './packets.js';

const families = [4, 6] as const;

function parsed(bytes: Uint8Array, offset = 0, length = bytes.length): ParsedPacket {
  const out = new ParsedPacket();
  expect(parsePacket(bytes, offset, length, out)).toBe(Drop.none);
  return out;
}

/** An echo request with 5 bytes of data. */
function echo(family: 4 | 6): Arena {
  const ip = family === 4 ? 20 : 40;
  const arena = new Arena(ip + 13);
  arena.bytes.set(packet({ family, udp: true, payload: pattern(5) }));
  arena.bytes[family === 4 ? 9 : 6] = family === 4 ? 1 : 58;
  writeIcmp(arena.bytes, ip, family === 4 ? 8 : 128, 0, 0x12340007);
  completeIcmp(arena, 0, ip, 13);
  return new Arena(arena.bytes.slice(0, ip + 13));
}

describe('ICMP', () => {
  it('computes the checksum that the slow sum expects', () => {
    for (const family of families) {
      const { bytes } = echo(family);
      const at = family === 4 ? 20 : 40;
      expect(slowSum(bytes, at, 13, family === 4 ? 0 : slowPseudo(bytes, 58, 13))).toBe(0xffff);
      const p = parsed(bytes);
      expect([isEchoRequest(p), isEchoReply(p), isIcmpError(p), p.sourcePort]).toEqual([true, false, false, 0x1234]);
    }
  });

  it('answers an echo in place', () => {
    for (const family of families) {
      const arena = echo(family);
      if (family === 4) {
        // The change of protocol above left the header's checksum wrong; a reply writes its own.
        expect(verifyChecksums(arena, parsed(arena.bytes))).toBe(Drop.bad_checksum);
      }
      const request = parsed(arena.bytes);
      const data = arena.bytes.slice(-9);
      arena.bytes[family === 4 ? 8 : 7] = 3;
      answerEcho(arena.bytes, request);
      const reply = parsed(arena.bytes);
      expect(verifyChecksums(arena, reply)).toBe(Drop.none);
      expect([isEchoReply(reply), reply.hopLimit]).toEqual([true, 64]);
      expect([reply.source3, reply.destination3, reply.source0]).toEqual([
        request.destination3,
        request.source3,
        request.destination0,
      ]);
      expect(arena.bytes.slice(-9)).toEqual(data);
    }
  });

  it('reports an error with the packet quoted up to the limit, and the quotation reads back', () => {
    const kinds: [IcmpErrorKind, number, number, number, number][] = [
      ['net_unreachable', 3, 0, 1, 0],
      ['host_unreachable', 3, 1, 1, 3],
      ['protocol_unreachable', 3, 2, 4, 1],
      ['port_unreachable', 3, 3, 1, 4],
      ['too_big', 3, 4, 2, 0],
      ['admin_prohibited', 3, 13, 1, 1],
      ['hop_limit', 11, 0, 3, 0],
      ['reassembly_timeout', 11, 1, 3, 1],
    ];
    const target = new Arena(ICMP_ERROR_MAX + 4);
    for (const family of families) {
      for (const size of [0, 3, 3000]) {
        for (const [kind, t4, c4, t6, c6] of kinds) {
          const offending = packet({ family, payload: pattern(size), sequence: 0xcafe0001 });
          const about = parsed(offending);
          const length = writeIcmpError(target, 4, offending, about, kind, 1400);
          const most = family === 4 ? 576 : 1280;
          expect(length).toBe(Math.min(most, offending.length + (family === 4 ? 28 : 48)));
          const error = parsed(target.bytes, 4, length);
          expect(verifyChecksums(target, error)).toBe(Drop.none);
          expect([error.icmpType, error.icmpCode]).toEqual(family === 4 ? [t4, c4] : [t6, c6]);
          expect([error.source3, error.destination3]).toEqual([about.destination3, about.source3]);
          expect(announcedMtu(target.bytes, error)).toBe(kind === 'too_big' ? 1400 : 0);
          expect([isIcmpError(error), mayReport(error)]).toEqual([true, false]);
          const quote = new QuotedPacket();
          expect(readQuote(target.bytes, error, quote)).toBe(true);
          expect(quote).toMatchObject({
            family,
            protocol: 6,
            sourcePort: 40000,
            destinationPort: 443,
            sequence: 0xcafe0001,
            source0: about.source0,
            source3: about.source3,
            destination0: about.destination0,
            destination3: about.destination3,
          });
        }
      }
    }
    const offending = packet({ family: 4, payload: pattern(9) });
    const length = writeIcmpError(
      target,
      0,
      offending,
      parsed(offending),
      'hop_limit',
      0,
      IpAddress.parse('10.1.2.3')!,
    );
    expect(parsed(target.bytes, 0, length).source3).toBe(0x0a010203);
  });

  it('reads no quotation that is cut short or of another family', () => {
    const target = new Arena(ICMP_ERROR_MAX);
    const quote = new QuotedPacket();
    for (const family of families) {
      const offending = packet({ family, payload: pattern(9) });
      const ip = family === 4 ? 20 : 40;
      const length = writeIcmpError(target, 0, offending, parsed(offending), 'port_unreachable');
      for (let n = ip + 8; n < length; n++) {
        const cut = target.bytes.slice(0, n);
        new DataView(cut.buffer).setUint16(family === 4 ? 2 : 4, family === 4 ? n : n - 40);
        expect(readQuote(cut, parsed(cut), quote)).toBe(n >= 2 * ip + 16);
      }
      target.bytes[ip + 8] = family === 4 ? 0x60 : 0x45;
      expect(readQuote(target.bytes, parsed(target.bytes, 0, length), quote)).toBe(false);
    }
  });

  it('keeps silent about multicast, broadcast, odd sources and later fragments', () => {
    const change = (family: 4 | 6, at: number, values: number[]): boolean => {
      const bytes = packet({ family, payload: pattern(40), dontFragment: false });
      bytes.set(values, at);
      return mayReport(parsed(bytes));
    };
    expect(change(4, 16, [10, 0, 0, 1])).toBe(true);
    for (const destination of [
      [224, 0, 0, 1],
      [255, 255, 255, 255],
      [0, 0, 0, 0],
    ])
      expect(change(4, 16, destination)).toBe(false);
    for (const source of [
      [127, 0, 0, 1],
      [239, 1, 1, 1],
      [0, 0, 0, 0],
    ])
      expect(change(4, 12, source)).toBe(false);
    expect(change(4, 6, [0, 3])).toBe(false);
    expect(change(6, 24, [0x20])).toBe(true);
    expect(change(6, 24, [0xff, 2])).toBe(false);
    expect(change(6, 8, new Array<number>(16).fill(0))).toBe(false);
    for (const family of families) expect(mayReport(parsed(echo(family).bytes))).toBe(true);
  });
});
