/** A network with one connector before its services, and an agent that may use them. */
import { expect } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import type { PolicyDocument } from '../../src/policy/document.js';
import { joined } from '../relay/fixtures.js';
import { App } from '../support/app.js';
import type { RogueNode } from '../support/rogue.js';
import type { RogueConnection } from '../support/rogue-connection.js';
import type { AgentSetup, ConnectorSetup, SimAgent, SimConnector } from '../support/sim-nodes.js';
import { World, type WorldOptions } from '../support/world.js';

export const WEB = '10.100.0.1:80';
export const BACKEND = '10.0.0.5:8080';
export const SERVICES = {
  web: 'tcp://10.0.0.5:8080',
  dns: 'udp://10.0.0.5:5353',
  box: 'any://10.0.0.6',
  pair: 'tcp://10.0.0.7:7000',
};

export interface Scene {
  readonly world: World;
  readonly connector: SimConnector;
  readonly agent: SimAgent;
}

export async function scene(
  options: {
    readonly world?: WorldOptions;
    readonly agent?: AgentSetup;
    readonly connector?: Partial<ConnectorSetup>;
  } = {},
  /** False: an agent that knows no relay yet. */
  isReady = true,
): Promise<Scene> {
  const world = await World.create(options.world);
  const connector = await world.connector('c1', { services: SERVICES, ...options.connector });
  const agent = await world.agent('alice', options.agent);
  if (!isReady) return { world, connector, agent };
  expect(
    world.until(() => ready(connector) && agent.core.relay.state === 'ready' && agent.core.available.has('web')),
  ).toBe(true);
  return { world, connector, agent };
}

export function ready(connector: SimConnector): boolean {
  return (
    connector.core.relay.state === 'ready' &&
    [...connector.backends.keys()].every((id) => connector.core.registrar.statusOf(id) === 'ok')
  );
}

/** A connection that stands, and its backend's end of it. */
export function connected({ world, connector, agent }: Scene, to = WEB, backend = BACKEND) {
  const target = connector.host.sockets.tcpBackend(backend);
  const before = target.streams.length;
  const app = new App(agent, to);
  expect(world.until(() => app.connected && target.streams.length > before, Seconds(5))).toBe(true);
  return { app, stream: target.streams.at(-1)! };
}

/** The services, two of them with each other's virtual addresses. */
export function swapped(services: PolicyDocument['services'], one: string, other: string): PolicyDocument['services'] {
  const addressesOf = (id: string) => {
    const { virtualIp4, virtualIp6 } = services.find((service) => service.id === id)!;
    return { virtualIp4, virtualIp6 };
  };
  const of = new Map([
    [one, addressesOf(other)],
    [other, addressesOf(one)],
  ]);
  return services.map((service) => ({ ...service, ...of.get(service.id) }));
}

/** An enrolled agent whose every packet the test says, with a live link to the connector `c1`. */
export async function hostileLink(
  world: World,
  name = 'mallory',
): Promise<{ readonly node: RogueNode; readonly link: RogueConnection }> {
  const node = await joined(world, 'agent', name);
  node.say({ type: 'open', id: 1, service: 'web' });
  expect(world.until(() => node.relay.of('opened').length === 1, Seconds(2))).toBe(true);
  const channel = node.openChannel(node.relay.of('opened')[0]!['channel'] as string);
  const link = node.link(channel, 'c1.connector.acme');
  expect(world.until(() => link.connected, Seconds(2))).toBe(true);
  const { proof } = node.credentials;
  link.say({ type: 'hello', version: 1, session: 'cd'.repeat(16), link: 0, proof, capabilities: [] });
  node.host.reactor.wake();
  expect(world.until(() => link.of('welcome').length === 1, Seconds(2))).toBe(true);
  return { node, link };
}
