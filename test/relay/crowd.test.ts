/** Many nodes at once: a relay that is killed and restarted has all of them back, and idle ones cost it nearly nothing. */
import { expect, test } from 'vitest';
import { elapsed, Millis, Seconds, toSeconds } from '../../src/base/time.js';
import { BACKEND, ready, SERVICES, WEB } from '../connector/fixtures.js';
import { App } from '../support/app.js';
import type { SimAgent } from '../support/sim-nodes.js';
import { World } from '../support/world.js';

const AGENTS = 99;

test('100 nodes on a relay that is killed and restarted: all told, and back within 5 s, their flows too', async () => {
  const world = await World.create();
  const connector = await world.connector('c1', { services: SERVICES });
  const backend = connector.host.sockets.tcpBackend(BACKEND);
  const agents: SimAgent[] = [];
  for (let i = 0; i < AGENTS; i++) agents.push(await world.agent(`a${i}`));
  const isReady = (agent: SimAgent): boolean => agent.core.relay.state === 'ready' && agent.core.available.has('web');
  const allReady = (): boolean => ready(connector) && agents.every(isReady);
  expect(world.until(allReady, Seconds(20))).toBe(true);
  // Every ninth agent has a connection; the others have nothing to say.
  const apps = agents.filter((_, i) => i % 9 === 0).map((agent) => new App(agent, WEB));
  expect(world.until(() => apps.every((app) => app.connected), Seconds(10))).toBe(true);
  // A keep-alive has just been sent: the next would be 10 s later.
  world.run(Seconds(11));

  const before = world.relay.core.whereNodesAre();
  expect(before).toHaveLength(AGENTS + 1);
  world.relay.host.kill();
  const killed = world.now;
  world.run(Millis(500));
  await world.startRelay();
  world.relay.core.tellFormer(world.now, before);
  expect(world.until(() => world.relay.core.registry.size === AGENTS + 1 && allReady(), Seconds(5))).toBe(true);
  expect(world.until(() => world.relay.channels === apps.length, Seconds(5))).toBe(true);
  expect(toSeconds(elapsed(killed, world.now))).toBeLessThan(5);
  for (const app of apps) app.say('still here');
  const heard = (): number => backend.streams.filter((stream) => stream.text() === 'still here').length;
  expect(world.until(() => heard() === apps.length, Seconds(1))).toBe(true);
  // Nobody was turned away on the way, and nobody came twice.
  expect(world.relay.core.counts).toMatchObject({ admitted: AGENTS + 1, replaced: 0, refused: 0 });
});
