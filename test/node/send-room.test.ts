import fc from 'fast-check';
import { expect, test } from 'vitest';
import { instantAt } from '../../src/base/time.js';
import { FIRST_ROOM, LEAST_ROOM, MOST_ROOM, SendRoom } from '../../src/node/send-room.js';

const at = (micros: number) => instantAt(micros);

/** Fills a room again and again before a device of `rate` Mbit/s that tells `late` µs later what it has sent; returns the last room. */
function fill(room: SendRoom, rate: number, late = 0, times = 200): number {
  let now = 1e6;
  for (let i = 0; i < times; i++) {
    room.onFull(at(now));
    now += (room.bytes / 2) * (8 / rate) + late;
    room.onRoom(at(now));
  }
  return room.bytes;
}

const milliseconds = (bytes: number, rate: number): number => (bytes * 8) / rate / 1000;

test.each([20, 100, 1000, 3000])('a device of %i Mbit/s gets what it sends in 5 to 10 ms', (rate) => {
  const time = milliseconds(fill(new SendRoom(), rate), rate);
  expect(time).toBeGreaterThanOrEqual(4.9);
  expect(time).toBeLessThanOrEqual(11.3);
});

test('a slow one gets the least, a very fast one the most', () => {
  expect(fill(new SendRoom(), 1)).toBe(LEAST_ROOM);
  expect(fill(new SendRoom(), 100_000)).toBe(MOST_ROOM);
});

test('the room follows when the rate changes: down in quarters, up within milliseconds', () => {
  const room = new SendRoom();
  const before = fill(room, 1000);
  expect(fill(room, 20, 0, 1)).toBe(Math.round(before / 4));
  expect(milliseconds(fill(room, 20, 0, 4), 20)).toBeLessThan(11.3);
  expect(milliseconds(fill(room, 1000, 0, 10), 1000)).toBeGreaterThan(1);
});

test('a device that tells 3 ms late what it has sent is not throttled for it', () => {
  const bytes = fill(new SendRoom(), 1000, 3000);
  // What leaves in the time until half the room is free again.
  expect((bytes / 2) * 8).toBeGreaterThan(1000 * 1000);
});

test('a room that is not filled halves every second, to where it began', () => {
  const room = new SendRoom();
  fill(room, 1000);
  const full = room.bytes;
  expect(room.onSent(at(1e9))).toBe(true);
  expect(room.bytes).toBe(Math.round(full / 2));
  expect(room.onSent(at(1e9 + 999_999))).toBe(false);
  for (let second = 1; second < 30; second++) room.onSent(at(1e9 + second * 1e6));
  expect(room.bytes).toBe(FIRST_ROOM);
  expect(room.onSent(at(2e9))).toBe(false);
});

test('room that is found at once, before anybody calls it full, doubles', () => {
  const room = new SendRoom();
  expect(room.onRoom(at(5))).toBe(true);
  expect(room.bytes).toBe(2 * FIRST_ROOM);
});

test('whatever happens, it stays between its bounds and says when it changes', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom('onFull', 'onRoom', 'onSent'), fc.integer({ min: 0, max: 1e7 })), {
        maxLength: 200,
      }),
      (steps) => {
        const room = new SendRoom();
        let now = 0;
        for (const [call, wait] of steps) {
          now += wait;
          const before = room.bytes;
          const changed = room[call as 'onFull' | 'onRoom' | 'onSent'](at(now)) === true;
          expect(changed).toBe(room.bytes !== before);
          expect(Number.isInteger(room.bytes) && room.bytes >= LEAST_ROOM && room.bytes <= MOST_ROOM).toBe(true);
        }
      },
    ),
  );
});
