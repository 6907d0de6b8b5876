/** Agents with a network around them; connectors that tell lies. */
import { expect } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { joined, register } from '../relay/fixtures.js';
import type { Credentials } from '../support/identities.js';
import type { RogueNode } from '../support/rogue.js';
import type { RogueConnection } from '../support/rogue-connection.js';
import type { SimAgent } from '../support/sim-nodes.js';
import type { World } from '../support/world.js';

export const overlay = (agent: SimAgent): string => agent.credentials.identity.overlay4!.toString();

/** Waits until the agent has a live session with this connector. */
export function live(world: World, agent: SimAgent, connector = 'c1', limit = Seconds(10)): boolean {
  return world.until(() => agent.session(connector)?.isLive === true, limit);
}

/** A connector that the test speaks for: it registers, answers channels, and takes links; what it says on them is the test's. */
export async function lyingConnector(
  world: World,
  name: string,
  services: readonly string[],
  linkCredentials?: Credentials,
): Promise<RogueNode> {
  const node = await joined(world, 'connector', name, linkCredentials === undefined ? {} : { linkCredentials });
  node.relay.onMessage = (message) => {
    if (message.type !== 'channel') return;
    node.openChannel(message['channel'] as string);
    node.say({ type: 'ready', channel: message['channel'] });
  };
  for (const [service, status] of Object.entries(register(world, node, ...services))) {
    expect([service, status]).toEqual([service, 'ok']);
  }
  return node;
}

/** Answers the hello of the newest link of a lying connector. */
export function welcome(node: RogueNode, link: RogueConnection, more: object = {}): void {
  const hello = link.of('hello')[0]!;
  link.say({
    type: 'welcome',
    version: 1,
    session: hello['session'],
    resumed: false,
    proof: node.credentials.proof,
    services: ['web', 'dns', 'box', 'pair'],
    innerMtu: 1400,
    ...more,
  });
  node.host.reactor.wake();
}
