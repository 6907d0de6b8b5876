import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HttpBody } from '../../../src/agent/proxy/http-body.js';
import type { Framing } from '../../../src/agent/proxy/http-head.js';

const CHUNKED: Framing = { kind: 'chunked' };

/** Feeds `text` in pieces, each written over itself, and gathers what comes out. */
function run(framing: Framing, text: string, sizes: readonly number[] = [], decode = false) {
  const body = new HttpBody(framing, decode);
  const bytes = Buffer.from(text, 'latin1');
  let out = '';
  let taken = 0;
  for (const size of [...sizes, bytes.length]) {
    const piece = new Uint8Array(bytes.subarray(taken, taken + size));
    const n = body.feed(piece, 0, piece.length, piece, 0);
    expect(body.produced).toBeLessThanOrEqual(n);
    out += Buffer.from(piece.subarray(0, body.produced)).toString('latin1');
    taken += n;
    if (body.isComplete || body.isMalformed || taken === bytes.length) break;
  }
  return { body, out, rest: bytes.subarray(taken).toString('latin1') };
}

describe('content of a known length', () => {
  it('ends there', () => {
    const { body, out, rest } = run({ kind: 'length', length: 5 }, 'helloGET ', [2]);
    expect({ out, rest, complete: body.isComplete }).toEqual({ out: 'hello', rest: 'GET ', complete: true });
  });

  it('is over at once when there is none', () => {
    expect(new HttpBody({ kind: 'length', length: 0 }).isComplete).toBe(true);
    expect(new HttpBody({ kind: 'none' }).isComplete).toBe(true);
  });

  it('is not complete at an early end of the stream, one that ends with the stream is', () => {
    expect(new HttpBody({ kind: 'length', length: 5 }).endOfStream()).toBe(false);
    expect(new HttpBody(CHUNKED).endOfStream()).toBe(false);
    expect(new HttpBody({ kind: 'close' }).endOfStream()).toBe(true);
  });
});

describe('chunks', () => {
  it('go on as they are, and what is behind them is left', () => {
    const text = '5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n';
    const { body, out, rest } = run(CHUNKED, `${text}GET `);
    expect({ out, rest, complete: body.isComplete }).toEqual({ out: text, rest: 'GET ', complete: true });
  });

  it('lose their extensions and trailer fields', () => {
    const { out } = run(CHUNKED, '5;a="b"\r\nhello\r\n0;z\r\nX-Trailer: 1\r\nY: 2\r\n\r\n');
    expect(out).toBe('5\r\nhello\r\n0\r\n\r\n');
  });

  it('lose their framing for a receiver that does not know it', () => {
    expect(run(CHUNKED, '5\r\nhello\r\n6\r\n world\r\n0\r\nT: 1\r\n\r\n', [], true).out).toBe('hello world');
  });

  it.each([
    ['no size', '\r\nhello'],
    ['a size that is none', 'x\r\n'],
    ['a sign', '+5\r\nhello\r\n'],
    ['a prefix', '0x5\r\nhello\r\n'],
    ['a space before the line ends', '5 \r\nhello\r\n'],
    ['a bare line feed after the size', '5\nhello\r\n0\r\n\r\n'],
    ['a bare carriage return after the size', '5\rhello'],
    ['a bare line feed in an extension', '5;a\nb\r\nhello\r\n'],
    ['a bare line feed after the data', '5\r\nhello\n0\r\n\r\n'],
    ['more data than the size says', '5\r\nhello!\r\n0\r\n\r\n'],
    ['a size of too many digits', '00000000000001\r\nx\r\n'],
    ['a control character in a trailer', '0\r\nX: \0\r\n\r\n'],
    ['a bare line feed in a trailer', '0\r\nX: 1\nY: 2\r\n\r\n'],
    ['a trailer of any length', `0\r\n${'X: y\r\n'.repeat(4000)}`],
    ['an extension of any length', `5;${'x'.repeat(9000)}`],
  ])('with %s are malformed', (_what, text) => {
    const { body } = run(CHUNKED, text);
    expect(body.isMalformed).toBe(true);
    expect(body.isComplete).toBe(false);
  });

  it('mean the same in any pieces', () => {
    const chunk = fc.string({ minLength: 1, maxLength: 40, unit: 'binary-ascii' });
    fc.assert(
      fc.property(fc.array(chunk, { maxLength: 6 }), fc.array(fc.integer({ min: 1, max: 9 })), (chunks, sizes) => {
        const text = [...chunks, ''].map((one) => `${one.length.toString(16)}\r\n${one}\r\n`).join('');
        expect(run(CHUNKED, `${text}REST`, sizes)).toMatchObject({ out: text, rest: 'REST' });
        expect(run(CHUNKED, text, sizes, true).out).toBe(chunks.join(''));
      }),
    );
  });

  it('never make more of what they are given, whatever it is', () => {
    const pieces = fc.constantFrom('0', '5', 'a', '\r\n', '\n', '\r', ';', 'hello', 'X: y', ' ');
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 40 }), fc.array(fc.integer({ min: 1, max: 7 })), (parts, sizes) => {
        const { body, out } = run(CHUNKED, parts.join(''), sizes);
        // What goes on is read the same by one that is as strict.
        if (body.isComplete) expect(run(CHUNKED, out)).toMatchObject({ out, rest: '' });
      }),
      { numRuns: 2000 },
    );
  });
});
