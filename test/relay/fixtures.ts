/** Nodes that speak to the relay word by word. */
import { expect } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import type { NodeCredentials } from '../support/identities.js';
import type { RogueNode, RogueOptions } from '../support/rogue.js';
import type { RogueConnection } from '../support/rogue-connection.js';
import type { World } from '../support/world.js';

/** A relay connection that has shown its certificate and not yet said hello. */
export function dialled(world: World, node: RogueNode): RogueConnection {
  const relay = node.dial();
  expect(world.until(() => relay.connected)).toBe(true);
  return relay;
}

/** Says hello and waits for the relay's; the connection that was admitted. */
export function admitted(world: World, node: RogueNode): RogueConnection {
  const relay = dialled(world, node);
  node.hello();
  expect(world.until(() => relay.of('hello').length === 1)).toBe(true);
  return relay;
}

/** Says hello; the code the relay refuses it with. */
export function refusedWith(world: World, node: RogueNode, hello: object = {}): string {
  const relay = dialled(world, node);
  node.hello(hello);
  expect(world.until(() => relay.closed !== undefined)).toBe(true);
  expect(relay.of('hello')).toEqual([]);
  return relay.closed!.text.split(':')[0]!;
}

export async function joined(
  world: World,
  role: 'agent' | 'connector',
  name: string,
  options: RogueOptions & { readonly groups?: readonly string[]; readonly credentials?: NodeCredentials } = {},
): Promise<RogueNode> {
  const { groups = role === 'agent' ? ['staff'] : [] } = options;
  const credentials = options.credentials ?? (await world.operator.enrol(role, name, groups));
  const node = await world.rogue(credentials, { acceptsLinks: role === 'connector', ...options });
  admitted(world, node);
  return node;
}

let nextId = 1;

/** Registers services and returns the relay's statuses by service. */
export function register(world: World, node: RogueNode, ...services: string[]): Record<string, string> {
  const id = nextId++;
  node.say({ type: 'register', id, services: services.map((service) => ({ id: service })) });
  const answer = () => node.relay.of('registered').find((message) => message['id'] === id);
  expect(world.until(() => answer() !== undefined)).toBe(true);
  const list = answer()!['services'] as { id: string; status: string }[];
  return Object.fromEntries(list.map((one) => [one.id, one.status]));
}

/** A connector that answers every `channel` with `ready` at once. */
export function answering(node: RogueNode): RogueNode {
  const answer = (message: { readonly type: string; readonly channel?: unknown }): void => {
    if (message.type === 'channel') node.say({ type: 'ready', channel: message.channel });
  };
  node.relay.onMessage = answer;
  return node;
}

export interface Outcome {
  readonly type: string;
  readonly code?: string;
  readonly channel?: string;
  readonly connector?: string;
}

/** Asks for a channel; what the relay answers within `limit`, or undefined. */
export function ask(world: World, agent: RogueNode, service: string, connector?: string, limit = Seconds(8)) {
  const id = nextId++;
  agent.say({ type: 'open', id, service, ...(connector === undefined ? {} : { connector }) });
  const answer = () =>
    agent.relay.messages.find((m) => m['id'] === id && (m.type === 'opened' || m.type === 'error')) as
      | Outcome
      | undefined;
  world.until(() => answer() !== undefined, limit);
  return answer();
}

/** An open channel: its id on either side. */
export function channel(
  world: World,
  agent: RogueNode,
  connector: RogueNode,
  service = 'web',
): { readonly agentSide: string; readonly connectorSide: string } {
  const outcome = ask(world, agent, service, connector.credentials.name);
  expect(outcome?.type).toBe('opened');
  const told = connector.relay.of('channel').at(-1)!;
  return { agentSide: outcome!.channel!, connectorSide: told['channel'] as string };
}
