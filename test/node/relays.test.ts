/** A network with several relays: its nodes keep a home and a standby, and sessions outlive either without losing packets. */
import { expect, test } from 'vitest';
import { elapsed, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { connected, ready, type Scene, SERVICES, scene } from '../connector/fixtures.js';
import { pattern } from '../support/app.js';
import type { Packet } from '../support/sim-network.js';
import type { SimNode } from '../support/sim-nodes.js';
import { World } from '../support/world.js';
import { bothUse, Pinger } from './direct-scene.js';

/** First byte of what goes through a relay. */
const RELAYED = 0x10;
const TWO = { relays: ['r1', 'r2'] };

/** The relay that carries a session's packets, at both ends. */
function carriers({ agent, connector }: Scene): (string | undefined)[] {
  const of = (slot: number | undefined, relays: typeof agent.core.relays) =>
    slot === undefined ? undefined : relays.at(slot)?.name;
  return [
    of(agent.session('c1')?.link?.channel?.relay, agent.core.relays),
    of(connector.sessions[0]?.link?.channel?.relay, connector.core.relays),
  ];
}

const both = (it: Scene, name: string): boolean => carriers(it).every((one) => one === name);

/** Links of the session that are live, by relay. */
const links = ({ agent }: Scene): (string | undefined)[] =>
  [...agent.session('c1')!.allLinks()]
    .filter((link) => link.isLive)
    .map((link) => agent.core.relays.at(link.channel!.relay)!.name)
    .sort();

/** Two relays, the second one 20 ms farther away; a pinger that runs, and both links stand. */
async function pinging() {
  const world = await World.create(TWO);
  world.relayOf('r2').host.path.delay = Millis(15);
  const connector = await world.connector('c1', { services: SERVICES });
  const agent = await world.agent('alice', { tun: true });
  expect(world.until(() => ready(connector) && agent.core.available.has('web'))).toBe(true);
  const it: Scene = { world, connector, agent };
  const pinger = new Pinger(it);
  pinger.run(Seconds(1));
  expect(it.world.until(() => links(it).length === 2, Seconds(5))).toBe(true);
  pinger.run(Seconds(1));
  return { ...it, pinger };
}

test('both ends have a home and a standby, and a session a link through each', async () => {
  const it = await pinging();
  for (const { core } of [it.agent, it.connector]) {
    expect(core.relays.home.name).toBe('r1');
    expect(core.relays.standby?.name).toBe('r2');
  }
  expect(links(it)).toEqual(['r1', 'r2']);
  expect(both(it, 'r1')).toBe(true);
  it.world.run(Seconds(1));
  expect(it.pinger.lost()).toEqual([]);
});

test('a home relay that drains is left without a loss, in either direction, long before it is gone', async () => {
  const it = await pinging();
  const { world, pinger, agent } = it;
  world.relay.core.drain(world.now, Seconds(20));
  world.relay.host.reactor.wake();
  const began = world.now;
  pinger.run(Seconds(2), Millis(2));
  expect(both(it, 'r2')).toBe(true);
  // Nothing passes there any more, so the relay need not wait for its deadline.
  expect(world.relay.eventsOf('drained')).toHaveLength(1);
  expect(elapsed(began, world.now)).toBeLessThan(Seconds(20));
  world.relay.core.shutdown(world.now);
  pinger.run(Millis(20), Millis(2));
  world.relay.host.kill();
  pinger.run(Seconds(3), Millis(5));
  world.run(Seconds(1));
  expect(pinger.lost()).toEqual([]);
  expect(pinger.served.size).toBe(pinger.sent.length);
  expect(pinger.duplicates).toBe(0);
  expect(agent.core.relays.home.name).toBe('r2');
  expect(agent.eventsOf('relay-home').at(-1)).toEqual({ kind: 'relay-home', relay: 'r2', reason: 'home_drains' });

  await world.startRelay('r1');
  pinger.run(Seconds(20), Millis(100));
  expect(links(it)).toEqual(['r1', 'r2']);
  expect(pinger.lost()).toEqual([]);
});

test('a relay that dies takes less than a second of a session', async () => {
  const it = await pinging();
  const { world, pinger } = it;
  const at = toMillis(elapsed(0 as typeof world.now, world.now));
  world.relay.host.kill();
  pinger.run(Seconds(6));
  expect(pinger.longestGap(at)).toBeLessThan(1000);
  expect(both(it, 'r2')).toBe(true);
  expect(world.until(() => it.agent.core.relays.home.name === 'r2', Seconds(10))).toBe(true);
  expect(world.until(() => it.connector.core.relays.home.name === 'r2', Seconds(30))).toBe(true);

  await world.startRelay('r1');
  expect(world.until(() => links(it).length === 2, Seconds(60))).toBe(true);
  expect(links(it)).toEqual(['r1', 'r2']);
});

test('TCP in both directions goes on while the relays are restarted one after the other', async () => {
  const it = await scene({ world: TWO });
  const { world } = it;
  const { app, stream } = connected(it);
  expect(world.until(() => links(it).length === 2, Seconds(5))).toBe(true);
  const whole = pattern(4_000_000);
  app.say(whole);
  stream.say(whole);
  for (const name of ['r1', 'r2']) {
    world.run(Millis(300));
    const relay = world.relayOf(name);
    relay.core.drain(world.now, Seconds(3));
    relay.host.reactor.wake();
    expect(world.until(() => relay.eventsOf('drained').length === 1, Seconds(4))).toBe(true);
    relay.core.shutdown(world.now);
    world.run(Millis(20));
    relay.host.kill();
    await world.startRelay(name);
    expect(world.until(() => links(it).length === 2, Seconds(30))).toBe(true);
  }
  expect(
    world.until(() => app.receivedBytes === whole.length && stream.receivedBytes === whole.length, Seconds(60)),
  ).toBe(true);
  expect(Buffer.compare(app.received, whole)).toBe(0);
  expect(Buffer.compare(stream.received, whole)).toBe(0);
});

test('a connector is found at a relay where the agent is not', async () => {
  const world = await World.create({ relays: ['r1', 'r2', 'r3', 'r4'] });
  const delay = (name: string, ms: number): void => {
    world.relayOf(name).host.path.delay = Millis(ms);
  };
  for (const name of ['r3', 'r4']) delay(name, 60);
  const agent = await world.agent('alice');
  expect(world.until(() => agent.core.relays.standby?.isReady === true && agent.core.relay.isReady)).toBe(true);
  expect([agent.core.relays.home.name, agent.core.relays.standby?.name].sort()).toEqual(['r1', 'r2']);
  expect(agent.core.relays.find('r3')!.isKept).toBe(false);
  for (const name of ['r1', 'r2']) delay(name, 200);
  for (const name of ['r3', 'r4']) delay(name, 5);
  const connector = await world.connector('c1', { services: { web: 'tcp://10.0.0.5:8080' } });
  expect(world.until(() => ready(connector) && connector.core.relays.standby?.isReady === true)).toBe(true);
  expect([connector.core.relays.home.name, connector.core.relays.standby?.name].sort()).toEqual(['r3', 'r4']);
  // r1 and r2 know no such connector, whoever asks there.
  const it = { world, agent, connector };
  connected(it);
  expect(['r3', 'r4']).toContain(carriers(it)[0]);
});

test('relays that the operator signs later are taken, those that are gone are left, and sessions go on', async () => {
  const it = await pinging();
  const { world, pinger, agent, connector } = it;
  for (const { core } of [agent, connector]) core.relays.setNames(world.now, ['r2']);
  pinger.run(Seconds(2));
  expect(both(it, 'r2')).toBe(true);
  expect(agent.core.relays.members.map(({ client }) => client.name)).toEqual(['r2']);
  for (const node of [agent, connector]) {
    node.core.relays.setNames(world.now, ['r2', 'r1']);
    node.core.relays.find('r1')!.setAddresses([world.relay.addresses[0]!]);
  }
  pinger.run(Seconds(3));
  expect(links(it)).toEqual(['r1', 'r2']);
  expect(pinger.longestGap(pinger.sent[0]!)).toBeLessThan(1000);
});

test('of three relays the third stands by when the home is gone, and a nearer one that comes back is home again', async () => {
  const world = await World.create({ relays: ['r1', 'r2', 'r3'] });
  const delay = (name: string, ms: number): void => {
    world.relayOf(name).host.path.delay = Millis(ms);
  };
  delay('r2', 25);
  delay('r3', 45);
  const agent = await world.agent('alice');
  const places = (): (string | undefined)[] => [agent.core.relays.home.name, agent.core.relays.standby?.name];
  const isKept = (name: string): boolean => agent.core.relays.find(name)!.isKept;
  expect(world.until(() => agent.core.relays.standby?.isReady === true)).toBe(true);
  expect(places()).toEqual(['r1', 'r2']);
  expect(isKept('r3')).toBe(false);
  world.run(Seconds(10));

  world.relay.core.shutdown(world.now);
  world.run(Millis(20));
  world.relay.host.kill();
  expect(world.until(() => agent.core.relays.standby?.isReady === true && places()[0] === 'r2')).toBe(true);
  expect(places()).toEqual(['r2', 'r3']);
  expect(isKept('r1')).toBe(false);

  await world.startRelay('r1');
  delay('r1', 5);
  world.run(Seconds(35));
  expect(places()[0]).toBe('r2');
  expect(world.until(() => places()[0] === 'r1', Seconds(90))).toBe(true);
  expect(places()).toEqual(['r1', 'r2']);
  expect(isKept('r3')).toBe(false);
  expect(agent.eventsOf('relay-home').map(({ relay, reason }) => `${relay} ${reason}`)).toEqual([
    'r1 first_ready',
    'r2 home_lost',
    'r1 nearer',
  ]);
});

test('a session whose standby is not there yet when its relay drains takes the next one that comes', async () => {
  const it = await pinging();
  const { world, pinger } = it;
  world.relayOf('r2').host.kill();
  pinger.run(Seconds(15));
  expect(links(it)).toEqual(['r1']);
  await world.startRelay('r2');
  world.relay.core.drain(world.now, Seconds(10));
  world.relay.host.reactor.wake();
  pinger.run(Seconds(9));
  expect(both(it, 'r2')).toBe(true);
  world.run(Seconds(1));
  expect(pinger.lost()).toEqual([]);
});

test('a connector that restarts while the home relay is away: over the standby it hears where the agent is', async () => {
  const direct = { direct: { path: 'auto' } } as const;
  const it: { -readonly [K in keyof Scene]: Scene[K] } = await scene({
    world: TWO,
    agent: { tun: true, ...direct },
    connector: direct,
  });
  const { world, connector } = it;
  new Pinger(it).run(Seconds(3));
  expect(bothUse(it, 'direct')).toBe(true);
  const home = world.relayOf(it.agent.core.relays.home.name);
  home.host.path.isDown = true;
  connector.host.kill();
  it.connector = await world.connector('c1', { services: SERVICES, ...direct }, connector.credentials);
  new Pinger(it).run(Seconds(30));
  expect(bothUse(it, 'direct')).toBe(true);
});

test('a relay that drains while it is asked for a channel, and the standby carries the session: its link is the first one', async () => {
  const it = await scene({ world: TWO, agent: { tun: true } });
  const { world, agent, connector } = it;
  const home = agent.core.relays.home.name;
  const other = home === 'r1' ? 'r2' : 'r1';
  const goesTo = (name: string, { to }: Packet): boolean =>
    world.relayOf(name).addresses.some((address) => address.equals(to));
  const isFrom = (node: SimNode, { from }: Packet): boolean => node.udp.some(({ external }) => external.equals(from));
  world.network.filter = (packet) => packet.bytes[0] !== RELAYED || !goesTo(other, packet);
  const pinger = new Pinger(it);
  pinger.run(Seconds(3));
  const session = agent.session('c1')!;
  expect([session.relayState, session.spare.link?.isLive]).toEqual(['live', false]);
  world.network.filter = (packet) => !isFrom(connector, packet) || !goesTo(home, packet);
  session.relayed!.connection.close(world.now, 0, 'test');
  agent.core.sessions.onLost(world.now, session, session.relayed!, 'test');
  pinger.run(Seconds(2));
  expect([session.relayState, session.spare.link?.isLive]).toEqual(['opening', true]);
  world.relayOf(home).core.drain(world.now, Seconds(60));
  world.relayOf(home).host.reactor.wake();
  pinger.run(Seconds(1));
  expect(session.relayState).toBe('live');
  world.network.filter = undefined;
  const from = pinger.sent.length;
  pinger.run(Seconds(20));
  world.run(Seconds(1));
  expect([...session.allLinks()].length).toBe(session.set.size);
  expect(world.relayOf(other).channels).toBe(1);
  expect(pinger.lost(from)).toEqual([]);
});

test('a standby whose connector was slow to answer once gets its link after all, though its relay has nothing new to say', async () => {
  const it = await pinging();
  const { world, agent, connector } = it;
  const { spare } = agent.session('c1')!;
  const far = world.relayOf('r2').addresses;
  spare.link!.renewAt = world.now;
  it.pinger.run(Millis(1200), Millis(100));
  // Its answers alone are lost: it hears the relay, and stays there.
  world.network.filter = ({ from, to }) =>
    !connector.udp.some(({ external }) => external.equals(from)) || !far.some((address) => address.equals(to));
  it.pinger.run(Seconds(7), Millis(100));
  expect(links(it)).toEqual(['r1']);
  world.network.filter = undefined;
  it.pinger.run(Seconds(60), Millis(100));
  expect(links(it)).toEqual(['r1', 'r2']);
});

test('relays that never come leave no timer that runs hot', async () => {
  const it = await pinging();
  const { world } = it;
  world.relayOf('r2').host.kill();
  world.run(Seconds(120));
  const { turns } = world;
  world.run(Seconds(60));
  expect((world.turns - turns) / 60).toBeLessThan(20);
});
