/** DER: what is written is read back, and only the one encoding of a thing is taken. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { wallAt } from '../../src/base/time.js';
import { element, oid, readElements, sequence, Tag, time } from '../../src/identity/der.js';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));

describe('DER', () => {
  it('has lengths of one, two and three bytes, each the shortest', () => {
    for (const [length, head] of [
      [0, '0400'],
      [127, '047f'],
      [128, '048180'],
      [255, '0481ff'],
      [256, '04820100'],
      [65_535, '0482ffff'],
    ] as const) {
      const whole = element(Tag.octetString, new Uint8Array(length));
      expect(hex(whole.subarray(0, head.length / 2))).toBe(head);
      const [one, ...others] = readElements(whole)!;
      expect([one!.tag, one!.whole.length, one!.content.length, others]).toEqual([4, whole.length, length, []]);
    }
    expect(() => element(Tag.octetString, new Uint8Array(65_536))).toThrow(RangeError);
  });

  it('writes identifiers and times as X.690 and RFC 5280 say', () => {
    expect(hex(oid('1.2.840.10045.4.3.2'))).toBe('06082a8648ce3d040302');
    expect(hex(oid('2.5.29.17'))).toBe('0603551d11');
    const text = (wall: number): string => {
      const [one] = readElements(time(wallAt(wall)))!;
      return `${one!.tag} ${Buffer.from(one!.content).toString('latin1')}`;
    };
    expect(text(Date.UTC(2026, 0, 2, 3, 4, 5, 999))).toBe(`${Tag.utcTime} 260102030405Z`);
    expect(text(Date.UTC(2050, 0, 1) - 1)).toBe(`${Tag.utcTime} 491231235959Z`);
    expect(text(Date.UTC(2050, 0, 1))).toBe(`${Tag.generalizedTime} 20500101000000Z`);
  });

  it.each([
    ['a long form of a short length', '04817f'],
    ['a length with a leading zero', `04820080${'00'.repeat(128)}`],
    ['an indefinite length', '30800000'],
    ['a length of three bytes', '0483010000'],
    ['a tag of several bytes', '1f8100'],
    ['less content than it says', '040201'],
    ['only a tag', '04'],
    ['no whole length', '0482'],
    ['a rest behind', '040004'],
  ])('is not read with %s', (_what, text) => {
    expect(readElements(bytes(text))).toBeUndefined();
  });

  it('reads what it writes, and anything without an exception', () => {
    const octets = fc.uint8Array({ maxLength: 300 }).map((content) => element(Tag.octetString, content));
    fc.assert(
      fc.property(fc.array(octets, { maxLength: 8 }), (parts) => {
        const [whole] = readElements(sequence(...parts))!;
        expect(readElements(whole!.content)!.map((one) => hex(one.whole))).toEqual(parts.map(hex));
      }),
    );
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (any) => {
        const found = readElements(any);
        if (found !== undefined) expect(hex(Buffer.concat(found.map(({ whole }) => whole)))).toBe(hex(any));
      }),
      { numRuns: 500 },
    );
  });
});
