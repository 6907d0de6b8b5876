/**
 * The address of a node changes under it while data flows, and what it sends first from the new one is lost: the flows go on
 * within a second, whichever end it is and whichever way the data goes.
 */
import { expect, test } from 'vitest';
import { SocketAddress } from '../../src/base/address.js';
import { type Duration, elapsed, later, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { connected, type Scene, scene } from '../connector/fixtures.js';
import { pattern } from '../support/app.js';
import { udpPacket } from '../support/packets.js';
import type { SimNode } from '../support/sim-nodes.js';

/** How long nothing passes from the new address, in milliseconds. */
const LOST_FIRST = Millis(300);
const LIMIT_MS = 1000;
const EVERY = Millis(20);

/** The node's NAT forgets its mapping: another port outside, and what is sent first is lost. */
function rebind({ world }: Scene, node: SimNode): void {
  const [socket] = node.udp;
  socket!.rebind(new SocketAddress(socket!.external.ip, 50_000));
  const lostUntil = later(world.now, LOST_FIRST);
  world.network.filter = ({ from }) => !from.equals(socket!.external) || world.now >= lostUntil;
}

/** Milliseconds from the change until more of the data has arrived. */
function pause(it: Scene, node: SimNode, received: () => number): number {
  rebind(it, node);
  const since = it.world.now;
  // What was on its way to the receiver still arrives.
  it.world.run(Millis(100));
  const before = received();
  expect(it.world.until(() => received() > before, Seconds(20))).toBe(true);
  return toMillis(elapsed(since, it.world.now));
}

test.each([
  ['agent', 'down'],
  ['agent', 'up'],
  ['connector', 'down'],
  ['connector', 'up'],
] as const)('%s, TCP, %s', async (which, way) => {
  const it = await scene();
  const { app, stream } = connected(it);
  const data = pattern(200_000_000);
  const receiver = way === 'down' ? app : stream;
  (way === 'down' ? stream : app).say(data);
  expect(it.world.until(() => receiver.receivedBytes > 3_000_000, Seconds(20))).toBe(true);
  const ms = pause(it, it[which], () => receiver.receivedBytes);
  expect(ms).toBeLessThan(LIMIT_MS);
});

test.each([
  ['agent', 'down'],
  ['agent', 'up'],
  ['connector', 'down'],
  ['connector', 'up'],
] as const)('%s, UDP that nobody answers, %s', async (which, way) => {
  const it = await scene({ agent: { tun: true } });
  const backend = it.connector.host.sockets.udpBackend('10.0.0.5:5353');
  const from = it.agent.credentials.identity.overlay4!.toString();
  const say = (): void => it.agent.tun!.send(udpPacket({ from, to: '10.100.0.2' }, 4000, 53, 'x'.repeat(400)));
  say();
  expect(it.world.until(() => backend.flows[0]?.sent.length === 1)).toBe(true);
  const [flow] = backend.flows;
  const again = (): void => {
    if (way === 'up') say();
    else flow!.reply(new Uint8Array(400));
  };
  const received = (): number => (way === 'up' ? flow!.sent.length : it.agent.tun!.delivered.length);
  const stream = (span: Duration): void => {
    for (const end = later(it.world.now, span); it.world.now < end; it.world.run(EVERY)) again();
  };
  stream(Seconds(3));
  expect(received()).toBeGreaterThan(140);
  rebind(it, it[which]);
  const since = it.world.now;
  stream(Millis(100));
  const before = received();
  while (received() === before && elapsed(since, it.world.now) < Seconds(20)) stream(EVERY);
  expect(toMillis(elapsed(since, it.world.now))).toBeLessThan(LIMIT_MS);
});
