/** Limits of channels and nodes: what passes, what is dropped and counted, and that the others do not notice. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { type Instant, later, Micros, Millis, Seconds } from '../../src/base/time.js';
import { Meter, NO_LIMITS, type RelayLimits } from '../../src/relay/limits.js';
import { innerPacket, type RogueNode } from '../support/rogue.js';
import { World } from '../support/world.js';
import { answering, channel, joined, register } from './fixtures.js';

const START = 0 as Instant;

describe('a meter', () => {
  it('is none where nothing is limited', () => {
    expect(Meter.for({ bytes: 0, packets: 0 })).toBeUndefined();
  });

  it('lets a tenth of a second pass at once, 128 packets and 128 KiB at least', () => {
    expect(Meter.for({ bytes: 0, packets: 5000 })!.room(START, 1000, 1)).toBe(500);
    expect(Meter.for({ bytes: 0, packets: 1 })!.room(START, 1000, 65_000)).toBe(128);
    expect(Meter.for({ bytes: 1, packets: 0 })!.room(START, 1000, 1200)).toBe(Math.floor((128 * 1024) / 1200));
    expect(Meter.for({ bytes: 1, packets: 10 })!.room(START, 1000, 128 * 1024 + 1)).toBe(0);
  });

  it('never lets more pass than its burst and what has flowed in, and no less when asked for more', () => {
    const step = fc.tuple(
      fc.integer({ min: 0, max: 200_000 }),
      fc.integer({ min: 1, max: 64 }),
      fc.integer({ min: 21, max: 1443 }),
    );
    const rate = fc.integer({ min: 1, max: 5_000_000 });
    fc.assert(
      fc.property(rate, rate, fc.array(step, { maxLength: 50 }), (bytes, packets, steps) => {
        const meter = Meter.for({ bytes, packets })!;
        let now = START;
        let [passed, carried] = [0, 0];
        for (const [span, count, size] of steps) {
          now = later(now, Micros(span));
          const room = meter.room(now, count, size);
          meter.spend(now, room, room * size);
          passed += room;
          carried += room * size;
          const seconds = now / 1e6;
          const most = Math.max(packets / 10, 128) + packets * seconds;
          const mostBytes = Math.max(bytes / 10, 128 * 1024) + bytes * seconds;
          expect(passed).toBeLessThanOrEqual(most + 1e-6);
          expect(carried).toBeLessThanOrEqual(mostBytes + 1e-6);
          // Whoever got less than it asked for met a limit.
          if (room < count)
            expect(passed + 1 > most - 1e-6 || carried + size > mostBytes - 1e-6 || seconds > 0).toBe(true);
        }
      }),
    );
  });
});

async function scene(limits: Partial<RelayLimits>) {
  const world = await World.create({ limits: { ...NO_LIMITS, ...limits } });
  const connector = answering(await joined(world, 'connector', 'c1'));
  register(world, connector, 'web', 'box');
  const alice = await joined(world, 'agent', 'alice');
  const bob = await joined(world, 'agent', 'bob');
  const open = (agent: RogueNode) => channel(world, agent, connector);
  const sides = { alice: open(alice), other: open(alice), bob: open(bob) };
  const arrived = (node: RogueNode, id: string): number => node.relayed.filter((one) => one.channel === id).length;
  const drops = (): number => world.relay.core.drops.get('rate_limited');
  return { world, connector, alice, bob, sides, arrived, drops };
}

/** `perStep` packets every 10 ms for a second. */
function flood(world: World, node: RogueNode, id: string, perStep: number, size: number): void {
  for (let step = 0; step < 100; step++) {
    for (let i = 0; i < perStep; i++) node.relay1(id, innerPacket(size, 1));
    world.run(Millis(10));
  }
  world.run(Millis(50));
}

test('a channel’s packets: what exceeds the limit is counted, other channels carry all', async () => {
  const { world, connector, alice, bob, sides, arrived, drops } = await scene({ channel: { bytes: 0, packets: 1000 } });
  flood(world, alice, sides.alice.agentSide, 40, 100);
  const passed = arrived(connector, sides.alice.connectorSide);
  expect(passed).toBeGreaterThanOrEqual(1000);
  expect(passed).toBeLessThanOrEqual(1000 * 1.05 + 128);
  expect(drops()).toBe(4000 - passed);
  expect(world.relay.core.forwarder.counters.limitedPackets).toBe(4000 - passed);
  const side = [...world.relay.core.registry.agent('alice')!.channels].find((one) => one.id === sides.alice.agentSide)!;
  expect([side.packets, side.dropped, side.peer.dropped]).toEqual([passed, 4000 - passed, 0]);
  // Another channel of the same agent, another agent, and the way back have their own.
  for (const [node, id, to, toId] of [
    [alice, sides.other.agentSide, connector, sides.other.connectorSide],
    [bob, sides.bob.agentSide, connector, sides.bob.connectorSide],
    [connector, sides.alice.connectorSide, alice, sides.alice.agentSide],
  ] as const) {
    for (let i = 0; i < 100; i++) node.relay1(id, innerPacket(100, 2));
    world.run(Millis(50));
    expect(arrived(to, toId)).toBe(100);
  }
});

test('a channel’s bytes: of a run, what fits goes on in order, and the bytes of the header are free', async () => {
  const { world, connector, alice, sides, drops } = await scene({ channel: { bytes: 1000, packets: 0 } });
  for (let i = 0; i < 128; i++) alice.relay1(sides.alice.agentSide, innerPacket(1200, i));
  world.run(Millis(50));
  const fits = Math.floor((128 * 1024) / 1200);
  expect(connector.relayed.map(({ inner }) => inner[1])).toEqual(Array.from({ length: fits }, (_, i) => i));
  expect(drops()).toBe(128 - fits);
});

test('an agent’s limit holds for all its channels together, what it sends and what is sent to it each by itself', async () => {
  const { world, connector, alice, bob, sides, arrived } = await scene({ agent: { bytes: 0, packets: 1000 } });
  for (const { agentSide, connectorSide } of [sides.alice, sides.other]) {
    for (let i = 0; i < 100; i++) alice.relay1(agentSide, innerPacket(100, 1));
    for (let i = 0; i < 100; i++) connector.relay1(connectorSide, innerPacket(100, 1));
  }
  for (let i = 0; i < 120; i++) bob.relay1(sides.bob.agentSide, innerPacket(100, 1));
  world.run(Millis(50));
  const up = arrived(connector, sides.alice.connectorSide) + arrived(connector, sides.other.connectorSide);
  const down = arrived(alice, sides.alice.agentSide) + arrived(alice, sides.other.agentSide);
  expect([up, down]).toEqual([128, 128]);
  expect(arrived(connector, sides.bob.connectorSide)).toBe(120);
  world.run(Seconds(1));
  for (let i = 0; i < 100; i++) alice.relay1(sides.other.agentSide, innerPacket(100, 1));
  world.run(Millis(50));
  expect(arrived(connector, sides.other.connectorSide) + arrived(connector, sides.alice.connectorSide)).toBe(up + 100);
});

test('a connector’s limit holds for all its agents together', async () => {
  const { world, connector, alice, bob, sides, arrived } = await scene({ connector: { bytes: 0, packets: 1000 } });
  for (let i = 0; i < 100; i++) {
    alice.relay1(sides.alice.agentSide, innerPacket(100, 1));
    bob.relay1(sides.bob.agentSide, innerPacket(100, 1));
  }
  world.run(Millis(50));
  const both = [sides.alice, sides.bob].map((side) => arrived(connector, side.connectorSide));
  expect(both[0]! + both[1]!).toBe(128);
});
