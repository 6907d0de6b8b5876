import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Drop } from '../../src/base/drop.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { instantAt } from '../../src/base/time.js';
import { EMPTY, FqCodel, flowHash } from '../../src/tunnel/fq-codel.js';
import { Arena } from '../../src/wire/arena.js';
import { ecnOf } from '../../src/wire/ecn.js';
import { ParsedPacket, parsePacket } from '../../src/wire/inner.js';
import { fixChecksums, packet, slowSum } from '../wire/packets.js';

const MTU = 1400;
const source = new Arena(4096);
const at = (micros: number) => instantAt(micros);

function put(queue: FqCodel, now: number, flow: number, length: number, tag = 0): number {
  source.bytes.fill(flow, 0, length);
  return queue.enqueue(at(now), source, 0, length, flow, tag);
}

/** Takes everything out; the flows in the order in which they left. */
function drain(queue: FqCodel, now: number, most = Number.POSITIVE_INFINITY): number[] {
  const order: number[] = [];
  while (order.length < most) {
    const slot = queue.dequeue(at(now));
    if (slot === EMPTY) break;
    order.push(queue.arena.bytes[queue.offsetOf(slot)]!);
    queue.release(slot);
  }
  return order;
}

describe('FqCodel', () => {
  it('gives packets back whole, with their tag, in the order of their flow', () => {
    const queue = new FqCodel({ slots: 16, mtu: MTU });
    for (let i = 0; i < 5; i++) {
      source.bytes.fill(10 + i, 0, 100 + i);
      expect(queue.enqueue(at(0), source, 0, 100 + i, 7, i * 1.5)).toBe(Drop.none);
    }
    expect([queue.size, queue.backlog]).toEqual([5, 510]);
    for (let i = 0; i < 5; i++) {
      const slot = queue.dequeue(at(1));
      const offset = queue.offsetOf(slot);
      expect([...queue.arena.bytes.subarray(offset, offset + queue.lengths[slot]!)]).toEqual(
        new Array(100 + i).fill(10 + i),
      );
      expect(queue.tags[slot]).toBe(i * 1.5);
      queue.release(slot);
    }
    expect([queue.dequeue(at(1)), queue.size, queue.backlog]).toEqual([EMPTY, 0, 0]);
  });

  it('shares bytes, not packets: three small ones for a large one', () => {
    const queue = new FqCodel({ slots: 200, mtu: 1200, quantum: 1200 });
    for (let i = 0; i < 90; i++) put(queue, 0, 1, 400);
    for (let i = 0; i < 30; i++) put(queue, 0, 2, 1200);
    const first = drain(queue, 1, 40);
    expect(first.filter((flow) => flow === 1).length).toBe(30);
    expect(first.filter((flow) => flow === 2).length).toBe(10);
  });

  it('lets a sparse flow pass first, once: one that comes back while it waits among the old is not new', () => {
    const queue = new FqCodel({ slots: 100, mtu: MTU, quantum: 1000 });
    for (let i = 0; i < 30; i++) put(queue, 0, 1, 400);
    // Three packets use up the quantum of a new flow; with the fourth it is an old one, and has credit left.
    expect(drain(queue, 1, 4)).toEqual([1, 1, 1, 1]);
    put(queue, 1, 2, 60);
    expect(drain(queue, 1, 2)).toEqual([2, 1]);
    put(queue, 1, 2, 60);
    expect(queue.counters.get('new_flows')).toBe(2);
    expect(drain(queue, 1)).toContain(2);
    put(queue, 2, 2, 60);
    expect(queue.counters.get('new_flows')).toBe(3);
  });

  it('when full takes room from the flow with most bytes, from its head, half of it and 64 at most', () => {
    const queue = new FqCodel({ slots: 200, mtu: MTU });
    for (let i = 0; i < 190; i++) put(queue, 0, 1, 1000, i);
    for (let i = 0; i < 10; i++) put(queue, 0, 2, 100, i);
    expect(put(queue, 0, 3, 100)).toBe(Drop.none);
    expect(queue.counters.get('dropped_queue_full')).toBe(64);
    expect(queue.size).toBe(200 - 64 + 1);
    const slot = queue.dequeue(at(1));
    expect(queue.tags[slot]).toBe(64);
    queue.release(slot);
    expect(drain(queue, 1).filter((flow) => flow === 2).length).toBe(10);

    const small = new FqCodel({ slots: 4, mtu: MTU });
    for (let i = 0; i < 4; i++) put(small, 0, 1, 100);
    put(small, 0, 1, 100);
    expect([small.size, small.counters.get('dropped_queue_full')]).toEqual([3, 2]);
  });

  it('refuses what is longer than a slot, and anything while the caller holds every slot', () => {
    const queue = new FqCodel({ slots: 2, mtu: MTU });
    expect(put(queue, 0, 1, MTU)).toBe(Drop.none);
    expect(put(queue, 0, 1, MTU + 1)).toBe(Drop.too_big);
    expect(put(queue, 0, 1, 10)).toBe(Drop.none);
    const held = [queue.dequeue(at(0)), queue.dequeue(at(0))];
    expect(put(queue, 0, 1, 10)).toBe(Drop.queue_full);
    queue.release(held[1]!);
    expect(put(queue, 0, 1, 10)).toBe(Drop.none);
    expect(queue.counters.snapshot()).toMatchObject({ dropped_too_big: 1, dropped_queue_full: 1 });
  });

  it('brings the delay of a flow that sends too fast near the target, and a sparse flow waits no more than a packet or two', () => {
    const queue = new FqCodel({ slots: 2000, mtu: MTU });
    const entropy = new SeededEntropy(3);
    // 10 Mbit/s out: 1250-byte packets leave every millisecond. The greedy flow backs off like TCP when it loses.
    let window = 10;
    let inFlight = 0;
    let lost = 0;
    let lastCut = 0;
    const delays: number[] = [];
    const sparse: number[] = [];
    for (let ms = 0; ms < 20_000; ms++) {
      const now = ms * 1000;
      while (inFlight < window) {
        put(queue, now, 1, 1250, now);
        inFlight++;
      }
      if (entropy.uint32() % 50 === 0) put(queue, now, 2, 80, now);
      const slot = queue.dequeue(at(now + 900));
      if (slot === EMPTY) continue;
      const delay = now + 900 - queue.tags[slot]!;
      if (queue.arena.bytes[queue.offsetOf(slot)] === 2) sparse.push(delay);
      else {
        if (ms > 5000) delays.push(delay);
        inFlight--;
        window += 1 / window;
      }
      queue.release(slot);
      const drops = queue.counters.get('dropped_queue_delay');
      if (drops > lost) {
        inFlight -= drops - lost;
        lost = drops;
        // Once per round trip, which is what waits in the queue.
        if (ms - lastCut > inFlight) {
          window = Math.max(2, window / 2);
          lastCut = ms;
        }
      }
    }
    delays.sort((a, b) => a - b);
    expect(lost).toBeGreaterThan(5);
    expect(delays[Math.floor(delays.length / 2)]!).toBeLessThan(15_000);
    expect(Math.max(...sparse)).toBeLessThan(4_000);
    expect(queue.counters.get('dropped_queue_full')).toBe(0);
  });

  it.each([4, 6] as const)(
    'marks IPv%i packets that allow it instead of dropping them, checksum included',
    (family) => {
      const run = (trafficClass: number) => {
        const queue = new FqCodel({ slots: 100, mtu: MTU });
        const bytes = packet({ family, payload: new Uint8Array(1000), trafficClass });
        source.bytes.set(bytes);
        for (let i = 0; i < 60; i++) queue.enqueue(at(0), source, 0, bytes.length, 9);
        const out: Uint8Array[] = [];
        for (let ms = 10; ms < 300; ms += 10) {
          const slot = queue.dequeue(at(ms * 1000));
          if (slot === EMPTY) break;
          const offset = queue.offsetOf(slot);
          out.push(queue.arena.bytes.slice(offset, offset + bytes.length));
          queue.release(slot);
        }
        return { out, counters: queue.counters.snapshot(), bytes };
      };
      // DSCP 46 with ECT(0), ECT(1); not ECT.
      for (const ect of [0xba, 0xb9]) {
        const { out, counters, bytes } = run(ect);
        expect(counters.dropped_queue_delay).toBeUndefined();
        const marked = out.filter((p) => ecnOf(p, 0) === 3);
        expect(marked.length).toBe(counters.ecn_marked!);
        expect(marked.length).toBeGreaterThan(1);
        const same = packet({ family, payload: new Uint8Array(1000), trafficClass: 0xbb });
        for (const p of marked) {
          expect(p).toEqual(same);
          if (family === 4) expect(slowSum(p, 0, 20)).toBe(0xffff);
        }
        expect(out[0]).toEqual(bytes);
      }
      const { counters } = run(0xb8);
      expect(counters.ecn_marked).toBeUndefined();
      expect(counters.dropped_queue_delay!).toBeGreaterThan(1);
    },
  );

  it('loses no slot and no count, and never reorders a flow, whatever is done to it', () => {
    const action = fc.record({
      wait: fc.integer({ min: 0, max: 20_000 }),
      flow: fc.integer({ min: 0, max: 200 }),
      length: fc.integer({ min: 1, max: MTU + 1 }),
      kind: fc.constantFrom('put', 'put', 'put', 'take', 'take', 'release'),
    });
    fc.assert(
      fc.property(fc.array(action, { maxLength: 600 }), (actions) => {
        const queue = new FqCodel({ slots: 40, mtu: MTU, queues: 8 });
        const held: number[] = [];
        const last = new Map<number, number>();
        let now = 0;
        let tag = 0;
        const take = (): boolean => {
          const slot = queue.dequeue(at(now));
          if (slot === EMPTY) return false;
          expect(held).not.toContain(slot);
          held.push(slot);
          const flow = queue.arena.bytes[queue.offsetOf(slot)]!;
          expect(queue.tags[slot]!).toBeGreaterThan(last.get(flow) ?? 0);
          last.set(flow, queue.tags[slot]!);
          return true;
        };
        for (const { wait, flow, length, kind } of actions) {
          now += wait;
          if (kind === 'put') put(queue, now, flow, length, ++tag);
          else if (kind === 'take') take();
          else if (held.length > 0) queue.release(held.shift()!);
          expect(queue.size + held.length).toBeLessThanOrEqual(40);
        }
        while (take());
        const c = queue.counters;
        // A packet refused for want of a slot was never enqueued; every other drop was.
        const refused = tag - c.get('enqueued') - c.get('dropped_too_big');
        expect(c.get('enqueued')).toBe(
          c.get('dequeued') + c.get('dropped_queue_full') - refused + c.get('dropped_queue_delay'),
        );
        expect([queue.size, queue.backlog]).toEqual([0, 0]);
        for (const slot of held) queue.release(slot);
        for (let i = 0; i < 40; i++) expect(put(queue, now, i, 10, ++tag)).toBe(Drop.none);
        expect(queue.size).toBe(40);
      }),
      { numRuns: 150 },
    );
  });
});

describe('flowHash', () => {
  it('is one number per flow, spread over all queues, and another one for another seed', () => {
    const parsed = new ParsedPacket();
    const hashOf = (family: 4 | 6, sourcePort: number, seed: number): number => {
      const bytes = packet({ family, payload: new Uint8Array(20), sourcePort });
      fixChecksums(bytes);
      expect(parsePacket(bytes, 0, bytes.length, parsed)).toBe(Drop.none);
      return flowHash(parsed, seed);
    };
    for (const family of [4, 6] as const) {
      const queues = new Set<number>();
      for (let port = 1; port <= 4096; port++) queues.add(hashOf(family, port, 1) & 1023);
      // 4096 balls into 1024 bins leave about 19 empty.
      expect(queues.size).toBeGreaterThan(980);
      expect(hashOf(family, 77, 1)).toBe(hashOf(family, 77, 1));
      expect(hashOf(family, 77, 1)).not.toBe(hashOf(family, 77, 2));
    }
  });
});
