import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import {
  classify,
  decodeNonce,
  decodeObserved,
  decodeProbe,
  decodeProbeReply,
  encodeObserved,
  encodeProbe,
  encodeProbeReply,
  encodeRevalidate,
  encodeRevalidated,
  Frame,
  Payload,
  putRelayed,
  wordAt,
} from '../../src/tunnel/frames.js';

const word = fc.integer({ min: 0, max: 0xffffffff });
const ip = fc.oneof(
  word.map((w) => IpAddress.v4(w)),
  fc.tuple(fc.integer({ min: 1, max: 0xffffffff }), word, word, word).map((w) => new IpAddress(...w)),
);
const address = fc.tuple(ip, fc.integer({ min: 0, max: 65535 })).map(([a, p]) => new SocketAddress(a, p));

describe('the first byte of a UDP payload', () => {
  it('tells QUIC from our frames by the two top bits', () => {
    for (let byte = 0; byte < 256; byte++) {
      const expected = [Payload.frame, Payload.quicShort, Payload.unknown, Payload.quicLong][byte >> 6];
      expect(classify(byte)).toBe(expected);
    }
    expect(Object.values(Frame).every((type) => classify(type) === Payload.frame)).toBe(true);
  });
});

describe('frames', () => {
  it('write the RELAYED header as type and channel in network order', () => {
    const bytes = new Uint8Array(12);
    putRelayed(bytes, 1, 0x01020304, 0xfffefdfc);
    expect([...bytes]).toEqual([0, 0x10, 1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfc, 0, 0]);
    expect(wordAt(bytes, 6)).toBe(0xfffefdfc);
  });

  it('carry nonces and addresses there and back', () => {
    fc.assert(
      fc.property(word, word, address, fc.integer({ min: 0, max: 65535 }), (high, low, from, port) => {
        const nonce = { high, low };
        for (const bytes of [encodeRevalidate(nonce), encodeRevalidated(nonce)]) {
          expect(decodeNonce(bytes, 0, bytes.length)).toEqual(nonce);
        }
        const observed = encodeObserved(from);
        expect(observed.length).toBe(from.ip.isV4 ? 7 : 19);
        expect(decodeObserved(observed, 0, observed.length)?.equals(from)).toBe(true);
        const fromOtherPort = (low & 1) === 0;
        const probe = encodeProbe(nonce, fromOtherPort, port);
        expect(decodeProbe(probe, 0, probe.length)).toEqual({ nonce, fromOtherPort, delaySeconds: port });
        const reply = encodeProbeReply(nonce, from, port, port ^ 1);
        expect(reply.length).toBeLessThanOrEqual(probe.length);
        const decoded = decodeProbeReply(reply, 0, reply.length);
        expect(decoded?.nonce).toEqual(nonce);
        expect(decoded?.observed.equals(from)).toBe(true);
        expect(decoded?.answeringPort).toBe(port);
        expect(decoded?.otherPort).toBe(port ^ 1);
      }),
    );
  });

  it('never throw on random bytes, and refuse other lengths', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        decodeObserved(bytes, 0, bytes.length);
        decodeProbeReply(bytes, 0, bytes.length);
        expect(decodeNonce(bytes, 0, bytes.length) === undefined).toBe(bytes.length !== 9);
        expect(decodeProbe(bytes, 0, bytes.length) === undefined).toBe(bytes.length !== 64);
      }),
    );
  });
});
