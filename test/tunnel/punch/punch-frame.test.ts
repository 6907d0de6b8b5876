import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IpAddress, SocketAddress } from '../../../src/base/address.js';
import {
  hasToken,
  isAnswer,
  isPunch,
  PUNCH_LENGTH,
  punchEcho,
  punchObserved,
  punchSent,
  punchSeq,
  putPunchAnswer,
  putPunchRequest,
  TOKEN_LENGTH,
} from '../../../src/tunnel/punch/punch-frame.js';

const token = fc.uint8Array({ minLength: TOKEN_LENGTH, maxLength: TOKEN_LENGTH });
const word = fc.integer({ min: 0, max: 0xffffffff });
const port = fc.integer({ min: 0, max: 0xffff });
const ip = fc.oneof(
  word.map((w) => IpAddress.v4(w)),
  fc.tuple(fc.integer({ min: 1, max: 0xffffffff }), word, word, word).map((w) => new IpAddress(...w)),
);

describe('a PUNCH', () => {
  it('says what was put in, and its answer the same and where it came from', () => {
    fc.assert(
      fc.property(token, token, port, word, ip, port, (theirs, ours, seq, sent, from, fromPort) => {
        const request = new Uint8Array(PUNCH_LENGTH);
        putPunchRequest(request, theirs, seq, sent);
        expect(isPunch(request, 0, request.length)).toBe(true);
        expect([isAnswer(request, 0), punchSeq(request, 0), punchSent(request, 0)]).toEqual([false, seq, sent]);
        expect(hasToken(request, 0, theirs)).toBe(true);
        const source = new SocketAddress(from, fromPort);
        const words = new Uint32Array(5);
        source.write(words, 0);
        const answer = new Uint8Array(PUNCH_LENGTH).fill(0xff);
        putPunchAnswer(answer, ours, request, 0, words, 0);
        expect(isPunch(answer, 0, answer.length)).toBe(true);
        expect([isAnswer(answer, 0), punchSeq(answer, 0), punchEcho(answer, 0)]).toEqual([true, seq, sent]);
        expect(hasToken(answer, 0, ours)).toBe(true);
        expect(punchObserved(answer, 0).equals(source)).toBe(true);
      }),
    );
  });

  it('has 47 bytes, one of two flags, and a family only in an answer; anything else is none', () => {
    const request = new Uint8Array(PUNCH_LENGTH);
    putPunchRequest(request, new Uint8Array(TOKEN_LENGTH), 1, 2);
    expect(PUNCH_LENGTH).toBe(47);
    expect(isPunch(new Uint8Array([...request, 0]), 0, 48)).toBe(false);
    expect(isPunch(request, 0, 46)).toBe(false);
    for (const [at, value] of [
      [0, 0x12],
      [1, 2],
      [1, 1],
      [28, 4],
    ] as const) {
      expect(isPunch(request.with(at, value), 0, PUNCH_LENGTH)).toBe(false);
    }
  });

  it('is read from any bytes without an exception', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.integer({ min: 0, max: 60 }), (bytes, offset) => {
        if (isPunch(bytes, offset, bytes.length - offset)) expect(bytes[offset]).toBe(0x11);
      }),
    );
  });

  it('has a token only when all of its bytes are', () => {
    const own = Uint8Array.from({ length: TOKEN_LENGTH }, (_, i) => i);
    const request = new Uint8Array(PUNCH_LENGTH);
    for (let i = 0; i < TOKEN_LENGTH; i++) {
      putPunchRequest(request, own.with(i, own[i]! ^ 1), 0, 0);
      expect(hasToken(request, 0, own)).toBe(false);
    }
  });
});
