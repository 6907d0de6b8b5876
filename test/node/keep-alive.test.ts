/** Idle mappings: what a measured lifetime makes a node send, that it holds both its connections, and that nothing else sends more. */
import { describe, expect, it, test } from 'vitest';
import { Millis, Seconds } from '../../src/base/time.js';
import { keepAliveSeconds } from '../../src/node/keep-alive.js';
import type { QuicConnection } from '../../src/quic/connection.js';
import type { Scene } from '../connector/fixtures.js';
import { type NatOptions, SimNat } from '../support/sim-nat.js';
import type { SimHost } from '../support/sim-nodes.js';
import type { World } from '../support/world.js';
import { bothUse, directScene, manager, Pinger, pinging } from './direct-scene.js';

/** What a look at the NAT would have told: the longest span that is tried below its lifetime. */
function tell({ world, agent, connector }: Scene, ipv4: number | undefined): void {
  for (const node of [agent, connector]) {
    node.endpoints.keepAlive.setLifetimes(world.now, { ipv4, ipv6: undefined });
    node.host.reactor.wake();
  }
}

const behind = (seconds: number, path: 'auto' | 'relay' = 'auto', ours: NatOptions = {}, theirs: NatOptions = {}) => ({
  agent: { direct: { path }, nat: new SimNat(10, { lifetime: Seconds(seconds), ...ours }) },
  connector: { direct: { path }, nat: new SimNat(20, { lifetime: Seconds(seconds), ...theirs }) },
});
/** The agent's has a mapping for every address: what is sent to the relay does not keep the direct link's. */
const BY_ADDRESS = [{ mapping: 'address', filtering: 'address' }, { filtering: 'address' }] as const;

/** Whether the other end of a connection is reached now, and answers. */
function reaches(world: World, connection: QuicConnection, { reactor }: SimHost): boolean {
  connection.ping();
  reactor.wake();
  world.run(Millis(200));
  return connection.silentFor(world.now) < Millis(200);
}

const linkOf = ({ connector }: Scene) => connector.sessions[0]!.link!;
const reachesAgent = (it: Scene): boolean => reaches(it.world, linkOf(it).connection, it.connector.host);

test.each([
  [0, 3, 3],
  [5, 4, 4],
  [10, 8, 8],
  [15, 10, 12],
  [25, 10, 15],
  [295, 10, 15],
])(
  'mappings that live %i s: a relay connection sends after %i s, a direct link after %i s',
  (atLeast, relay, direct) => {
    expect(keepAliveSeconds(atLeast)).toEqual({ relay, direct });
  },
);

describe.each([
  [12, 10],
  [6, 5],
])('NATs that forget after %i s', (seconds, measured) => {
  it('do not forget an idle direct link that is kept alive', async () => {
    const it = await pinging(behind(seconds, 'auto', ...BY_ADDRESS));
    tell(it, measured);
    const link = it.agent.session('c1')!.link;
    it.world.run(Seconds(300));
    expect(it.agent.session('c1')!.link).toBe(link);
    expect(bothUse(it, 'direct')).toBe(true);
    expect(reachesAgent(it)).toBe(true);
  });

  it('do not forget idle relay connections that are kept alive', async () => {
    const it = await directScene(behind(seconds, 'relay'));
    tell(it, measured);
    const { relay } = it.world;
    const connections = [...relay.endpoint.connections];
    it.world.run(Seconds(300));
    expect([...relay.endpoint.connections]).toEqual(connections);
    expect(connections.map((one) => reaches(it.world, one, relay.host))).toEqual([true, true]);
  });
});

test('what is not told of such a NAT loses its direct link', async () => {
  const it = await pinging(behind(6));
  const link = linkOf(it);
  it.world.run(Seconds(120));
  expect(linkOf(it) === link && reachesAgent(it)).toBe(false);
});

test('where mappings live long nothing more is sent, and no timer runs', async () => {
  const it = await pinging(behind(60));
  tell(it, 55);
  it.world.run(Seconds(60));
  for (const { endpoints } of [it.agent, it.connector]) {
    expect([endpoints.keepAlive.pings, endpoints.keepAlive.due]).toEqual([0, undefined]);
  }
});

test('a node asks no more often than the interval says, one whose peer has gone silent too', async () => {
  const it = await pinging(behind(60));
  tell(it, 5);
  const { keepAlive } = it.agent.endpoints;
  const pings = (): number => {
    const before = keepAlive.pings;
    it.world.run(Seconds(40));
    return keepAlive.pings - before;
  };
  // Relay connection and direct link, every 3.5 to 4 s.
  const usual = pings();
  expect(usual).toBeGreaterThanOrEqual(10);
  expect(usual).toBeLessThanOrEqual(24);
  it.connector.host.kill();
  expect(pings()).toBeLessThanOrEqual(24);
});

describe('both ends behind NATs that forget after 30 s, nothing measured', () => {
  it('ten minutes of silence: the same direct link', async () => {
    const it = await pinging(behind(30));
    const link = it.agent.session('c1')!.link;
    it.world.run(Seconds(600));
    expect(it.agent.session('c1')!.link).toBe(link);
    expect(reachesAgent(it)).toBe(true);
  });

  it.each(['direct', 'relay'] as const)('600 pings, one a second, %s', async (via) => {
    const path = via === 'direct' ? 'auto' : 'relay';
    const options = behind(30, path);
    const it = await directScene({ ...options, agent: { ...options.agent, tun: true } });
    const pinger = new Pinger(it);
    pinger.run(Seconds(2));
    const from = pinger.sent.length;
    expect(bothUse(it, via)).toBe(true);
    const { activeReason } = manager(it);
    pinger.run(Seconds(600), Seconds(1));
    expect([pinger.sent.length - from, pinger.lost(from)]).toEqual([600, []]);
    expect(manager(it).activeReason).toBe(activeReason);
    expect(bothUse(it, via)).toBe(true);
  });
});
