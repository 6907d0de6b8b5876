/** Lines that others cause: limits at the limit, many peers, peers that are forgotten, and a count of every line that is left out. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { KIND_BURST, LineLimits, MAX_KINDS, MAX_PAIRS, PEER_BURST } from '../../src/base/line-limits.js';
import { instantAt, Seconds } from '../../src/base/time.js';

const at = (seconds: number) => instantAt(Seconds(seconds));

/** How many of `n` lines are written. */
function written(limits: LineLimits, seconds: number, kind: string, peer: (i: number) => string, n: number): number {
  let count = 0;
  for (let i = 0; i < n; i++) if (limits.take(at(seconds), kind, peer(i))) count++;
  return count;
}

const mallory = (): string => 'mallory';

describe('LineLimits', () => {
  it('lets a burst of one peer pass, then one line in five seconds', () => {
    const limits = new LineLimits();
    expect(written(limits, 0, 'lost', mallory, PEER_BURST)).toBe(PEER_BURST);
    expect(limits.suppressed).toBe(0);
    expect(written(limits, 0, 'lost', mallory, 3)).toBe(0);
    expect(limits.suppressed).toBe(3);
    expect(written(limits, 4.9, 'lost', mallory, 1)).toBe(0);
    expect(written(limits, 5, 'lost', mallory, 2)).toBe(1);
    expect(written(limits, 3600, 'lost', mallory, 1000)).toBe(PEER_BURST);
  });

  it('holds back neither other peers nor other kinds', () => {
    const limits = new LineLimits();
    written(limits, 0, 'lost', mallory, 10_000);
    expect(limits.take(at(0), 'lost', 'alice')).toBe(true);
    expect(limits.take(at(0), 'refused', 'mallory')).toBe(true);
  });

  it('bounds what many peers cause together, also those that were forgotten in between', () => {
    const limits = new LineLimits();
    const names = 3 * MAX_PAIRS;
    expect(written(limits, 0, 'refused', (i) => `peer-${i % names}`, 2 * names)).toBe(KIND_BURST);
    expect(limits.pairs).toBe(MAX_PAIRS);
    expect(written(limits, 1, 'refused', (i) => `peer-${i % names}`, 2 * names)).toBe(5);
    expect(limits.take(at(1), 'lost', 'alice')).toBe(true);
  });

  it('forgets the peer heard longest ago, and only that one', () => {
    const limits = new LineLimits();
    for (const peer of ['first', 'second']) written(limits, 0, 'lost', () => peer, PEER_BURST);
    // The first is heard again, the second becomes the oldest of all.
    expect(limits.take(at(0), 'lost', 'first')).toBe(false);
    for (let i = 0; i < MAX_PAIRS - 1; i++) limits.take(at(0), `kind-${i % 8}`, `peer-${i}`);
    expect(limits.pairs).toBe(MAX_PAIRS);
    expect(limits.take(at(0), 'lost', 'first')).toBe(false);
    expect(limits.take(at(0), 'lost', 'second')).toBe(true);
  });

  it('has kinds beyond its table share one', () => {
    const limits = new LineLimits();
    for (let i = 0; i < MAX_KINDS; i++) expect(limits.take(at(0), `kind-${i}`, 'mallory')).toBe(true);
    expect(written(limits, 0, 'kind-0', mallory, PEER_BURST)).toBe(PEER_BURST - 1);
    let beyond = 0;
    for (let i = 0; i < 1000; i++) if (limits.take(at(0), `made up ${i}`, 'mallory')) beyond++;
    expect(beyond).toBe(PEER_BURST);
    expect(limits.report()).toEqual([
      { kind: 'kind-0', lines: 1, mostOf: 'mallory' },
      { kind: 'other', lines: 1000 - PEER_BURST, mostOf: 'mallory' },
    ]);
  });

  it('reports by kind how many were left out, whose most of them were, and each once', () => {
    const limits = new LineLimits();
    written(limits, 0, 'lost', () => 'alice', PEER_BURST + 2);
    written(limits, 0, 'lost', mallory, PEER_BURST + 9);
    written(limits, 0, 'refused', mallory, PEER_BURST + 1);
    limits.take(at(0), 'quiet', 'mallory');
    expect(limits.report()).toEqual([
      { kind: 'lost', lines: 11, mostOf: 'mallory' },
      { kind: 'refused', lines: 1, mostOf: 'mallory' },
    ]);
    expect(limits.report()).toEqual([]);
    limits.take(at(0), 'lost', 'alice');
    expect(limits.report()).toEqual([{ kind: 'lost', lines: 1, mostOf: 'alice' }]);
    expect(limits.suppressed).toBe(13);
  });

  it('writes or counts every line, and never more than the limits, whoever they are about', () => {
    const line = fc.record({
      kind: fc.nat(5),
      peer: fc.string({ maxLength: 3 }),
      times: fc.nat(300),
      wait: fc.nat(20),
    });
    fc.assert(
      fc.property(fc.array(line, { maxLength: 60 }), (lines) => {
        const limits = new LineLimits();
        const perPeer = new Map<string, number>();
        const perKind = new Map<number, number>();
        let [now, all, reported] = [0, 0, 0];
        for (const { kind, peer, times, wait } of lines) {
          now += wait;
          all += times;
          const n = written(limits, now, `${kind}`, () => peer, times);
          perPeer.set(`${kind} ${peer}`, (perPeer.get(`${kind} ${peer}`) ?? 0) + n);
          perKind.set(kind, (perKind.get(kind) ?? 0) + n);
          if (times % 3 === 0) for (const one of limits.report()) reported += one.lines;
        }
        for (const one of limits.report()) reported += one.lines;
        const total = [...perKind.values()].reduce((sum, n) => sum + n, 0);
        expect(total + limits.suppressed).toBe(all);
        expect(reported).toBe(limits.suppressed);
        for (const n of perPeer.values()) expect(n).toBeLessThanOrEqual(PEER_BURST + now * 0.2 + 1e-6);
        for (const n of perKind.values()) expect(n).toBeLessThanOrEqual(KIND_BURST + now * 5 + 1e-6);
      }),
      { numRuns: 50 },
    );
  });
});
