/** The links of a session in a whole network, with the real QUIC: planned switches lose nothing, bad links are left in time. */
import { expect, test } from 'vitest';
import { SeededEntropy } from '../../src/base/entropy.js';
import { elapsed, later, Millis, Seconds, toMillis, toSeconds } from '../../src/base/time.js';
import type { Scene } from '../connector/fixtures.js';
import { connected } from '../connector/fixtures.js';
import { pattern } from '../support/app.js';
import { bothUse, directScene, isBetween, manager, Pinger, pinging } from './direct-scene.js';

/** The way over the relay takes 40 ms more than the direct one. */
const FAR = Millis(20);

/** From now on, what agent and connector send straight to each other; it arrives. */
function countBetween(it: Scene): () => number {
  let between = 0;
  it.world.network.filter = (packet) => {
    if (isBetween(it, packet) !== undefined) between++;
    return true;
  };
  return () => between;
}

test('switches that are planned lose nothing, whichever way they go, though one way takes 40 ms more', async () => {
  const it = await pinging();
  it.world.relay.host.path.delay = FAR;
  for (let i = 0; i < 3; i++) {
    manager(it).setPath(it.world.now, 'relay');
    it.pinger.run(Seconds(1), Millis(2));
    expect(bothUse(it, 'relay')).toBe(true);
    manager(it).setPath(it.world.now, 'auto');
    it.pinger.run(Seconds(1), Millis(2));
    expect(bothUse(it, 'direct')).toBe(true);
  }
  it.world.run(Seconds(1));
  expect(it.pinger.lost()).toEqual([]);
  expect(it.pinger.duplicates).toBe(0);
  expect(it.agent.core.linkCounters.get('copies_out') + it.connector.core.linkCounters.get('copies_out')).toBe(0);
  expect(it.agent.core.linkCounters.get('illegal_steps')).toBe(0);
  const told = (events: readonly { readonly via: string; readonly reason: string }[]): string[] =>
    events.slice(-2).map(({ via, reason }) => `${via} ${reason}`);
  expect(told(it.agent.eventsOf('path'))).toEqual(['relay operator', 'direct best_rank']);
  expect(told(it.connector.eventsOf('path'))).toEqual(['relay told_by_agent', 'direct told_by_agent']);
});

test('an operator who wants other links used while packets flow loses none, and direct links end and come back', async () => {
  const it = await pinging();
  it.world.relay.host.path.delay = FAR;
  const { core } = it.agent;
  const { direct } = it.agent.session('c1')!;
  const directAt = () => [...it.connector.sessions[0]!.links].filter(({ isDirect }) => isDirect).length;
  for (let i = 0; i < 3; i++) {
    core.setPath(it.world.now, 'relay');
    it.pinger.run(Millis(900), Millis(2));
    expect([bothUse(it, 'relay'), direct.reason, direct.link, directAt()]).toEqual([true, 'operator', undefined, 1]);
    it.pinger.run(Seconds(1), Millis(2));
    expect([direct.replaced, directAt()]).toEqual([undefined, 0]);
    // Nothing is tried meanwhile.
    const between = countBetween(it);
    it.pinger.run(Seconds(30));
    expect(between()).toBe(0);
    it.world.network.filter = undefined;
    core.setPath(it.world.now, 'auto');
    it.pinger.run(Seconds(2), Millis(2));
    expect([bothUse(it, 'direct'), direct.reason]).toEqual([true, 'best_rank']);
  }
  it.world.run(Seconds(1));
  expect(it.pinger.lost()).toEqual([]);
  expect(it.pinger.duplicates).toBe(0);
  core.setPath(it.world.now, 'direct');
  it.world.network.filter = (packet) => isBetween(it, packet) === undefined;
  const from = it.pinger.sent.length;
  it.pinger.run(Seconds(5));
  expect(it.pinger.lost(from).length).toBe(it.pinger.sent.length - from);
});

test.each(['relay', 'auto'] as const)(
  'a connector’s operator who wants other links used loses none either, first %s',
  async (first) => {
    const it = await pinging(
      { connector: { direct: { path: first === 'relay' ? 'auto' : 'relay' } } },
      first === 'relay',
    );
    it.world.relay.host.path.delay = FAR;
    const { core } = it.connector;
    const { direct } = it.agent.session('c1')!;
    const directAt = () => [...it.connector.sessions[0]!.links].filter(({ isDirect }) => isDirect).length;
    for (let i = 0; i < 6; i++) {
      if (i % 2 === (first === 'relay' ? 0 : 1)) {
        core.setPath(it.world.now, 'relay');
        it.connector.host.reactor.wake();
        it.pinger.run(Millis(900), Millis(2));
        expect([bothUse(it, 'relay'), direct.reason, direct.link]).toEqual([true, 'operator_of_connector', undefined]);
        it.pinger.run(Seconds(1), Millis(2));
        expect([direct.replaced, directAt()]).toEqual([undefined, 0]);
        // Nothing is tried meanwhile, whatever the agent's network does.
        const between = countBetween(it);
        it.agent.core.sessions.networkChanged(it.world.now);
        it.pinger.run(Seconds(30));
        expect(between()).toBe(0);
        it.world.network.filter = undefined;
      } else {
        core.setPath(it.world.now, 'auto');
        it.connector.host.reactor.wake();
        it.pinger.run(Seconds(2), Millis(2));
        expect([bothUse(it, 'direct'), direct.reason]).toEqual([true, 'best_rank']);
      }
    }
    it.world.run(Seconds(1));
    expect(it.pinger.lost()).toEqual([]);
    expect(it.pinger.duplicates).toBe(0);
  },
);

test('direct links of agents that do not follow the connector’s operator end five seconds later; a new link hears of it too', async () => {
  const it = await pinging();
  const session = it.agent.session('c1')!;
  // What an earlier version does with the word: it takes it for a list of no addresses.
  const hear = session.direct.path.hearPunch.bind(session.direct.path);
  session.direct.path.hearPunch = (message) => hear({ ...message, off: false });
  it.connector.core.setPath(it.world.now, 'relay');
  it.connector.host.reactor.wake();
  it.pinger.run(Seconds(3));
  expect([session.link!.isDirect, it.connector.sessions[0]!.link!.isDirect]).toEqual([true, false]);
  it.pinger.run(Seconds(12));
  expect([bothUse(it, 'relay'), session.direct.link]).toEqual([true, undefined]);
  session.direct.path.hearPunch = hear;
  const { relayed } = session;
  relayed!.connection.close(it.world.now, 0, 'test');
  it.pinger.run(Seconds(5));
  expect(session.relayed).not.toBe(relayed);
  expect([bothUse(it, 'relay'), session.direct.reason]).toEqual([true, 'operator_of_connector']);
});

test('an agent that was started without direct links gets them when the operator wants them', async () => {
  const it = await directScene({ agent: { tun: true, direct: { path: 'relay' } } });
  const pinger = new Pinger(it);
  pinger.run(Seconds(10));
  expect(bothUse(it, 'relay')).toBe(true);
  it.agent.core.setPath(it.world.now, 'auto');
  pinger.run(Seconds(2));
  expect(bothUse(it, 'direct')).toBe(true);
  it.world.run(Seconds(1));
  expect(pinger.lost()).toEqual([]);
});

test('a direct link that is renewed under load loses nothing of what is under way on it, and is closed a second later', async () => {
  const it = await pinging();
  const { direct } = it.agent.session('c1')!;
  const first = direct.link!;
  const atConnector = () => [...it.connector.sessions[0]!.links].filter(({ isDirect }) => isDirect).length;
  const from = it.pinger.sent.length;
  first.renewAt = later(it.world.now, Millis(100));
  while (direct.link === first) it.pinger.run(Millis(2), Millis(2));
  it.pinger.run(Millis(900), Millis(2));
  expect([bothUse(it, 'direct'), first.isLive, atConnector()]).toEqual([true, true, 2]);
  expect(it.agent.session('c1')!.link).toBe(direct.link);
  it.pinger.run(Millis(200), Millis(2));
  expect([first.state, atConnector()]).toEqual(['closed', 1]);
  it.world.run(Seconds(1));
  expect(it.pinger.lost(from)).toEqual([]);
  expect(it.pinger.served.size).toBe(it.pinger.sent.length);
  expect(it.pinger.duplicates).toBe(0);
  expect(it.agent.eventsOf('path').at(-1)).toMatchObject({ via: 'direct', reason: 'drained' });
});

test('of links that are replaced one after the other only the last is kept open', async () => {
  const it = await pinging();
  const { direct } = it.agent.session('c1')!;
  for (let i = 0; i < 4; i++) {
    const before = direct.link!;
    before.renewAt = it.world.now;
    while (direct.link === before) it.pinger.run(Millis(10));
    expect(direct.replaced?.link).toBe(before);
    expect([...it.agent.session('c1')!.allLinks()].filter(({ isDirect }) => isDirect).length).toBe(2);
  }
  it.pinger.run(Seconds(2));
  expect([direct.replaced, it.connector.sessions[0]!.links.size]).toEqual([undefined, 2]);
  expect(it.pinger.lost().filter((number) => number < it.pinger.sent.length - 10)).toEqual([]);
});

test('a relay that drains is the last resort, and still one', async () => {
  const it = await pinging();
  it.world.relay.core.drain(it.world.now, Seconds(60));
  it.world.relay.host.reactor.wake();
  it.pinger.run(Seconds(1));
  expect(it.agent.eventsOf('relay-drains').length).toBe(1);
  expect(bothUse(it, 'direct')).toBe(true);
  it.world.network.filter = (packet) => isBetween(it, packet) === undefined;
  it.pinger.run(Seconds(2));
  expect(bothUse(it, 'relay')).toBe(true);
  it.world.network.filter = undefined;
  it.pinger.run(Seconds(8));
  expect(bothUse(it, 'direct')).toBe(true);
});

test('an idle session with two links hardly wakes anybody', async () => {
  const it = await pinging();
  it.world.run(Seconds(5));
  const { turns } = it.world;
  const beats = it.agent.core.linkCounters.get('beats_out');
  it.world.run(Seconds(60));
  expect(it.agent.core.linkCounters.get('beats_out')).toBe(beats);
  // Turns of relay, connector and agent together.
  expect((it.world.turns - turns) / 60).toBeLessThan(10);
});

test('TCP goes on through planned switches without a storm of retransmissions', async () => {
  const it = await directScene();
  it.world.relay.host.path.delay = FAR;
  const { app, stream } = connected(it);
  expect(it.world.until(() => bothUse(it, 'direct'), Seconds(5))).toBe(true);
  const whole = pattern(3_000_000);
  app.say(whole);
  stream.say(whole);
  for (let i = 0; app.receivedBytes < whole.length || stream.receivedBytes < whole.length; i++) {
    expect(i).toBeLessThan(100);
    manager(it).setPath(it.world.now, i % 2 === 0 ? 'relay' : 'auto');
    it.world.run(Millis(300));
  }
  expect(Buffer.compare(app.received, whole)).toBe(0);
  expect(Buffer.compare(stream.received, whole)).toBe(0);
  for (const { stack } of [it.agent.core.stack.counters, it.connector.core.stackCounters]) {
    expect(stack.get('tcp_rto')).toBe(0);
    expect(stack.get('tcp_retransmits') / stack.get('tcp_segments_out')).toBeLessThan(0.05);
  }
});

test.each([
  ['both ways', ['up', 'down']],
  ['to the connector', ['up']],
  ['to the agent', ['down']],
] as const)('a direct path that is cut dead %s leaves a gap below half a second', async (_, directions) => {
  const it = await pinging();
  const since = toMillis(it.world.now as never);
  const ways: readonly (string | undefined)[] = directions;
  it.world.network.filter = (packet) => !ways.includes(isBetween(it, packet));
  it.pinger.run(Seconds(5));
  it.world.run(Seconds(1));
  expect(it.pinger.longestGap(since)).toBeLessThan(500);
  expect(bothUse(it, 'relay')).toBe(true);
  it.world.network.filter = undefined;
  it.pinger.run(Seconds(8));
  expect(bothUse(it, 'direct')).toBe(true);
});

/** The middle one of an odd number of figures. */
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1]!;

test('loss that grows on the direct path: copies begin in time, and next to nothing is lost from then on', async () => {
  // What is lost is chance, and how the links' own packets fall is too: five times.
  const before: number[] = [];
  const atFirst: number[] = [];
  const after: number[] = [];
  for (let seed = 3; seed < 8; seed++) {
    const it = await pinging({ world: { seed } });
    const entropy = new SeededEntropy(seed);
    const from = it.pinger.sent.length;
    const since = it.world.now;
    it.world.network.filter = (packet) =>
      isBetween(it, packet) === undefined || entropy.unit() >= toSeconds(elapsed(since, it.world.now)) / 5;
    const copies = () =>
      it.agent.core.linkCounters.get('copies_out') + it.connector.core.linkCounters.get('copies_out');
    while (copies() === 0) it.pinger.run(Millis(10));
    const begun = it.pinger.sent.length;
    it.pinger.run(Seconds(5));
    it.world.run(Seconds(1));
    before.push(it.pinger.lost(from).filter((number) => number < begun).length);
    // What one end alone suspected takes half a round trip to be copied by both; beyond 30 % a word of it may be lost again.
    const lost = it.pinger.lost(begun + 10);
    atFirst.push(lost.filter((number) => number < from + 0.3 * 500).length);
    after.push(lost.length);
    expect(bothUse(it, 'relay')).toBe(true);
    expect(it.pinger.duplicates).toBe(0);
  }
  expect(median(before)).toBeLessThanOrEqual(5);
  expect(median(atFirst)).toBe(0);
  expect(median(after)).toBeLessThanOrEqual(5);
});
