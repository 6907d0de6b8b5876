/** What a user notices when the path in use goes bad: seeds in virtual time, a ping every 10 ms through two link managers. */
import { expect, test } from 'vitest';
import { Millis, Minutes, Seconds } from '../../../src/base/time.js';
import { Tier } from '../../../src/tunnel/links/managed-link.js';
import { directAndRelay, median, TwoEnds, wire } from './two-ends.js';

const seeds = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);
const between = (from: number, to: number) => (seconds: number) => (seconds >= from && seconds < to ? 1 : 0);

test('a direct link is used as soon as it is there, and both ends agree', () => {
  const { ends } = directAndRelay();
  ends.ping(Seconds(1));
  expect(ends.agent.switches.map(({ to, reason }) => [to, reason])).toEqual([
    [0, 'only_link'],
    [1, 'best_rank'],
  ]);
  expect(ends.connector.manager.active?.number).toBe(1);
  ends.run(Seconds(1));
  expect(ends.agent.received.size).toBe(100);
  expect(ends.agent.copied + ends.connector.copied).toBe(0);
});

test('loss that grows from 0 to 100 % in 5 s: copies begin before it hurts, and nothing is lost from then on', () => {
  const before: number[] = [];
  const after: number[] = [];
  for (const seed of seeds(20)) {
    const { ends, direct } = directAndRelay({ seed });
    const ramp = (seconds: number): number => Math.min(1, Math.max(0, (seconds - 3) / 5));
    direct.up.loss = ramp;
    direct.down.loss = ramp;
    ends.ping(Seconds(10));
    const { agent, connector } = ends;
    const copies = Math.max(
      agent.firstCopy ?? Number.POSITIVE_INFINITY,
      connector.firstCopy ?? Number.POSITIVE_INFINITY,
    );
    expect(copies).toBeLessThan(5);
    before.push(ends.unanswered(3, copies));
    after.push(ends.unanswered(copies, 3 + 0.3 * 5));
    expect(ends.agent.duplicates + ends.connector.duplicates).toBe(0);
    expect(ends.agent.manager.active!.number).toBe(0);
  }
  expect(median(before)).toBeLessThanOrEqual(5);
  expect(median(after)).toBe(0);
});

test('a link that is cut dead leaves a gap below half a second', () => {
  const gaps: number[] = [];
  for (const seed of seeds(50)) {
    const { ends, direct } = directAndRelay({ seed });
    const cut = between(2 + (seed % 10) / 77, 99);
    direct.up.loss = cut;
    direct.down.loss = cut;
    ends.ping(Seconds(5));
    gaps.push(ends.longestGap(1));
    expect(ends.agent.manager.active!.number).toBe(0);
    expect(ends.connector.manager.active!.number).toBe(0);
  }
  gaps.sort((a, b) => a - b);
  expect(median(gaps)).toBeLessThan(0.5);
});

test.each(['up', 'down'] as const)('a link that is dead one way only (%s) is left by both ends', (direction) => {
  const gaps: number[] = [];
  for (const seed of seeds(20)) {
    const { ends, direct } = directAndRelay({ seed });
    direct[direction].loss = between(2 + (seed % 10) / 77, 99);
    ends.ping(Seconds(5));
    gaps.push(ends.longestGap(1));
    expect(ends.agent.manager.active!.number).toBe(0);
    expect(ends.connector.manager.active!.number).toBe(0);
  }
  expect(median(gaps)).toBeLessThan(0.5);
});

test('30 % loss on the better link: it is left once and not tried again and again', () => {
  const counts: number[] = [];
  for (const seed of seeds(10)) {
    const { ends, direct } = directAndRelay({ seed });
    direct.up.loss = (seconds) => (seconds > 2 ? 0.3 : 0);
    direct.down.loss = direct.up.loss;
    ends.ping(Minutes(1));
    counts.push(ends.agent.switches.filter(({ at }) => at > 1).length);
  }
  expect(median(counts)).toBe(1);
  expect(Math.max(...counts)).toBeLessThanOrEqual(3);
});

test('30 % loss on both links: the session stays, with copies', () => {
  const counts: number[] = [];
  for (const seed of seeds(10)) {
    const { ends, direct, relay } = directAndRelay({ seed });
    for (const { up, down } of [direct, relay]) {
      up.loss = (seconds) => (seconds > 2 ? 0.3 : 0);
      down.loss = up.loss;
    }
    ends.ping(Minutes(1));
    counts.push(ends.agent.switches.filter(({ at }) => at > 1).length);
    // Both copies of one way are lost in 9 of 100, so a round trip is in 17.
    expect(ends.unanswered(4, 60) / 5600).toBeLessThan(0.25);
  }
  // Sixteen or 32 heartbeats of equal links differ by chance now and then; the waits grow, so it gets rarer.
  expect(median(counts)).toBeLessThanOrEqual(6);
});

test('a path that is merely full gets no copies', () => {
  const { ends, direct } = directAndRelay();
  // 200 pings a second and as many acknowledgements over a way that takes 5 % less.
  direct.up.queue = { rate: 390, length: 40 };
  ends.ping(Seconds(20), Millis(5));
  expect(ends.agent.copied).toBe(0);
});

test('after a cut the better link is used again, later each time', () => {
  const { ends, direct } = directAndRelay();
  const cuts = [5, 20, 40, 70].map((at) => between(at, at + 2));
  direct.up.loss = (seconds) => Math.max(...cuts.map((cut) => cut(seconds)));
  direct.down.loss = direct.up.loss;
  ends.ping(Seconds(100));
  const left = ends.agent.switches.filter(({ to, at }) => to === 0 && at > 1).map(({ at }) => at);
  const back = ends.agent.switches.filter(({ to, at }) => to === 1 && at > 1).map(({ at }) => at);
  expect(left.length).toBe(4);
  expect(back.length).toBe(4);
  const waits = back.map((at, i) => at - left[i]!);
  for (const [i, least] of [2, 4, 8, 16].entries()) {
    expect(waits[i]).toBeGreaterThanOrEqual(least);
    expect(waits[i]).toBeLessThan(least + 3);
  }
});

test('a hundred cuts: no state is stuck, and the better link is used in the end', () => {
  const { ends, direct, relay } = directAndRelay({ seed: 7 });
  const unit = () => ends.entropy.uint32() / 0x1_0000_0000;
  for (let i = 0; i < 100; i++) {
    const ways = [direct.up, direct.down, relay.up, relay.down].filter(() => unit() < 0.4);
    for (const way of ways) way.loss = () => 1;
    ends.ping(Millis(200 + 3000 * unit()));
    for (const way of ways) way.loss = () => 0;
    ends.ping(Millis(3000 * unit()));
  }
  ends.ping(Minutes(3));
  expect(ends.problems).toBe(0);
  expect(ends.agent.manager.links.map(({ state }) => state)).toEqual(['standby', 'active']);
  expect(ends.connector.manager.links.map(({ state }) => state)).toEqual(['standby', 'active']);
  expect(ends.agent.duplicates + ends.connector.duplicates).toBe(0);
});

test('an idle session has no timer', () => {
  const { ends } = directAndRelay();
  ends.ping(Seconds(2));
  ends.run(Seconds(4));
  const beats = ends.agent.counters.get('beats_out') + ends.connector.counters.get('beats_out');
  ends.run(Minutes(10));
  expect(ends.agent.counters.get('beats_out') + ends.connector.counters.get('beats_out')).toBe(beats);
  expect(ends.waiting).toBe(0);
});

test('a link that died while nobody used it loses nothing of what comes then', () => {
  const { ends, direct } = directAndRelay();
  ends.ping(Seconds(2));
  ends.run(Seconds(60));
  direct.up.loss = () => 1;
  direct.down.loss = () => 1;
  const from = ends.pings;
  ends.ping(Seconds(3));
  ends.run(Seconds(1));
  expect([...Array(ends.pings).keys()].filter((i) => i >= from && !ends.agent.received.has(i))).toEqual([]);
  expect(ends.agent.manager.active!.number).toBe(0);
});

test('a direct link that stays silent for 15 s of traffic is dead', () => {
  const { ends, direct } = directAndRelay();
  ends.ping(Seconds(2));
  direct.up.loss = () => 1;
  direct.down.loss = () => 1;
  ends.ping(Seconds(14));
  expect(ends.agent.dead).toEqual([]);
  ends.ping(Seconds(3));
  expect(ends.agent.dead.map(({ number, reason }) => [number, reason])).toEqual([[1, 'silent']]);
  ends.run(Seconds(1));
  expect(ends.unanswered(10, 19)).toBe(0);
});

test('ends that disagree lose nothing', () => {
  const { ends } = directAndRelay();
  ends.ping(Seconds(1));
  ends.connector.manager.follow(ends.now, 1000, 0);
  ends.ping(Seconds(5));
  expect(ends.connector.manager.active!.number).toBe(0);
  expect(ends.agent.manager.active!.number).toBe(1);
  ends.run(Seconds(1));
  expect(ends.unanswered(0, 6)).toBe(0);
});

test('the connector leaves a bad link with the agent, however little it may copy', () => {
  for (const seed of seeds(10)) {
    const { ends, direct } = directAndRelay({ seed });
    ends.connector.manager.mayCopy = () => false;
    direct.down.loss = (seconds) => (seconds > 2 ? 0.5 : 0);
    ends.ping(Seconds(6));
    ends.run(Seconds(1));
    const left = ends.agent.switches.at(-1)!;
    const followed = ends.connector.switches.at(-1)!;
    expect([left.to, followed.to]).toEqual([0, 0]);
    // Its word, and the first packet by the other link.
    expect(followed.at - left.at).toBeLessThan(0.05);
    expect(ends.unanswered(left.at + 0.05, 6)).toBe(0);
  }
});

test('a link from which nothing has come since the present one is suspect is not followed', () => {
  const { ends, direct, relay } = directAndRelay();
  ends.ping(Seconds(2));
  for (const way of [relay.up, relay.down]) way.loss = () => 1;
  direct.down.loss = () => 0.5;
  const { manager } = ends.connector;
  while (manager.active!.state !== 'suspect') ends.ping(Millis(10));
  manager.follow(ends.now, 1000, 0);
  expect(manager.links.map(({ state }) => state)).toEqual(['standby', 'suspect']);
  expect(manager.active!.number).toBe(1);
  const from = ends.seconds;
  direct.down.loss = () => 0;
  ends.ping(Seconds(1));
  ends.run(Seconds(1));
  expect(ends.unanswered(from, from + 1)).toBe(0);
});

test('copies end with the trouble: those of one end are no reason for the other’s to go on', () => {
  for (const seed of seeds(10)) {
    const { ends, direct } = directAndRelay({ seed });
    ends.ping(Seconds(2));
    direct.down.loss = () => 0.5;
    while (ends.agent.copied === 0 || ends.connector.copied === 0) ends.ping(Millis(10));
    direct.down.loss = () => 0;
    // Trust comes back after a second, the last mirrored copy half a second later; a switch prolongs it by two.
    ends.ping(Seconds(6));
    const copied = ends.agent.copied + ends.connector.copied;
    ends.ping(Seconds(1));
    expect(ends.agent.copied + ends.connector.copied).toBe(copied);
  }
});

test('heartbeats in answer to the peer’s at rest are no more than two a second', () => {
  const { ends } = directAndRelay();
  ends.ping(Seconds(2));
  const relayed = ends.agent.manager.links[0]!.health;
  const before = relayed.beatsOut;
  ends.ping(Seconds(10));
  expect(relayed.beatsOut - before).toBeLessThanOrEqual(21);
});

test('a link that was followed from a suspect one and is dead on the way back: copies carry on meanwhile', () => {
  for (const seed of seeds(10)) {
    const { ends, direct, relay } = directAndRelay({ seed });
    ends.ping(Seconds(2));
    direct.down.loss = () => 0.5;
    while (ends.connector.manager.active!.number !== 0) ends.ping(Millis(1), Millis(1));
    const from = ends.seconds;
    direct.down.loss = () => 0;
    relay.down.loss = () => 1;
    const { length } = ends.connector.switches;
    ends.ping(Seconds(2));
    ends.run(Seconds(1));
    if (ends.connector.switches[length - 1]!.reason !== 'told_by_agent') continue;
    expect(ends.agent.switches.at(-1)!.to).toBe(1);
    const answered = [...ends.agent.received.values()].filter((at) => at > from && at < from + 0.5).length;
    expect(answered).toBeGreaterThan(45);
  }
});

test('a new link over a way that was left for its loss has to show first that it loses less', () => {
  for (const seed of seeds(10)) {
    const { ends, direct } = directAndRelay({ seed });
    ends.ping(Seconds(2));
    direct.up.loss = () => 0.5;
    direct.down.loss = () => 0.5;
    while (ends.agent.manager.active!.number !== 0) ends.ping(Millis(10));
    const isLossy = ends.agent.switches.at(-1)!.reason === 'heavy_loss';
    ends.link(Tier.direct, direct);
    ends.ping(Millis(100));
    expect(ends.agent.manager.active!.number).toBe(isLossy ? 0 : 2);
    const begun = ends.seconds;
    ends.ping(Seconds(1));
    if (isLossy) expect(ends.unanswered(begun, begun + 1)).toBe(0);
  }
});

test.each([
  ['relay', 0],
  ['direct', 1],
] as const)('the operator allows %s only', (path, number) => {
  const { ends } = directAndRelay({ path });
  ends.ping(Seconds(1));
  expect(ends.agent.manager.active!.number).toBe(number);
  ends.agent.manager.setPath(ends.now, path === 'relay' ? 'direct' : 'relay');
  expect(ends.agent.manager.active!.number).toBe(1 - number);
  expect(ends.agent.switches.at(-1)!.reason).toBe('operator');
});

test('a relay that drains is left for any other way', () => {
  const ends = new TwoEnds();
  ends.link(Tier.relayUdp, wire(20));
  ends.link(Tier.relayUdp, wire(30));
  ends.ping(Seconds(1));
  ends.agent.manager.drain(ends.now, ends.agent.manager.links[0]!);
  ends.ping(Seconds(1));
  ends.run(Seconds(1));
  expect(ends.agent.manager.active!.number).toBe(1);
  expect(ends.agent.switches.at(-1)!.reason).toBe('drained');
  expect(ends.unanswered(0, 2)).toBe(0);
});
