/** PROBE: what the relay answers, from which port, when, and what bounds it. */
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { elapsed, type Instant, Millis, Seconds } from '../../src/base/time.js';
import { MOST_WAITING } from '../../src/relay/probe-answers.js';
import { decodeProbeReply, encodeProbe, Frame, type ProbeReply } from '../../src/tunnel/frames.js';
import { at, PROBE_PORT, RELAY_PORT } from '../support/sim-nodes.js';
import { World } from '../support/world.js';
import { joined } from './fixtures.js';

interface Came {
  readonly from: SocketAddress;
  readonly at: Instant;
  readonly reply: ProbeReply;
}

async function scene() {
  const world = await World.create();
  const agent = await joined(world, 'agent', 'alice');
  const came: Came[] = [];
  agent.socket.arrivals.push((from, bytes) => {
    const reply = bytes[0] === Frame.probeReply ? decodeProbeReply(bytes, 0, bytes.length) : undefined;
    if (reply !== undefined) came.push({ from, at: world.now, reply });
  });
  const main = world.relay.addresses[0]!;
  const second = new SocketAddress(main.ip, PROBE_PORT);
  const ask = (to: SocketAddress, low: number, fromOtherPort = false, delaySeconds = 0): void =>
    agent.socket.sendRaw(to, encodeProbe({ high: 0, low }, fromOtherPort, delaySeconds));
  return { world, agent, came, main, second, ask };
}

test.each([
  ['its own port', RELAY_PORT, false, RELAY_PORT],
  ['the other port, asked at its own', RELAY_PORT, true, PROBE_PORT],
  ['the second port', PROBE_PORT, false, PROBE_PORT],
  ['its own port, asked at the second', PROBE_PORT, true, RELAY_PORT],
])('the relay answers from %s', async (_name, asked, fromOtherPort, answering) => {
  const { world, agent, came, main, ask } = await scene();
  ask(new SocketAddress(main.ip, asked), 1, fromOtherPort);
  world.run(Seconds(1));
  expect(came).toHaveLength(1);
  const { from, reply } = came[0]!;
  expect(from.port).toBe(answering);
  expect(reply.answeringPort).toBe(answering);
  expect(reply.otherPort).toBe(asked === RELAY_PORT ? PROBE_PORT : RELAY_PORT);
  expect(reply.observed.equals(agent.socket.external)).toBe(true);
});

test('the second port takes PROBEs and nothing else', async () => {
  const { world, agent, came, second } = await scene();
  const before = world.relay.core.drops.get('unknown_frame');
  for (const bytes of [new Uint8Array(64).fill(0xc3), new Uint8Array(63).fill(Frame.probe), Uint8Array.of(0x10, 1)]) {
    agent.socket.sendRaw(second, bytes);
  }
  world.run(Seconds(1));
  expect(world.relay.core.drops.get('unknown_frame')).toBe(before + 3);
  expect(came).toEqual([]);
});

test('an answer that is asked for later comes then, up to five minutes', async () => {
  const { world, came, main, ask } = await scene();
  const start = world.now;
  ask(main, 1, false, 300);
  world.run(Millis(100));
  ask(main, 2, true, 30);
  world.run(Millis(100));
  ask(main, 3, false, 301);
  world.run(Seconds(29));
  expect(came).toEqual([]);
  world.run(Seconds(300));
  expect(came.map(({ reply, from }) => [reply.nonce.low, from.port])).toEqual([
    [2, PROBE_PORT],
    [1, RELAY_PORT],
  ]);
  expect(elapsed(start, came[1]!.at)).toBeGreaterThanOrEqual(Seconds(300));
  expect(elapsed(start, came[1]!.at)).toBeLessThan(Seconds(301));
  expect(world.relay.core.drops.get('malformed')).toBe(1);
  expect(world.relay.core.probes.counters).toEqual({ probes: 2, delayedProbes: 2 });
});

test('answers that wait are bounded', async () => {
  const { world, agent, main } = await scene();
  for (let i = 0; i < MOST_WAITING + 50; i++) {
    const forged = at(`203.0.${113 + (i >>> 14)}.${1 + (i & 127)}:${2000 + (i >>> 7)}`);
    agent.socket.sendRaw(main, encodeProbe({ high: 0, low: i }, false, 200), forged);
    if (i % 100 === 99) world.run(Millis(60));
  }
  world.run(Seconds(1));
  const refused = world.relay.core.drops.get('rate_limited');
  expect(refused).toBeGreaterThanOrEqual(50);
  world.run(Seconds(300));
  expect(world.relay.core.probes.counters.delayedProbes).toBe(MOST_WAITING + 50 - refused);
});
