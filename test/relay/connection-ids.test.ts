/** What somebody on the wire can follow: the connection ids of a relay connection, watched in both directions. */
import { expect, test } from 'vitest';
import { elapsed, Seconds, toSeconds } from '../../src/base/time.js';
import { World } from '../support/world.js';
import { joined } from './fixtures.js';

const ID_BYTES = 8;
/** Connection ids that either end keeps valid at once. */
const ACTIVE_IDS = 5;

test('a relay connection changes its connection ids every 300 s, in both directions, and lives on', async () => {
  const world = await World.create();
  const node = await joined(world, 'agent', 'alice');
  world.run(Seconds(2));
  const relay = world.relay.addresses[0]!;
  const since = world.now;
  const seen = { toRelay: new Map<string, number>(), toNode: new Map<string, number>() };
  world.network.filter = ({ to, bytes }) => {
    // Short headers only: 01xxxxxx · destination connection id.
    if ((bytes[0]! & 0xc0) !== 0x40) return true;
    const direction = to.equals(relay) ? seen.toRelay : seen.toNode;
    const id = Buffer.from(bytes.subarray(1, 1 + ID_BYTES)).toString('hex');
    if (!direction.has(id)) direction.set(id, Math.round(toSeconds(elapsed(since, world.now))));
    return true;
  };
  world.run(Seconds(290));
  expect([seen.toRelay.size, seen.toNode.size]).toEqual([1, 1]);
  const rotations = 12;
  world.run(Seconds(20 + (rotations - 1) * 300));
  for (const ids of [seen.toRelay, seen.toNode]) {
    const perRotation = new Array<number>(rotations + 1).fill(0);
    for (const time of ids.values()) {
      const nth = Math.round(time / 300);
      perRotation[nth]!++;
      // The handshake was 2 s before; a change is seen with the next keep-alive.
      expect(Math.abs(time - nth * 300)).toBeLessThanOrEqual(15);
    }
    expect(Math.min(...perRotation)).toBeGreaterThanOrEqual(1);
    // Spare ids that grow old together are passed through within a moment: never more than may be active.
    expect(Math.max(...perRotation)).toBeLessThanOrEqual(ACTIVE_IDS);
  }
  expect(node.relay.closed).toBeUndefined();
  // An id that was given up is the relay's no longer, and comes back never.
  expect(new Set([...seen.toRelay.keys(), ...seen.toNode.keys()]).size).toBe(seen.toRelay.size + seen.toNode.size);
});
