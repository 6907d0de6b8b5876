/**
 * A relay reached over TCP whose stream takes less than flows bring: at a node they wait by inner flow, towards a node by channel, and
 * a sparse one is hardly delayed.
 */
import { expect, test } from 'vitest';
import { type Instant, instantAt, later, Micros, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { StreamSend } from '../../src/node/stream-send.js';
import { TcpCredit } from '../../src/node/tcp-credit.js';
import { readDatagramBatch } from '../../src/tunnel/datagram-batch.js';
import { Frame } from '../../src/tunnel/frames.js';
import { scene } from '../connector/fixtures.js';
import { SimDevice } from '../support/sim-device.js';
import type { Packet } from '../support/sim-network.js';
import { BULK, BULK_BYTES, jain, megabits, PING_BYTES, PING_PORT, percentile, startTraffic } from './traffic.js';

const LOOK = Millis(2);
const OF_THE_LINK = 0.9;

test('100, 5 and then 20 Mbit/s over TCP: a sparse flow passes, bulk flows share, the rate comes back', async () => {
  const it = await scene({ agent: { tun: true, unresolved: true } }, false);
  const { agent, world } = it;
  const { network } = world;
  const { relay } = agent.core;
  const address = world.relay.addresses[0]!;
  const credit = new TcpCredit();
  const link = new SimDevice(world.now, 100);
  network.addDevice(link);
  let passed: Packet | undefined;
  let way: Packet | undefined;
  const send = new StreamSend({
    get unsent() {
      return link.held;
    },
    write: (message) =>
      void readDatagramBatch(message, (payload) => {
        const bytes = payload.slice();
        link.push(world.now, bytes.length, () => {
          const { from, to } = way!;
          passed = { from, to, bytes };
          network.send(from, to, bytes, agent.host.path);
          passed = undefined;
        });
      }),
  });
  const pump = (now: Instant): void => {
    send.pump(now);
    if (credit.grant(send.takenBytes, send.room, send.gone)) agent.host.reactor.wake();
  };
  const look = (now: Instant): void => {
    pump(now);
    agent.host.reactor.at(later(now, LOOK), look);
  };
  look(world.now);
  network.filter = (packet) => {
    if (passed !== undefined || !packet.to.equals(address) || packet.from.equals(it.connector.udp[0]!.external))
      return true;
    way = packet;
    send.take(world.now, packet.bytes);
    return false;
  };
  agent.host.path.isDown = false;
  relay.setTcp(world.now, address, credit.memory);
  agent.host.reactor.wake();
  expect(world.until(() => relay.state === 'ready' && agent.core.available.has('dns'), Seconds(5))).toBe(true);
  expect(relay.isOverTcp).toBe(true);

  const traffic = startTraffic(it);
  traffic.flow(PING_PORT, PING_BYTES, Millis(20));
  expect(traffic.during(Seconds(0.5), [PING_PORT])[0]).toBeGreaterThan(20);
  const base = percentile(traffic.delays, 0.5);
  const rates = [30, 33, 36, 39];
  for (const [i, port] of BULK.entries()) traffic.flow(port, BULK_BYTES, Micros((BULK_BYTES * 8) / rates[i]!));
  for (const [rate, slowness] of [
    [100, 1],
    [5, 4],
    [20, 4],
  ] as const) {
    link.setRate(world.now, rate);
    world.run(Seconds(0.1));
    traffic.slowness = slowness;
    world.run(Seconds(rate === 5 ? 2 : 0.5));
    const span = Seconds(rate === 5 ? 2 : 0.4);
    const got = traffic.during(span, BULK);
    // Inner packets; headers of QUIC and of the relay's frames are some 5 % of the link.
    expect(megabits(got, span) * 1.05).toBeGreaterThan(rate * OF_THE_LINK);
    expect(jain(got)).toBeGreaterThanOrEqual(0.9);
    expect(percentile(traffic.delays, 0.95) - base).toBeLessThan(25);
  }
  expect(send.dropped).toBe(0);
  traffic.stop();
  world.run(Seconds(3));
  const { sent, arrived } = traffic.total;
  const drops = agent.core.drops.snapshot();
  expect(drops.queue_full).toBeGreaterThan(0);
  expect(sent - arrived).toBe((drops.queue_full ?? 0) + (drops.queue_delay ?? 0));
  expect(agent.core.outbound.queue.size).toBe(0);

  // A stream that takes nothing holds packets up for a second, not for ever.
  link.setRate(world.now, 0);
  for (let i = 0; i < 200; i++) traffic.send(BULK[0]!, BULK_BYTES);
  world.run(Millis(500));
  expect(agent.core.outbound.queue.size).toBeGreaterThan(50);
  world.run(Seconds(1));
  expect(agent.core.outbound.queue.size).toBe(0);
});

test('towards a node at 5 Mbit/s: a channel that sends too much delays itself, and its oldest packets are dropped and counted', () => {
  const link = new SimDevice(instantAt(0), 5);
  let now = instantAt(0);
  const delays: number[] = [];
  const bytes = new Array<number>(9).fill(0);
  const send = new StreamSend({
    get unsent() {
      return link.held;
    },
    write: (message) =>
      void readDatagramBatch(message, (payload) => {
        const view = new DataView(payload.slice().buffer);
        link.push(now, payload.length, () => {
          const channel = view.getUint8(8);
          bytes[channel]! += view.byteLength;
          if (channel === 0) delays.push((now - view.getFloat64(9)) / 1000);
        });
      }),
  });
  const datagram = (channel: number, length: number): Uint8Array => {
    const payload = new Uint8Array(length);
    payload[0] = Frame.relayed;
    payload[8] = channel;
    new DataView(payload.buffer).setFloat64(9, now);
    return payload;
  };
  let taken = 0;
  let most = 0;
  const span = Seconds(4);
  for (let step = 0; now < (span as number); step++) {
    // Four channels of 2.8 Mbit/s each, and one of 50 small packets a second.
    if (step % 4 === 0)
      for (let channel = 1; channel <= 4; channel++) send.take(now, datagram(channel * 2, BULK_BYTES));
    if (step % 20 === 0) send.take(now, datagram(0, PING_BYTES));
    taken = send.taken;
    if (step % 2 === 0) send.pump(now);
    now = later(now, Millis(1));
    link.advance(now);
    most = Math.max(most, link.held);
  }
  expect(percentile(delays, 0.95)).toBeLessThan(25);
  expect(delays.length).toBeGreaterThan(190);
  const bulk = [2, 4, 6, 8].map((channel) => bytes[channel] ?? 0);
  expect((bulk.reduce((a, b) => a + b, 0) * 8) / toMillis(span) / 1000).toBeGreaterThan(5 * OF_THE_LINK);
  expect(jain(bulk)).toBeGreaterThan(0.9);
  expect(most).toBeLessThan(5000 * 25);
  expect(send.dropped).toBeGreaterThan(taken / 4);
  expect(send.dropped).toBeLessThan(taken);
});
