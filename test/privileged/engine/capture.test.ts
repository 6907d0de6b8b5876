/** Captures as tcpdump reads them: nothing to complain of, every packet there, whole, with its time, in every file of a rotation. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { wallAt } from '../../../src/base/time.js';
import { Capture } from '../../../src/engine/taps/capture.js';
import { RotatingFiles } from '../../../src/os/capture-files.js';
import { readRecords } from '../../engine/replay/pcap.js';
import { tcpPacket, udpPacket } from '../../support/packets.js';

const V4 = { from: '10.0.0.1', to: '10.0.0.2' };
const V6 = { from: 'fd00::1', to: 'fd00::2' };
const START = 1_700_000_000_000;
const DEVICE = 'sally0';
/** The largest payload that a UDP datagram over IPv4 holds. */
const LARGEST = 65_507;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-capture-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Writes packets a millisecond apart, flushing now and then; the files, oldest first. */
function captured(packets: readonly Uint8Array[], options: { fileBytes: number; snapLength?: number }): string[] {
  const path = join(folder, 'x.pcapng');
  const capture = new Capture({ files: new RotatingFiles(path, 1000), device: DEVICE, ...options });
  for (const [i, packet] of packets.entries()) {
    capture.add(wallAt(START + i), i % 2 === 0, packet, 0, packet.length, i % 3 === 0 ? 'www.example' : '');
    if (i % 10 === 9) capture.flush();
  }
  capture.close();
  expect([capture.packets, capture.dropped]).toEqual([packets.length, 0]);
  const number = (name: string): number => Number(/\.(\d+)$/.exec(name)?.[1] ?? 0);
  return readdirSync(folder)
    .sort((a, b) => number(b) - number(a))
    .map((name) => join(folder, name));
}

/** What tcpdump reads in a file, in the older format. It may not complain. */
function reread(file: string) {
  const { status, stderr } = spawnSync('tcpdump', ['-r', file, '-w', `${file}.pcap`], { encoding: 'utf8' });
  expect([status, stderr.replace(/^reading from file .*\n/, '')]).toEqual([0, '']);
  return readRecords(`${file}.pcap`);
}

it('addresses, ports, lengths and checksums are what tcpdump says they are', () => {
  const packets = [
    tcpPacket(V4, 40_000, 443),
    udpPacket(V6, 40_000, 5353, 'query'),
    udpPacket(V4, 1, 2, 'x'.repeat(1400)),
  ];
  const [file] = captured(packets, { fileBytes: 1e6 });
  const text = execFileSync('tcpdump', ['-nn', '-tt', '-vv', '-r', file!], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  expect(text).toMatch(/1700000000\.000000 IP .*\n.*10\.0\.0\.1\.40000 > 10\.0\.0\.2\.443: .*cksum .*\(correct\)/);
  expect(text).toMatch(/1700000000\.001000 IP6 .*fd00::1\.40000 > fd00::2\.5353/);
  expect(text).toMatch(/1700000000\.002000 IP .*length 1428\)\n.*\[udp sum ok\] UDP, length 1400/);
});

const entropy = new SeededEntropy(3);
/** Of every length modulo four, the smallest and the largest there are, of both families. */
const MANY = Array.from({ length: 400 }, (_, i) => {
  const size = i === 0 ? 0 : i === 1 ? LARGEST : entropy.uint32() % (i % 20 === 0 ? LARGEST : 1400);
  const payload = new Uint8Array(size).map(() => entropy.uint32());
  return udpPacket(i % 2 === 0 && size < LARGEST ? V6 : V4, 1 + i, 53, payload);
});

it('hundreds of packets over many files: each is there, byte for byte, once, in order; each file names its interface', () => {
  const files = captured(MANY, { fileBytes: 100_000 });
  expect(files.length).toBeGreaterThan(5);
  const records = files.flatMap(reread);
  expect(records).toHaveLength(MANY.length);
  records.forEach(({ seconds, micros, length, packet }, i) => {
    expect([seconds * 1000 + micros / 1000, length]).toEqual([START + i, MANY[i]!.length]);
    expect(Buffer.compare(packet, MANY[i]!)).toBe(0);
  });
  // tcpdump does not tell it: the option if_name (2) of the interface's block, padded.
  const name = Buffer.concat([Buffer.from([2, 0, DEVICE.length, 0]), Buffer.from(`${DEVICE}\0\0`)]);
  for (const file of files) expect(readFileSync(file).indexOf(name)).toBeGreaterThan(0);
});

it('packets that are cut: the beginning of each, and how long it was', () => {
  const [file] = captured(MANY, { fileBytes: 1e9, snapLength: 63 });
  const records = reread(file!);
  expect(records.map(({ length }) => length)).toEqual(MANY.map((packet) => packet.length));
  records.forEach(({ packet }, i) => {
    expect(Buffer.compare(packet, MANY[i]!.subarray(0, 63))).toBe(0);
  });
});
