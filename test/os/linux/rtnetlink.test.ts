/** Messages as the kernel lays them out (rtnetlink(7)), cut, joined and mangled. */
import { expect, test } from 'vitest';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { tellsOfChange } from '../../../src/os/linux/rtnetlink.js';

function message(type: number, payload: readonly number[], claimed = 16 + payload.length): Uint8Array {
  const bytes = new Uint8Array((16 + payload.length + 3) & ~3);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, claimed, true);
  view.setUint16(4, type, true);
  bytes.set(payload, 16);
  return bytes;
}

const joined = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));
const address = (flags: number) => [10, 64, flags, 0, 2, 0, 0, 0];
const route = (type: number, flags = 0) => [2, 24, 0, 0, 254, 3, 0, type, flags & 0xff, flags >>> 8, 0, 0];
const NOTHING = message(2, [0, 0, 0, 0]);

test.each([
  ['a link', message(16, [0, 0, 1, 0]), true],
  ['a link that goes', message(17, [0, 0, 1, 0]), true],
  ['an address', message(20, address(0x80)), true],
  ['an address that goes', message(21, address(0)), true],
  ['a tentative address', message(20, address(0x40)), false],
  ['a unicast route', message(24, route(1)), true],
  ['a route that goes', message(25, route(1)), true],
  ['a route that rejects', message(24, route(7)), true],
  ['a local route', message(24, route(2)), false],
  ['a broadcast route', message(24, route(3)), false],
  ['a copy of a route', message(24, route(1, 0x200)), false],
  ['an overrun', message(4, []), true],
  ['an acknowledgement', NOTHING, false],
  ['nothing', new Uint8Array(0), false],
  ['the second of two', joined(NOTHING, message(24, route(1))), true],
  ['two that say nothing, the first of an odd length', joined(message(2, [0]), NOTHING), false],
])('%s', (_, bytes, expected) => {
  expect(tellsOfChange(bytes, bytes.length)).toBe(expected);
});

test('what is cut short or claims more than there is counts as a change, and what lies behind the end is not looked at', () => {
  expect(tellsOfChange(NOTHING, 15)).toBe(true);
  expect(tellsOfChange(message(2, [], 15), 16)).toBe(true);
  expect(tellsOfChange(message(2, [], 0), 16)).toBe(true);
  expect(tellsOfChange(message(2, [], 17), 16)).toBe(true);
  expect(tellsOfChange(message(2, [], 0xffff_ffff), 16)).toBe(true);
  expect(tellsOfChange(message(20, [10, 64]), 18)).toBe(true);
  expect(tellsOfChange(message(24, [2]), 17)).toBe(true);
  const behind = joined(NOTHING, message(24, route(1)));
  expect(tellsOfChange(behind, NOTHING.length)).toBe(false);
});

test('any bytes at all: an answer, at once', () => {
  const entropy = new SeededEntropy(5);
  const good = [message(24, route(1)), message(20, address(0x40)), NOTHING, message(24, route(2))];
  for (let run = 0; run < 20_000; run++) {
    const parts = Array.from({ length: entropy.uint32() % 4 }, () => good[entropy.uint32() % good.length]!.slice());
    const bytes = joined(...parts, new Uint8Array(entropy.uint32() % 20));
    for (let flips = entropy.uint32() % 6; flips > 0 && bytes.length > 0; flips--) {
      bytes[entropy.uint32() % bytes.length] = entropy.uint32();
    }
    expect(typeof tellsOfChange(bytes, entropy.uint32() % (bytes.length + 1))).toBe('boolean');
  }
});
