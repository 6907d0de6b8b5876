/** A relay behind something that hides its nodes says so, once; one that is not, never. */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { at } from '../support/sim-nodes.js';
import { World } from '../support/world.js';
import { admitted } from './fixtures.js';

async function seenFrom(...addresses: string[]) {
  const world = await World.create({ dualStack: true });
  for (const [i, address] of addresses.entries()) {
    const v6 = address.startsWith('[') ? { v6: '2001:db8:7::5' } : {};
    const node = await world.rogue(await world.operator.enrol('agent', `a${i}`, ['staff']), v6);
    node.socket.rebind(at(address));
    admitted(world, node);
  }
  world.run(Seconds(60));
  return world;
}
const told = (world: World): string[] => world.relay.eventsOf('nodes-hidden').map(({ address }) => address);

test.each([
  ['10.0.0.1', ['10.0.0.1:1000', '10.0.0.1:1001', '10.0.0.1:1002']],
  ['172.17.0.1', ['172.17.0.1:5', '172.17.0.1:6']],
  ['100.64.3.4', ['100.64.3.4:5', '100.64.3.4:6']],
  ['fd00::7', ['[fd00::7]:5', '[fd00::7]:6']],
])('all nodes seen from %s: said once, and in the status', async (address, nodes) => {
  const world = await seenFrom(...nodes);
  expect(told(world)).toEqual([address]);
  expect(world.relay.core.hiddenBy?.toString()).toBe(address);
});

test.each([
  ['a public address of an office', ['203.0.113.7:1000', '203.0.113.7:1001']],
  ['loopback', ['127.0.0.1:1000', '127.0.0.1:1001']],
  ['one node alone', ['10.0.0.1:1000']],
  ['different private addresses', ['10.0.0.1:1000', '10.0.0.2:1001']],
  ['one from elsewhere', ['10.0.0.1:1000', '10.0.0.1:1001', '203.0.113.7:5']],
])('%s: nothing is said', async (_name, nodes) => {
  const world = await seenFrom(...nodes);
  expect(told(world)).toEqual([]);
  expect(world.relay.core.hiddenBy).toBeUndefined();
});

test('it is no longer in the status when somebody is seen from elsewhere', async () => {
  const world = await seenFrom('10.0.0.1:1000', '10.0.0.1:1001');
  admitted(world, await world.rogue(await world.operator.enrol('agent', 'far', ['staff'])));
  world.run(Seconds(6));
  expect(world.relay.core.hiddenBy).toBeUndefined();
});
