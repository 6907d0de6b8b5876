import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { instantAt, wallAt } from '../../../src/base/time.js';
import { Capture } from '../../../src/engine/taps/capture.js';
import { EventStream, type FlowEvent } from '../../../src/engine/taps/events.js';
import { captureHeader, packetBlock } from '../../../src/engine/taps/pcapng.js';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

/** The blocks of a capture, read as its specification reads. */
function blocks(bytes: Uint8Array) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const out: { type: number; body: Uint8Array }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = view.getUint32(at + 4, true);
    expect(length % 4).toBe(0);
    expect(view.getUint32(at + length - 4, true)).toBe(length);
    out.push({ type: view.getUint32(at, true), body: bytes.slice(at + 8, at + length - 4) });
    at += length;
  }
  return out;
}

describe('pcapng', () => {
  it('is, byte by byte, what the specification says', () => {
    expect(hex(captureHeader('tun0', 65_535))).toBe(
      [
        '0a0d0d0a 30000000 4d3c2b1a 0100 0000 ffffffffffffffff',
        '0400 0900 73616c6c79706f7274 000000 0000 0000 30000000',
        '01000000 28000000 6500 0000 ffff0000',
        '0200 0400 74756e30 0900 0100 06000000 0000 0000 28000000',
      ]
        .join('')
        .replaceAll(' ', ''),
    );
    const block = packetBlock(
      wallAt(1_700_000_000_123.456),
      Uint8Array.of(9, 0x45, 1, 2, 3, 4, 9),
      1,
      5,
      3,
      true,
      'a.b',
    );
    // 1,700,000,000,123,456 µs = 0x60a24 · 2^32 + 0x181ee440.
    const micros = 1_700_000_000_123_456n;
    const le = (n: bigint) => hex(Uint8Array.from([0n, 8n, 16n, 24n], (shift) => Number((n >> shift) & 255n)));
    expect(hex(block)).toBe(
      [
        `06000000 38000000 00000000 ${le(micros >> 32n)} ${le(micros)} 03000000 05000000 45010200`,
        '0200 0400 01000000 0100 0300 612e6200 0000 0000 38000000',
      ]
        .join('')
        .replaceAll(' ', ''),
    );
  });
});

describe('Capture', () => {
  it('changes files when they are full, each readable on its own, and loses nothing', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 80 }),
        fc.integer({ min: 300, max: 20_000 }),
        (sizes, fileBytes) => {
          const files: Uint8Array[][] = [[]];
          const capture = new Capture({
            files: {
              write: (bytes) => files[files.length - 1]!.push(bytes),
              rotate: () => files.push([]),
              close: () => {},
            },
            device: 'tun0',
            fileBytes,
          });
          sizes.forEach((size, i) => {
            capture.add(wallAt(i), true, new Uint8Array(size), 0, size, '');
            if (i % 7 === 0) capture.flush();
          });
          capture.close();
          let count = 0;
          for (const parts of files) {
            const bytes = Uint8Array.from(Buffer.concat(parts));
            const read = blocks(bytes);
            if (sizes.length > 0) expect(read.slice(0, 2).map(({ type }) => type)).toEqual([0x0a0d0d0a, 1]);
            count += read.filter(({ type }) => type === 6).length;
            expect(bytes.length).toBeLessThan(fileBytes + 3200);
          }
          expect([count, capture.packets, capture.dropped]).toEqual([sizes.length, sizes.length, 0]);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('keeps of a packet what it is told to, writes 256 KiB and a packet at once at most, and takes nothing once closed', () => {
    const writes: Uint8Array[] = [];
    const files = { write: (bytes: Uint8Array) => void writes.push(bytes), rotate: () => {}, close: () => {} };
    const capture = new Capture({ files, device: 'tun0', fileBytes: 1e9, snapLength: 1000 });
    const add = () => capture.add(wallAt(0), false, new Uint8Array(1400), 0, 1400, '');
    for (let i = 0; i < 1000; i++) add();
    capture.close();
    expect(writes.length).toBeGreaterThan(3);
    expect(Math.max(...writes.map((bytes) => bytes.length))).toBeLessThan(256 * 1024 + 1100);
    const packets = blocks(Uint8Array.from(Buffer.concat(writes))).filter(({ type }) => type === 6);
    expect(packets).toHaveLength(1000);
    // Lengths kept and on the wire, then the data, then the flags: outbound.
    expect(packets.every(({ body }) => hex(body.slice(12, 20)) === 'e803000078050000')).toBe(true);
    expect(packets.every(({ body }) => hex(body.slice(1020)) === '020004000200000000000000')).toBe(true);
    add();
    capture.flush();
    expect([capture.packets, capture.dropped, capture.queued]).toEqual([1000, 1, 0]);
  });

  it('cuts comments after 512 characters', () => {
    const of = (length: number) => packetBlock(wallAt(0), new Uint8Array(4), 0, 4, 4, true, 'x'.repeat(length)).length;
    expect([of(511) <= of(512), of(513), of(70_000)]).toEqual([true, of(512), of(512)]);
  });

  it('drops and counts what finds no room, and everything after a write has failed', () => {
    const capture = new Capture({
      files: {
        write: () => {
          throw new Error('disk full');
        },
        rotate: () => {},
        close: () => {},
      },
      device: 'tun0',
      fileBytes: 1e6,
      queueBytes: 3000,
    });
    const add = () => capture.add(wallAt(0), true, new Uint8Array(1000), 0, 1000, '');
    for (let i = 0; i < 5; i++) add();
    expect([capture.packets, capture.dropped]).toEqual([2, 3]);
    expect(capture.queued).toBeLessThanOrEqual(3000);
    capture.flush();
    expect([capture.packets, capture.dropped, capture.queued]).toEqual([0, 5, 0]);
    add();
    expect([capture.dropped, String(capture.failure)]).toEqual([6, 'Error: disk full']);
  });
});

describe('EventStream', () => {
  it('keeps the oldest and tells how many there was no room for', () => {
    const stream = new EventStream(3);
    const event = (name: string): FlowEvent => ({
      at: instantAt(0),
      kind: 'opened',
      protocol: 'tcp',
      source: '',
      destination: '',
      name,
      rule: '',
    });
    for (const name of ['a', 'b', 'c', 'd', 'e']) if (stream.admits()) stream.push(event(name));
    expect(stream.take(2)).toMatchObject({ events: [{ name: 'a' }, { name: 'b' }], dropped: 2 });
    expect(stream.admits()).toBe(true);
    stream.push(event('f'));
    expect(stream.take(9)).toMatchObject({ events: [{ name: 'c' }, { name: 'f' }], dropped: 0 });
    expect([stream.dropped, stream.length]).toEqual([2, 0]);
  });
});
