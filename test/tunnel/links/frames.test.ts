import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  COPY_HEADER,
  emptyHeartbeat,
  HEARTBEAT_LENGTH,
  LinkFrame,
  putCopy,
  putHeartbeat,
  readHeartbeat,
} from '../../../src/tunnel/links/frames.js';

const word = () => fc.integer({ min: 0, max: 0xffff_ffff });

test('a heartbeat is these 21 bytes', () => {
  const bytes = new Uint8Array(HEARTBEAT_LENGTH);
  putHeartbeat(bytes, 0, { seq: 1, echo: 0x0203, sent: 0x0405_0607, echoed: 0xfeff_ffff, received: 9 });
  expect(Buffer.from(bytes).toString('hex')).toBe('200000000100000203' + '04050607feffffff00000009');
});

test('heartbeats come out as they went in, at any place', () => {
  fc.assert(
    fc.property(
      fc.record({
        seq: fc.integer({ min: 1, max: 0xffff_ffff }),
        echo: word(),
        sent: word(),
        echoed: word(),
        received: word(),
      }),
      fc.nat(40),
      (beat, offset) => {
        const bytes = new Uint8Array(64);
        putHeartbeat(bytes, offset, beat);
        const read = emptyHeartbeat();
        expect(readHeartbeat(bytes, offset, HEARTBEAT_LENGTH, read)).toBe(true);
        expect(read).toEqual(beat);
      },
    ),
  );
});

test('nothing else is taken for one', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const isOne = bytes.length === HEARTBEAT_LENGTH && bytes[0] === 0x20 && bytes.subarray(1, 5).some((b) => b !== 0);
      expect(readHeartbeat(bytes, 0, bytes.length, emptyHeartbeat())).toBe(isOne);
    }),
  );
});

test('copies carry their number behind a type that tells who began', () => {
  const bytes = new Uint8Array(COPY_HEADER * 2);
  putCopy(bytes, 0, 0xfedc_ba98, false);
  putCopy(bytes, COPY_HEADER, 7, true);
  expect(Buffer.from(bytes).toString('hex')).toBe('10fedcba98' + '1100000007');
  expect(LinkFrame.copy >>> 4).toBe(LinkFrame.mirroredCopy >>> 4);
});
