/**
 * Certificates that end while packets flow through the relay: its connections, and the links through it, are made anew beside the old ones,
 * and nothing is lost.
 */
import { expect, test } from 'vitest';
import {
  Days,
  type Duration,
  elapsed,
  later,
  Millis,
  Minutes,
  Seconds,
  toMillis,
  wallLater,
} from '../../src/base/time.js';
import { ready, type Scene, SERVICES } from '../connector/fixtures.js';

import type { SimAgent, SimConnector } from '../support/sim-nodes.js';
import { WALL } from '../support/sim-reactor.js';
import { World } from '../support/world.js';
import { Pinger } from './direct-scene.js';

/** What the nodes' certificates have left at the start. */
const LEFT = Minutes(6);

async function shortLived(world: World, role: 'agent' | 'connector', name: string) {
  const node = await world.operator.enrol(role, name, ['staff']);
  const begun = wallLater(WALL, (LEFT - Days(7)) as Duration);
  return { ...node, certificatePem: await world.operator.certify(role, name, node.keyPem, begun) };
}

async function pinging(relays: readonly string[]) {
  const world = await World.create({ relays });
  const connector = await world.connector('c1', { services: SERVICES }, await shortLived(world, 'connector', 'c1'));
  const agent = await world.agent('alice', { tun: true }, await shortLived(world, 'agent', 'alice'));
  const it: Scene = { world, connector, agent };
  expect(world.until(() => ready(connector) && agent.core.available.has('web'))).toBe(true);
  const pinger = new Pinger(it);
  pinger.run(Seconds(2));
  return { ...it, pinger, start: world.now };
}

async function renew(world: World, nodes: readonly (SimAgent | SimConnector)[]): Promise<void> {
  for (const { credentials, endpoints } of nodes) {
    const { role, name, keyPem } = credentials;
    const certificate = await world.operator.certify(role, name, keyPem, world.clock.wall);
    for (const endpoint of [endpoints.relay, endpoints.links]) endpoint.setIdentity(certificate, keyPem);
  }
}

const kinds = ({ agent, connector }: Scene): string[] =>
  [...agent.events, ...connector.events].map(({ kind }) => kind).filter((kind) => /lost|closed|refused/.test(kind));

test.each([[['r1']], [['r1', 'r2']]])(
  'through %j: nothing is lost at the renewal, nor when the old certificates end',
  async (relays) => {
    const it = await pinging(relays);
    const { world, agent, connector, pinger, start } = it;
    const until = (minutes: number): Duration => elapsed(world.now, later(start, Minutes(minutes)));
    const session = agent.session('c1')!;
    const first = session.relayed;
    world.run(until(4));
    await renew(world, [agent, connector]);
    world.run(until(4.9));
    const own = kinds(it);
    const before = pinger.sent.length;
    // At five sixths of six minutes.
    const end = later(world.now, Seconds(20));
    while (session.relayed === first && world.now < end) pinger.run(Seconds(1), Millis(5));
    expect(session.relayed).not.toBe(first);
    // What the change has begun is over in seconds; whatever comes later is seen as well.
    pinger.run(Seconds(3), Millis(5));
    pinger.run(elapsed(world.now, end), Millis(10));
    expect(session.relayed!.isLive).toBe(true);
    for (const relay of world.relays) {
      expect(
        relay
          .eventsOf('node-resumed')
          .map(({ node }) => node)
          .sort(),
      ).toEqual(['agent/alice', 'connector/c1']);
      expect(relay.core.registry.size).toBe(2);
      expect([...relay.endpoint.connections].length).toBe(2);
      expect([relay.channels, relay.eventsOf('node-lost').length]).toEqual([1, 0]);
    }
    expect(connector.sessions[0]!.links.size).toBe(relays.length);
    world.run(until(5.9));
    pinger.run(Seconds(15));
    world.run(Seconds(1));
    expect(pinger.lost()).toEqual([]);
    expect(pinger.duplicates).toBe(0);
    expect(before).toBeLessThan(pinger.sent.length);
    // The connector tells of each link that its agent has left.
    expect(
      kinds(it)
        .slice(own.length)
        .filter((kind) => kind !== 'link-lost'),
    ).toEqual([]);
    expect(agent.eventsOf('session').map(({ to }) => to)).toEqual(['opening', 'linking', 'live']);
    expect(connector.eventsOf('registered').length).toBe(relays.length * Object.keys(SERVICES).length);
    expect(toMillis(elapsed(start, world.now))).toBeGreaterThan(6 * 60_000);
  },
);
