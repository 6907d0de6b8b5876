/** TCP options written and read again: whatever fits comes back as it was, and what does not is left out from the end. */
import { expect, test } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { readTcpOptions, TcpOptions, writeTcpOptions } from '../../src/wire/tcp.js';

test('any set of options survives, in 40 bytes and a multiple of 4', () => {
  const random = new SeededEntropy(11);
  const chance = (p: number): boolean => random.unit() < p;
  for (let round = 0; round < 5000; round++) {
    const options = new TcpOptions();
    if (chance(0.3)) options.mss = 1 + (random.uint32() % 65_535);
    if (chance(0.3)) options.windowScale = random.uint32() % 15;
    options.sackPermitted = chance(0.3);
    if (chance(0.5)) {
      options.hasTimestamps = true;
      options.timestampValue = random.uint32();
      options.timestampEcho = random.uint32();
    }
    if (chance(0.2)) options.userTimeout = random.uint32() & 0xffff;
    if (chance(0.5)) {
      options.ecnCount = random.uint32() & 3;
      options.ecnOrder = random.uint32() & 1;
      for (let i = 0; i < 3; i++) options.ecnBytes[i] = random.uint32() & 0xffffff;
    }
    if (chance(0.4)) {
      options.sackCount = 1 + (random.uint32() & 3);
      for (let i = 0; i < 8; i++) options.sackEdges[i] = random.uint32();
    }
    const bytes = new Uint8Array(44).fill(0xee);
    const length = writeTcpOptions(bytes, 2, options);
    expect(length % 4).toBe(0);
    expect(length).toBeLessThanOrEqual(40);
    expect([...bytes.subarray(2 + length)]).toEqual(Array(42 - length).fill(0xee));
    const read = new TcpOptions();
    expect(readTcpOptions(bytes, 2, 2 + length, read)).toBe(true);
    for (const name of ['mss', 'windowScale', 'sackPermitted', 'hasTimestamps', 'userTimeout'] as const)
      expect(read[name]).toBe(options[name]);
    expect(read.sackCount).toBeLessThanOrEqual(options.sackCount);
    expect([...read.sackEdges.subarray(0, 2 * read.sackCount)]).toEqual([
      ...options.sackEdges.subarray(0, 2 * read.sackCount),
    ]);
    expect(read.ecnCount).toBeLessThanOrEqual(options.ecnCount);
    if (read.ecnCount >= 0) expect(read.ecnOrder).toBe(options.ecnOrder);
    for (let i = 0; i < read.ecnCount; i++) expect(read.ecnBytes[i]).toBe(options.ecnBytes[i]);
  }
});

test('any bytes are read without a throw, and counts stay in bounds', () => {
  const random = new SeededEntropy(12);
  const bytes = new Uint8Array(40);
  const options = new TcpOptions();
  const kinds = [0, 1, 2, 3, 4, 5, 8, 28, 172, 174];
  for (let round = 0; round < 20_000; round++) {
    random.fill(bytes);
    bytes[0] = kinds[random.uint32() % kinds.length]!;
    if ((random.uint32() & 1) === 0) bytes[1] = random.uint32() % 41;
    readTcpOptions(bytes, 0, random.uint32() % 41, options);
    expect(options.sackCount).toBeLessThanOrEqual(4);
    expect(options.ecnCount).toBeLessThanOrEqual(3);
    expect(options.windowScale).toBeLessThanOrEqual(14);
  }
});
