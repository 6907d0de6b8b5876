import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { instantAt, wallAt } from '../../../src/base/time.js';
import { Capture } from '../../../src/engine/taps/capture.js';
import { EventStream, type FlowEvent } from '../../../src/engine/taps/events.js';
import { captureHeader, packetBlock } from '../../../src/engine/taps/pcapng.js';
import { tcpPacket, udpPacket } from '../../support/packets.js';

const V4 = { from: '10.0.0.1', to: '10.0.0.2' };
const V6 = { from: 'fd00::1', to: 'fd00::2' };
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
        '01000000 2c000000 6500 0000 ffff0000',
        '0200 0400 74756e30 0900 0100 06000000 0000 0000 2c000000',
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
        `06000000 40000000 00000000 ${le(micros >> 32n)} ${le(micros)} 03000000 05000000 45010200`,
        '0200 0400 01000000 0100 0300 612e6200 0000 0000 40000000',
      ]
        .join('')
        .replaceAll(' ', ''),
    );
  });

  it('is read by others, packets and comments unchanged', () => {
    const packets = [
      tcpPacket(V4, 40_000, 443),
      udpPacket(V6, 40_000, 53, 'query'),
      udpPacket(V4, 1, 2, 'x'.repeat(1400)),
    ];
    const written: Uint8Array[] = [];
    const capture = new Capture({
      files: { write: (bytes) => written.push(bytes), rotate: () => {}, close: () => {} },
      device: 'tun0',
      fileBytes: 1e6,
    });
    packets.forEach((p, i) =>
      capture.add(wallAt(1_700_000_000_000 + i), i % 2 === 0, p, 0, p.length, i === 0 ? 'www.example' : ''),
    );
    capture.close();
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-pcapng-'));
    try {
      const file = join(folder, 'x.pcapng');
      writeFileSync(file, Buffer.concat(written));
      const fields = [
        'frame.len',
        'frame.time_epoch',
        'frame.packet_flags_direction',
        'frame.comment',
        'ip.dst',
        'ipv6.dst',
        'tcp.dstport',
        'udp.dstport',
      ];
      const text = execFileSync(
        'tshark',
        ['-r', file, '-T', 'fields', '-E', 'separator=;', ...fields.flatMap((f) => ['-e', f])],
        {
          encoding: 'utf8',
          stdio: ['ignore', 'pipe', 'ignore'],
        },
      );
      const rows = text
        .trimEnd()
        .split('\n')
        .map((line) => line.split(';'));
      expect(rows.map((row) => [row[0], Number(row[1]), Number(row[2]), ...row.slice(3)])).toEqual([
        ['40', 1_700_000_000, 1, 'www.example', '10.0.0.2', '', '443', ''],
        ['53', 1_700_000_000.001, 2, '', '', 'fd00::2', '', '53'],
        ['1428', 1_700_000_000.002, 1, '', '10.0.0.2', '', '', '2'],
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
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
    for (const name of ['a', 'b', 'c', 'd', 'e']) stream.push(event(name));
    expect(stream.take(2)).toMatchObject({ events: [{ name: 'a' }, { name: 'b' }], dropped: 2 });
    stream.push(event('f'));
    expect(stream.take(9)).toMatchObject({ events: [{ name: 'c' }, { name: 'f' }], dropped: 0 });
    expect([stream.dropped, stream.length]).toEqual([2, 0]);
  });
});
