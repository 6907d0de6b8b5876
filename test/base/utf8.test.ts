import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decodeUtf8, encodeUtf8 } from '../../src/base/utf8.js';

const encoder = new TextEncoder();

it('encodes any string as the Encoding Standard does, halves of surrogate pairs included', () => {
  const units = fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 40 });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string({ unit: 'binary' }),
        units.map((u) => String.fromCharCode(...u)),
      ),
      (text) => {
        expect(encodeUtf8(text)).toEqual(encoder.encode(text));
      },
    ),
  );
  for (const text of [
    '',
    '\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}',
    '\ud800',
    'a\udc00b',
    'bücher.example',
  ]) {
    expect(encodeUtf8(text)).toEqual(encoder.encode(text));
  }
});

it('decodes what it has encoded, and refuses what is not UTF-8', () => {
  expect(decodeUtf8(encodeUtf8('grün 😀'))).toBe('grün 😀');
  expect(() => decodeUtf8(Uint8Array.of(0xff))).toThrow(TypeError);
});
