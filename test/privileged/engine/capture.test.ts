import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { wallAt } from '../../../src/base/time.js';
import { Capture } from '../../../src/engine/taps/capture.js';
import { tcpPacket, udpPacket } from '../../support/packets.js';

const V4 = { from: '10.0.0.1', to: '10.0.0.2' };
const V6 = { from: 'fd00::1', to: 'fd00::2' };

it('a capture is read by tcpdump: every packet whole, with its time', () => {
  const packets = [
    tcpPacket(V4, 40_000, 443),
    udpPacket(V6, 40_000, 5353, 'query'),
    udpPacket(V4, 1, 2, 'x'.repeat(1400)),
  ];
  const written: Uint8Array[] = [];
  const capture = new Capture({
    files: { write: (bytes) => written.push(bytes), rotate: () => {}, close: () => {} },
    device: 'tun0',
    fileBytes: 1e6,
  });
  for (const [i, packet] of packets.entries()) {
    capture.add(wallAt(1_700_000_000_000 + i), i % 2 === 0, packet, 0, packet.length, 'www.example');
  }
  capture.close();
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-capture-'));
  try {
    const file = join(folder, 'x.pcapng');
    writeFileSync(file, Buffer.concat(written));
    const text = execFileSync('tcpdump', ['-nn', '-tt', '-vv', '-r', file], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    expect(text).toMatch(/1700000000\.000000 IP .*\n.*10\.0\.0\.1\.40000 > 10\.0\.0\.2\.443: .*cksum .*\(correct\)/);
    expect(text).toMatch(/1700000000\.001000 IP6 .*fd00::1\.40000 > fd00::2\.5353/);
    expect(text).toMatch(/1700000000\.002000 IP .*length 1428\)\n.*\[udp sum ok\] UDP, length 1400/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
