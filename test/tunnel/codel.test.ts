import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { instantAt, Millis } from '../../src/base/time.js';
import { CoDel, SIGNAL } from '../../src/tunnel/codel.js';

interface Waiting {
  readonly queued: number;
  readonly size: number;
}

const TARGET = 5_000;
const INTERVAL = 100_000;
const MTU = 1000;

/** The pseudo-code of RFC 8289 §5, statement by statement. */
class Reference {
  readonly packets: Waiting[] = [];
  readonly dropped: Waiting[] = [];
  #first = 0;
  #dropNext = 0;
  #count = 0;
  #lastCount = 0;
  #dropping = false;

  dequeue(now: number): Waiting | undefined {
    let r = this.#doDequeue(now);
    if (this.#dropping) {
      if (!r.ok) this.#dropping = false;
      while (now >= this.#dropNext && this.#dropping) {
        this.dropped.push(r.p!);
        this.#count++;
        r = this.#doDequeue(now);
        if (!r.ok) this.#dropping = false;
        else this.#dropNext = this.#control(this.#dropNext, this.#count);
      }
    } else if (r.ok) {
      this.dropped.push(r.p!);
      r = this.#doDequeue(now);
      this.#dropping = true;
      const delta = this.#count - this.#lastCount;
      this.#count = 1;
      if (delta > 1 && now - this.#dropNext < 16 * INTERVAL) this.#count = delta;
      this.#dropNext = this.#control(now, this.#count);
      this.#lastCount = this.#count;
    }
    return r.p;
  }

  #doDequeue(now: number): { p: Waiting | undefined; ok: boolean } {
    const p = this.packets.shift();
    if (p === undefined) {
      this.#first = 0;
      return { p, ok: false };
    }
    const bytes = this.packets.reduce((sum, { size }) => sum + size, 0);
    if (now - p.queued < TARGET || bytes <= MTU) this.#first = 0;
    else if (this.#first === 0) this.#first = now + INTERVAL;
    else if (now >= this.#first) return { p, ok: true };
    return { p, ok: false };
  }

  #control(at: number, count: number): number {
    return at + INTERVAL / Math.sqrt(count);
  }
}

class Ours {
  readonly packets: Waiting[] = [];
  readonly dropped: Waiting[] = [];
  readonly #codel = new CoDel(2, Millis(5), Millis(100), MTU);

  dequeue(now: number): Waiting | undefined {
    for (;;) {
      const p = this.packets.shift();
      if (p === undefined) {
        this.#codel.onEmpty(1);
        return undefined;
      }
      const bytes = this.packets.reduce((sum, { size }) => sum + size, 0);
      if (this.#codel.judge(1, instantAt(now), instantAt(p.queued), bytes) !== SIGNAL) return p;
      this.dropped.push(p);
    }
  }
}

describe('CoDel', () => {
  it('passes and drops what the pseudo-code of RFC 8289 does, for any arrivals and departures', () => {
    const step = fc.record({
      wait: fc.integer({ min: 1, max: 30_000 }),
      arrivals: fc.integer({ min: 0, max: 4 }),
      departures: fc.integer({ min: 0, max: 2 }),
    });
    let drops = 0;
    fc.assert(
      fc.property(fc.array(step, { minLength: 50, maxLength: 400 }), (steps) => {
        const reference = new Reference();
        const ours = new Ours();
        let now = 1_000_000;
        for (const { wait, arrivals, departures } of steps) {
          now += wait;
          for (let i = 0; i < arrivals; i++) {
            const packet = { queued: now, size: 200 + i * 250 };
            reference.packets.push(packet);
            ours.packets.push(packet);
          }
          for (let i = 0; i < departures; i++) expect(ours.dequeue(now)).toBe(reference.dequeue(now));
        }
        expect(ours.dropped).toEqual(reference.dropped);
        drops += ours.dropped.length;
      }),
      { numRuns: 60 },
    );
    expect(drops).toBeGreaterThan(0);
  });

  it('leaves a queue alone that is late for less than an interval, or holds one packet', () => {
    const codel = new CoDel(1, Millis(5), Millis(100), MTU);
    const at = (micros: number) => instantAt(micros);
    expect(codel.judge(0, at(6_000), at(0), 5000)).not.toBe(SIGNAL);
    expect(codel.judge(0, at(105_999), at(50_000), 5000)).not.toBe(SIGNAL);
    expect(codel.judge(0, at(106_000), at(105_000), 5000)).not.toBe(SIGNAL);
    expect(codel.judge(0, at(300_000), at(0), MTU)).not.toBe(SIGNAL);
    expect(codel.judge(0, at(300_000), at(0), MTU + 1)).not.toBe(SIGNAL);
    expect(codel.judge(0, at(400_000), at(0), MTU + 1)).toBe(SIGNAL);
  });
});
