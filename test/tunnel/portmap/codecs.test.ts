/** NAT-PMP and PCP on the wire: the RFCs' layouts, and whatever bytes a network may bring. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IpAddress } from '../../../src/base/address.js';
import { decodePmpReply, encodePmpAddressRequest, encodePmpMapRequest } from '../../../src/tunnel/portmap/nat-pmp.js';
import { decodePcpReply, encodePcpAnnounce, encodePcpMap } from '../../../src/tunnel/portmap/pcp.js';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const ip = (text: string): IpAddress => IpAddress.parse(text)!;

describe('NAT-PMP', () => {
  it('asks as RFC 6886 §3.2 and §3.3 draw it', () => {
    expect(encodePmpAddressRequest()).toEqual(bytes('00 00'));
    expect(encodePmpMapRequest(0x1234, 0x5678, 7200)).toEqual(bytes('00 01 0000 1234 5678 00001c20'));
    // §3.4: the wanted port of a removal is zero.
    expect(encodePmpMapRequest(0x1234, 0x5678, 0)).toEqual(bytes('00 01 0000 1234 0000 00000000'));
  });

  it('reads answers and refusals, short ones too', () => {
    const address = decodePmpReply(bytes('00 80 0000 00000001 cb007107'));
    expect(address?.kind === 'address' && address.address.toString()).toBe('203.0.113.7');
    expect(decodePmpReply(bytes('00 81 0000 00000001 1234 5678 00000e10'))).toEqual({
      kind: 'mapped',
      insidePort: 0x1234,
      publicPort: 0x5678,
      lifetime: 3600,
    });
    expect(decodePmpReply(bytes('00 81 0002 00000001 1234 0000 00000000'))).toEqual({ kind: 'refused', result: 2 });
    expect(decodePmpReply(bytes('00 80 0003'))).toEqual({ kind: 'refused', result: 3 });
  });

  it.each([
    '',
    '00',
    '00 80 00',
    '00 81 0000 00000001 1234',
    '00 01 0000 1234 5678 00001c20',
    '00 82 0000 00000001',
    '02 80 0000',
  ])('takes %j for nothing', (hex) => expect(decodePmpReply(bytes(hex))).toBeUndefined());

  it('never throws', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), (random) => void decodePmpReply(random)));
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 20 }), fc.constantFrom(0x80, 0x81), (random, opcode) => {
        const reply = decodePmpReply(Uint8Array.of(0, opcode, 0, 0, ...random));
        expect(reply !== undefined).toBe(random.length === (opcode === 0x80 ? 8 : 12));
      }),
    );
  });
});

describe('PCP', () => {
  const nonce = bytes('000102030405060708090a0b');
  const own = '00000000000000000000ffffc0a80102';
  const wanted = { nonce, insidePort: 0x1234, publicPort: 0x5678, publicAddress: ip('0.0.0.0') };

  it('asks as RFC 6887 §7.1 and §11.1 draw it', () => {
    expect(encodePcpAnnounce(ip('192.168.1.2'))).toEqual(bytes(`02 00 0000 00000000 ${own}`));
    expect(encodePcpMap(ip('192.168.1.2'), wanted, 7200)).toEqual(
      bytes(`02 01 0000 00001c20 ${own} 000102030405060708090a0b 11 000000 1234 5678 00000000000000000000ffff00000000`),
    );
  });

  it('reads answers, options after them, and refusals', () => {
    const head = '02 81 00 00 00000e10 00000001 000000000000000000000000';
    const body = '000102030405060708090a0b 11 000000 1234 5678 00000000000000000000ffffcb007107';
    for (const options of ['', '02 00 0004 01020304']) {
      expect(decodePcpReply(bytes(`${head}${body}${options}`))).toEqual({
        kind: 'mapped',
        lifetime: 3600,
        mapping: { nonce, insidePort: 0x1234, publicPort: 0x5678, publicAddress: ip('203.0.113.7') },
      });
    }
    expect(decodePcpReply(bytes('02 80 00 00 00000000 00000001 000000000000000000000000'))).toEqual({
      kind: 'announced',
    });
    expect(decodePcpReply(bytes('02 81 00 08 00000708 00000001 000000000000000000000000'))).toEqual({
      kind: 'refused',
      result: 8,
    });
    // Of another protocol, a request, not a multiple of four.
    expect(decodePcpReply(bytes(`${head}${body.replace(' 11 ', ' 06 ')}`))).toBeUndefined();
    expect(decodePcpReply(bytes(`${head.replace('81', '01')}${body}`))).toBeUndefined();
    expect(decodePcpReply(bytes(`${head}${body}00`))).toBeUndefined();
  });

  it('brings back what it asked for, and never throws', () => {
    const port = fc.integer({ min: 0, max: 65_535 });
    const word = fc.integer({ min: 0, max: 0xffff_ffff });
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 12, maxLength: 12 }),
        port,
        port,
        word,
        word,
        (n, inside, out, life, v4) => {
          const mapping = { nonce: n, insidePort: inside, publicPort: out, publicAddress: IpAddress.v4(v4) };
          const request = encodePcpMap(ip('192.168.1.2'), mapping, life);
          const response = Uint8Array.from(request);
          response[1] = 0x81;
          expect(decodePcpReply(response)).toEqual({ kind: 'mapped', mapping, lifetime: life });
        },
      ),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 1200 }), (random) => void decodePcpReply(random)));
    expect(decodePcpReply(Uint8Array.of(2, 0x80, ...new Uint8Array(1102)))).toBeUndefined();
  });
});
