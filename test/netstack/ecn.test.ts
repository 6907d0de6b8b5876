/** What marks instead of drops bring: the controllers answer them; and what an end counts is what its peer hears, whatever happens on the way. */
import { describe, expect, test } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { Millis, Seconds } from '../../src/base/time.js';
import { Ecn, EcnMode } from '../../src/netstack/tcp/ecn.js';
import { ACK, ECN_FLAGS, Segment, SYN } from '../../src/netstack/tcp/segment.js';
import { ECN_CE, ECN_ECT0 } from '../../src/wire/ecn.js';
import { Simulation } from './matrix/simulation.js';

describe('a bottleneck that marks', () => {
  const rate = 2_500_000;
  const path = { rtt: Millis(20), loss: 0, rate, queue: rate / 10, mark: rate / 50, seed: 3 };

  test.each(['newreno', 'cubic', 'bbr'] as const)(
    '%s keeps the queue short and busy without a drop after the start',
    (congestion) => {
      const simulation = new Simulation({ ...path, tcp: { congestion } }, 2);
      simulation.run(Seconds(2), () => false);
      const [before, from, waited] = [simulation.dropped, simulation.total, { sum: 0, n: 0 }];
      simulation.run(Seconds(5), () => {
        waited.sum += simulation.waiting;
        waited.n++;
        return false;
      });
      expect(simulation.marked).toBeGreaterThan(0);
      expect(simulation.dropped - before).toBe(0);
      expect(simulation.total - from).toBeGreaterThan(0.9 * 5 * rate);
      expect(waited.sum / waited.n).toBeLessThan(rate / 25);
      expect(simulation.senderStack.counters.stack.get('tcp_ce_reported')).toBeGreaterThan(0);
    },
  );

  test('the same with flags only', () => {
    const simulation = new Simulation({ ...path, tcp: { congestion: 'cubic', ecn: 'classic' } }, 2);
    simulation.run(Seconds(2), () => false);
    const before = simulation.dropped;
    simulation.run(Seconds(4), () => false);
    expect(simulation.dropped - before).toBe(0);
  });

  test('switched off, nothing is marked', () => {
    const simulation = new Simulation({ ...path, tcp: { congestion: 'cubic', ecn: 'off' } }, 2);
    simulation.run(Seconds(3), () => false);
    expect(simulation.marked).toBe(0);
  });
});

/** Client and server after a handshake without changes on the way. */
function pair(): readonly [Ecn, Ecn] {
  const [client, server] = [new Ecn(), new Ecn()];
  const seg = new Segment();
  seg.flags = SYN | client.ask('accurate', 1);
  server.asked('accurate', seg);
  seg.flags = SYN | ACK | server.answer(1);
  client.answered(seg);
  seg.flags = ACK | client.flags;
  client.sent();
  server.confirmed(seg);
  expect([client.mode, server.mode, client.marks, server.marks]).toEqual([
    EcnMode.accurate,
    EcnMode.accurate,
    true,
    true,
  ]);
  return [client, server];
}

test.each([1, 2, 3, 4, 5, 6])(
  'every mark is reported once, with lost and thinned acknowledgements, seed %i',
  (seed) => {
    const random = new SeededEntropy(seed);
    const [sender, receiver] = pair();
    const seg = new Segment();
    const SEGMENT = 1000;
    let [marked, reported, unacknowledged] = [0, 0, 0];
    for (let i = 0; i < 20_000; i++) {
      seg.flags = ACK | sender.flags;
      seg.ecn = random.unit() < (i % 1000 < 500 ? 0.02 : 0.6) ? ECN_CE : ECN_ECT0;
      seg.length = SEGMENT;
      seg.parts = 1;
      if (seg.ecn === ECN_CE) marked++;
      receiver.received(seg);
      unacknowledged++;
      // An acknowledgement for one in ten packets, and half of those are lost.
      if (random.unit() > 0.1 || random.unit() < 0.5) continue;
      seg.flags = ACK | receiver.flags;
      seg.options.clear();
      receiver.writeOption(seg.options);
      reported += sender.reported(seg, unacknowledged * SEGMENT, SEGMENT);
      unacknowledged = 0;
      expect(reported).toBe(marked);
    }
  },
);

test('flags and options at random neither throw nor report more than was delivered', () => {
  const random = new SeededEntropy(9);
  for (let round = 0; round < 300; round++) {
    const [sender] = pair();
    const seg = new Segment();
    for (let i = 0; i < 50; i++) {
      const delivered = Math.floor(random.unit() * 50_000);
      seg.flags = ACK | (random.uint32() & ECN_FLAGS);
      seg.ecn = random.uint32() & 3;
      seg.length = random.uint32() & 0xffff;
      seg.options.ecnCount = (random.uint32() & 3) - 1;
      seg.options.ecnOrder = random.uint32() & 1;
      for (let k = 0; k < 3; k++) seg.options.ecnBytes[k] = random.uint32() & 0xffffff;
      sender.received(seg);
      const packets = sender.reported(seg, delivered, 1000);
      expect(packets).toBeGreaterThanOrEqual(0);
      expect(packets).toBeLessThanOrEqual(Math.max(Math.ceil(delivered / 1000), 7));
    }
  }
});
