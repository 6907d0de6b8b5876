import { describe, expect, it } from 'vitest';
import { gcPauses, sampleProcess } from '../../bench/soak/sample.js';
import { growth, ROLE_NAMES, type SoakSample } from '../../bench/soak/verdict.js';

const sample = (rssMegabytes: number, descriptors: number): SoakSample => {
  const role = { rssBytes: rssMegabytes * 1e6, descriptors };
  return { phase: 'packets', at: 0, packets: 0, flowP50: 0, roles: { relay: role, connector: role, agent: role } };
};

describe('the verdict of a soak', () => {
  it('takes noise for flat', () => {
    const samples = [
      sample(100, 30),
      sample(140, 31),
      sample(95, 30),
      sample(110, 29),
      sample(105, 30),
      sample(112, 32),
    ];
    expect(growth(samples, ROLE_NAMES)).toEqual([]);
  });

  it('names the role whose memory or descriptors grow', () => {
    const samples = Array.from({ length: 9 }, (_, index) => sample(100 + index * 10, 30));
    expect(growth(samples, ['agent'])).toEqual(['agent: resident memory grew from 110 MB to 170 MB']);
    const leaking = Array.from({ length: 9 }, (_, index) => sample(100, 30 + index));
    expect(growth(leaking, ['relay', 'connector'])).toEqual([
      'relay: descriptors grew from 31 to 37',
      'connector: descriptors grew from 31 to 37',
    ]);
    expect(growth([sample(100, 30), sample(160, 30)], ['relay'])).toHaveLength(1);
  });
});

describe('samples', () => {
  it('see memory, descriptors and wake-ups of a process', async () => {
    const before = sampleProcess(process.pid);
    await new Promise((resolve) => setTimeout(resolve, 5));
    const after = sampleProcess(process.pid);
    expect(before.rssBytes).toBeGreaterThan(10e6);
    expect(before.descriptors).toBeGreaterThan(3);
    expect(after.wakeUps).toBeGreaterThan(before.wakeUps);
  });

  it("add up the pauses in Node's trace of collections", () => {
    const trace = [
      '[1:0x5] 33 ms: Scavenge 5.5 (6.4) -> 4.9 (7.4) MB, 0.44 / 0.00 ms  (average mu = 1.000, current mu = 1.000) task;',
      '[1:0x5] 52 ms: Mark-Compact 5.2 (8.4) -> 4.1 (9.0) MB, 2.5 / 0.10 ms  (+ 1.1 ms in 4 steps) (average mu = 1.0)',
      '[1:0x5] 60 ms: Scavenge 5.5 (6.4) -> 4.9 (7.4) MB, pooled: 0 MB, 1.06 / 0.00 ms  (average mu = 1.000)',
      '{"msg":"something else, 9.99 / 0.00 ms"}',
    ].join('\n');
    expect(gcPauses(trace)).toBeCloseTo(4);
  });
});
