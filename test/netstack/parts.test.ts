/** The small parts, each against a slow and obvious model: ranges, ring, flow table, estimator, congestion control. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { type Instant, instantAt, later, Micros, Millis, Seconds } from '../../src/base/time.js';
import { BufferPool } from '../../src/netstack/buffer-pool.js';
import { BufferStore } from '../../src/netstack/buffer-store.js';
import { FLOW_WORDS, Flow } from '../../src/netstack/flow.js';
import { FlowTable } from '../../src/netstack/flow-table.js';
import { ByteRing } from '../../src/netstack/tcp/byte-ring.js';
import { Cubic } from '../../src/netstack/tcp/cubic.js';
import { InitialSequence } from '../../src/netstack/tcp/isn.js';
import { NewReno } from '../../src/netstack/tcp/newreno.js';
import { SequenceRanges } from '../../src/netstack/tcp/ranges.js';
import { Receiver } from '../../src/netstack/tcp/receiver.js';
import { RttEstimator } from '../../src/netstack/tcp/rtt.js';
import { seqAfter, seqBefore, seqMax, seqMin } from '../../src/netstack/tcp/sequence.js';
import { isTransition, State, type TcpState } from '../../src/netstack/tcp/state.js';
import type { TcpHandlers } from '../../src/netstack/types.js';
import { crypto, pattern } from './harness.js';

test('sequence numbers compare modulo 2^32', () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 0x7fffffff }), (a, d) => {
      const b = (a + d) | 0;
      expect([seqBefore(a, b), seqAfter(a, b), seqBefore(b, a)]).toEqual([true, false, false]);
      expect([seqMax(a, b), seqMin(a, b)]).toEqual([b, a]);
    }),
  );
});

test('ranges equal a set of numbers, across the wrap too', () => {
  const step = fc.record({
    start: fc.integer({ min: 0, max: 200 }),
    length: fc.integer({ min: 1, max: 40 }),
    trim: fc.option(fc.integer({ min: 0, max: 200 })),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.constantFrom(0, -100, 0x7fffffff - 50), (steps, base) => {
      const ranges = new SequenceRanges(64);
      const model = new Set<number>();
      for (const { start, length, trim } of steps) {
        let gained = 0;
        for (let i = start; i < start + length; i++) {
          if (!model.has(i)) gained++;
          model.add(i);
        }
        expect(ranges.add((base + start) | 0, (base + start + length) | 0)).toBe(gained);
        if (trim !== null) {
          ranges.trimBelow((base + trim) | 0);
          for (const i of model) if (i < trim) model.delete(i);
        }
        expect(ranges.bytes).toBe(model.size);
        const wrong: number[] = [];
        for (let i = 0; i < 250; i += 7) if (ranges.indexOf((base + i) | 0) >= 0 !== model.has(i)) wrong.push(i);
        expect(wrong).toEqual([]);
      }
    }),
    { numRuns: 200 },
  );
});

test('ranges refuse one too many and stay as they were', () => {
  const ranges = new SequenceRanges(2);
  expect([ranges.add(10, 20), ranges.add(30, 40), ranges.add(50, 60)]).toEqual([10, 10, -1]);
  expect([ranges.count, ranges.bytes]).toEqual([2, 20]);
  expect(ranges.add(20, 30)).toBe(10);
  expect(ranges.count).toBe(1);
});

test('a ring is a queue, with bytes placed ahead kept through growth', () => {
  const action = fc.oneof(
    fc.record({ kind: fc.constant('push' as const), n: fc.integer({ min: 1, max: 9000 }) }),
    fc.record({ kind: fc.constant('drop' as const), n: fc.integer({ min: 1, max: 9000 }) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 30 }), (actions) => {
      const ring = new ByteRing(new BufferPool(new BufferStore(1 << 20)));
      const model: number[] = [];
      let seed = 1;
      for (const { kind, n } of actions) {
        if (kind === 'push') {
          const data = pattern(seed++, n);
          ring.ensure(ring.length + n, ring.length);
          ring.place(ring.length, data, 0, n);
          ring.commit(n);
          model.push(...data);
        } else {
          const m = Math.min(n, model.length);
          ring.drop(m);
          model.splice(0, m);
        }
        expect(ring.length).toBe(model.length);
        for (let i = 0; i < model.length; i += 997) expect(ring.bytes[ring.index(i)]).toBe(model[i]);
      }
      ring.release();
      expect(ring.pool.lentBytes).toBe(0);
    }),
    { numRuns: 50 },
  );
});

class TestFlow extends Flow {
  override segment(): void {}
  override unreachable(): void {}
}

test('the flow table is a map', () => {
  const random = new SeededEntropy(5);
  const table = new FlowTable(random.uint32());
  const model = new Map<string, TestFlow>();
  const wrong: number[] = [];
  for (let i = 0; i < 20_000; i++) {
    const words = new Uint32Array(FLOW_WORDS);
    words[2] = words[7] = 0xffff;
    words[3] = random.uint32() % 8;
    words[9] = random.uint32() % 200;
    const key = words.join();
    const known = model.get(key);
    if (table.find(words) !== known) wrong.push(i);
    if (known !== undefined && random.uint32() % 2 === 0) {
      table.remove(known);
      table.remove(known);
      model.delete(key);
    } else if (known === undefined) {
      const flow = new TestFlow(words);
      table.add(flow);
      model.set(key, flow);
    }
    if (table.size !== model.size) wrong.push(i);
  }
  expect(wrong).toEqual([]);
  for (const [key, flow] of model) expect(table.find(Uint32Array.from(key.split(',').map(Number)))).toBe(flow);
});

describe('receive window', () => {
  const KB = 1024;
  const handlers = { onData: (_: Uint8Array, __: number, length: number) => length } as unknown as TcpHandlers;
  const RTT = 100_000;

  test('grows ahead of a sender that triples each round trip, and not for one that does not', () => {
    const receiver = new Receiver(new BufferPool(new BufferStore(64 * 1024 * KB)), 64 * KB, 4096 * KB);
    receiver.start(0, 7);
    const bytes = new Uint8Array(KB);
    let now = instantAt(0);
    const round = (kilobytes: number): void => {
      expect(receiver.limit).toBeGreaterThanOrEqual(Math.min(kilobytes * KB, 4096 * KB));
      for (let i = 0; i < kilobytes; i++) {
        receiver.inOrder(bytes, 0, KB, handlers);
        receiver.tune(later(now, Micros((RTT * i) / kilobytes)), RTT);
      }
      now = later(now, Micros(RTT));
      receiver.tune(now, RTT);
    };
    for (const kilobytes of [14, 42, 126, 378, 1134, 3402]) round(kilobytes);
    expect(receiver.limit).toBe(4096 * KB);

    const calm = new Receiver(new BufferPool(new BufferStore(64 * 1024 * KB)), 256 * KB, 4096 * KB);
    calm.start(0, 7);
    for (let i = 0; i < 1000; i++) {
      calm.inOrder(bytes, 0, KB, handlers);
      calm.tune(later(now, Micros((RTT * i) / 60)), RTT);
    }
    expect(calm.limit).toBe(256 * KB);
  });

  test('holds every gap of a full window with one segment in ten lost', () => {
    const receiver = new Receiver(new BufferPool(new BufferStore(64 * 1024 * KB)), 4096 * KB, 4096 * KB);
    receiver.start(0, 7);
    const bytes = new Uint8Array(1348);
    let kept = 0;
    for (let i = 1; i < 3000; i++) {
      if (i % 10 !== 0) kept += receiver.outOfOrder((1 + i * 1348) | 0, bytes, 0, 1348);
    }
    expect(kept).toBe(2700 * 1348);
    expect(receiver.ranges.count).toBe(300);
  });
});

describe('round trips', () => {
  test('RFC 6298: first sample, smoothing, floor, back-off and cap', () => {
    const rtt = new RttEstimator();
    expect(rtt.timeout).toBe(Seconds(1));
    rtt.sample(Millis(100));
    expect([rtt.smoothed, rtt.variation, rtt.timeout]).toEqual([Millis(100), Millis(50), Millis(300)]);
    rtt.sample(Millis(100));
    expect(rtt.variation).toBe(Millis(37.5));
    expect(rtt.timeout).toBe(Millis(300));
    for (let i = 0; i < 50; i++) rtt.sample(Micros(500));
    expect(rtt.timeout / 1000).toBeCloseTo(200.6, 1);
    rtt.backOff();
    rtt.backOff();
    expect(rtt.timeout / 1000).toBeCloseTo(802.5, 1);
    for (let i = 0; i < 30; i++) rtt.backOff();
    expect(rtt.timeout).toBe(Seconds(120));
    rtt.resetBackoff();
    expect(rtt.timeout / 1000).toBeCloseTo(200.6, 1);
    rtt.established(true);
    expect(rtt.timeout / 1000).toBeCloseTo(200.6, 1);
    for (const again of [false, true]) {
      const unmeasured = new RttEstimator();
      unmeasured.backOff();
      unmeasured.established(again);
      expect(unmeasured.timeout).toBe(Seconds(again ? 3 : 1));
    }
  });
});

describe('congestion control', () => {
  const SEGMENT = 1000;
  const start = instantAt(0);

  test('NewReno doubles per round trip, then adds one segment', () => {
    const cc = new NewReno(SEGMENT);
    expect(cc.window).toBe(10_000);
    for (let i = 0; i < 10; i++) cc.acknowledged(start, SEGMENT, Millis(10));
    expect(cc.window).toBe(20_000);
    cc.lost(start, 20_000);
    expect(cc.threshold).toBe(10_000);
    cc.window = cc.threshold;
    for (let i = 0; i < 10; i++) cc.acknowledged(start, SEGMENT, Millis(10));
    expect(cc.window).toBe(11_000);
    cc.timedOut(start, 11_000);
    expect([cc.window, cc.threshold]).toEqual([1000, 5500]);
    cc.undo();
    expect(cc.window).toBe(11_000);
  });

  test('CUBIC comes back to the size of the last loss after K and then probes beyond it (RFC 9438 §4.2)', () => {
    const cc = new Cubic(SEGMENT);
    cc.window = 1_000_000;
    cc.lost(start, 1_000_000);
    expect(cc.threshold).toBe(700_000);
    cc.window = cc.threshold;
    const rtt = Millis(100);
    const k = Math.cbrt((1000 * 0.3) / 0.4);
    let now: Instant = start;
    const at: [number, number][] = [];
    for (let round = 0; round < 200; round++) {
      now = later(now, rtt);
      const window = cc.window;
      for (let acked = 0; acked < window; acked += SEGMENT) cc.acknowledged(now, SEGMENT, rtt);
      at.push([now / 1e6, cc.window / SEGMENT]);
    }
    for (const [t, segments] of at) {
      if (t < 1 || t > 1.6 * k) continue;
      const expected = 0.4 * (t - 0.1 - k) ** 3 + 1000;
      expect(Math.abs(segments - expected) / expected).toBeLessThan(0.05);
    }
    expect(at.find(([t]) => t > k + 1)![1]).toBeGreaterThan(990);
  });

  test('CUBIC is at least as quick as Reno on short paths', () => {
    const cc = new Cubic(SEGMENT);
    cc.window = 20_000;
    cc.lost(start, 20_000);
    cc.window = cc.threshold;
    let now: Instant = start;
    for (let round = 0; round < 100; round++) {
      now = later(now, Millis(1));
      const window = cc.window;
      for (let acked = 0; acked < window; acked += SEGMENT) cc.acknowledged(now, SEGMENT, Millis(1));
    }
    expect(cc.window / SEGMENT).toBeGreaterThan(14 + 0.5 * 80);
  });
});

test('initial sequence numbers advance 250,000 a second and hide the secret of other 4-tuples', () => {
  const isn = new InitialSequence(crypto, new SeededEntropy(1));
  const words = new Uint32Array(FLOW_WORDS);
  SocketAddress.parse('10.0.0.1:1')!.write(words, 0);
  SocketAddress.parse('10.0.0.2:2')!.write(words, 1);
  const out = new Int32Array(2);
  isn.choose(instantAt(0), words, out);
  const first = out[0]!;
  isn.choose(instantAt(1_000_000), words, out);
  expect((out[0]! - first) | 0).toBe(250_000);
  words[4] = 3;
  isn.choose(instantAt(0), words, out);
  expect(out[0]).not.toBe(first);
});

test('state transitions are those of RFC 9293 figure 5', () => {
  const arrows: Record<number, TcpState[]> = {
    [State.closed]: [State.synSent, State.synReceived],
    [State.listen]: [State.synReceived],
    [State.synSent]: [State.established, State.synReceived],
    [State.synReceived]: [State.established, State.finWait1, State.closeWait],
    [State.established]: [State.finWait1, State.closeWait],
    [State.finWait1]: [State.finWait2, State.closing, State.timeWait],
    [State.finWait2]: [State.timeWait],
    [State.closeWait]: [State.lastAck],
    [State.closing]: [State.timeWait],
    [State.lastAck]: [],
    [State.timeWait]: [],
  };
  for (const from of Object.values(State)) {
    for (const to of Object.values(State)) {
      expect(isTransition(from, to)).toBe(to === State.closed || arrows[from]!.includes(to));
    }
  }
});
