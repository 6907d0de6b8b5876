/**
 * A node whose network device takes less than its flows bring: what waits, waits in one fair queue, and what is dropped is counted.
 */
import { expect, test } from 'vitest';
import { packed } from '../../src/agent/udp-ports.js';
import { elapsed, type Instant, later, Micros, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { QUEUE_SLOTS } from '../../src/node/send-queue.js';
import { FIRST_ROOM } from '../../src/node/send-room.js';
import { type Scene, scene, BACKEND as TCP_BACKEND, WEB } from '../connector/fixtures.js';
import { App } from '../support/app.js';
import { at } from '../support/sim-nodes.js';
import {
  BACKEND,
  BULK,
  BULK_BYTES,
  BULK_PORT,
  DNS,
  jain,
  megabits,
  PING_BYTES,
  PING_PORT,
  percentile,
  startTraffic,
  type Traffic,
} from './traffic.js';

/** An agent with a device, a live session, and flows that the connector knows. */
async function start(): Promise<{ readonly it: Scene; readonly traffic: Traffic }> {
  const it = await scene({ agent: { tun: true } });
  return { it, traffic: startTraffic(it) };
}

test('100, 5 and again 100 Mbit/s: a sparse flow passes, bulk flows share, what is lost is counted, the rate comes back', async () => {
  const { it, traffic } = await start();
  const { agent } = it;
  const socket = agent.udp[0]!;
  traffic.flow(PING_PORT, PING_BYTES, Millis(20));
  expect(traffic.during(Seconds(0.5), [PING_PORT])[0]).toBeGreaterThan(20);
  const base = percentile(traffic.delays, 0.5);

  socket.limit(100);
  // 30, 33, 36 and 39 Mbit/s: more than their share, and not the same.
  for (const [i, port] of BULK.entries()) traffic.flow(port, BULK_BYTES, Micros((BULK_BYTES * 8) / (30 + 3 * i)));
  it.world.run(Seconds(0.3));
  const fast = traffic.during(Seconds(0.4), BULK);
  expect(jain(fast)).toBeGreaterThanOrEqual(0.9);
  expect(megabits(fast, Seconds(0.4))).toBeGreaterThan(85);
  expect(percentile(traffic.delays, 0.95) - base).toBeLessThan(20);

  socket.limit(5);
  it.world.run(Seconds(0.1));
  traffic.slowness = 4;
  it.world.run(Seconds(2));
  const slow = traffic.during(Seconds(2), [...BULK, PING_PORT]);
  expect(jain(slow.slice(0, 4))).toBeGreaterThanOrEqual(0.9);
  expect(megabits(slow.slice(0, 4), Seconds(2))).toBeGreaterThan(4.2);
  expect(slow[4]).toBeGreaterThan(95);
  expect(percentile(traffic.delays, 0.95) - base).toBeLessThan(20);

  socket.limit(100);
  traffic.slowness = 1;
  it.world.run(Seconds(0.5));
  const again = traffic.during(Seconds(0.4), BULK);
  expect(megabits(again, Seconds(0.4))).toBeGreaterThan(85);
  expect(jain(again)).toBeGreaterThanOrEqual(0.9);

  traffic.stop();
  it.world.run(Seconds(3));
  const { sent, arrived } = traffic.total;
  const drops = agent.core.drops.snapshot();
  expect(drops.queue_full).toBeGreaterThan(0);
  expect(sent - arrived).toBe((drops.queue_full ?? 0) + (drops.queue_delay ?? 0));
  expect(agent.core.outbound.queue.size).toBe(0);
});

test('what TCP connections of the agent’s own stack send shares a slow device, and datagrams pass them', async () => {
  const it = await scene();
  const { agent, connector, world } = it;
  const backend = connector.host.sockets.udpBackend(BACKEND);
  const service = connector.host.sockets.tcpBackend(TCP_BACKEND);
  const delays: number[] = [];
  backend.onDatagram = (_flow, bytes) => {
    delays.push(toMillis(elapsed(new DataView(bytes.buffer, bytes.byteOffset).getFloat64(0) as Instant, world.now)));
  };
  const port = agent.core.stack.udp.open({ onDatagram: () => {}, onUndelivered: () => {} });
  const ping = (now: Instant): void => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setFloat64(0, world.now);
    agent.core.stack.udp.send(world.now, port, packed(at(`${DNS}:53`)), bytes, 0, 8);
    agent.host.reactor.at(later(now, Millis(20)), ping);
  };
  ping(world.now);
  world.run(Seconds(3));
  const base = percentile(delays.slice(-50), 0.5);

  agent.udp[0]!.limit(5);
  const apps = Array.from({ length: 4 }, () => new App(agent, WEB).say(new Uint8Array(3_000_000)));
  world.run(Seconds(4));
  const streams = [...service.streams];
  expect(streams.length).toBe(apps.length);
  const before = streams.map((stream) => stream.receivedBytes);
  delays.length = 0;
  world.run(Seconds(4));
  const got = streams.map((stream, i) => stream.receivedBytes - before[i]!);
  expect(jain(got)).toBeGreaterThanOrEqual(0.9);
  expect((got.reduce((a, b) => a + b, 0) * 8) / 4e6).toBeGreaterThan(4);
  expect(percentile(delays, 0.95) - base).toBeLessThan(20);
});

test('a link that dies while its packets wait takes them with it, counted; the next one carries on', async () => {
  const { it, traffic } = await start();
  const { agent, world } = it;
  const socket = agent.udp[0]!;
  socket.limit(0);
  for (let i = 0; i < 400; i++) traffic.send(BULK_PORT, BULK_BYTES);
  world.run(Millis(100));
  const waiting = agent.core.outbound.queue.size;
  expect(socket.isBlocked).toBe(true);
  expect(waiting).toBeGreaterThan(50);
  const session = agent.session('c1')!;
  const dead = session.link!;
  dead.connection.close(world.now, 0, '');
  agent.host.reactor.wake();
  world.run(Millis(100));
  const before = agent.core.drops.get('no_link');
  socket.limit(100);
  expect(world.until(() => session.isLive && session.link !== dead, Seconds(10))).toBe(true);
  expect(agent.core.drops.get('no_link') - before).toBe(waiting);
  expect(agent.core.outbound.queue.size).toBe(0);
  const arrived = traffic.arrived.get(BULK_PORT)!;
  traffic.send(BULK_PORT, BULK_BYTES);
  expect(world.until(() => traffic.arrived.get(BULK_PORT) === arrived + 1)).toBe(true);
});

test('a device that sends nothing for a minute holds a bounded heap of packets, and all goes on when it is back', async () => {
  const { it, traffic } = await start();
  const { agent, world } = it;
  const socket = agent.udp[0]!;
  for (const port of BULK) traffic.flow(port, BULK_BYTES, Micros(4000));
  world.run(Seconds(0.5));
  socket.limit(0);
  let most = 0;
  for (let second = 0; second < 60; second++) {
    world.run(Seconds(1));
    most = Math.max(most, agent.core.outbound.queue.size);
    if (second === 3) expect(socket.isBlocked).toBe(true);
  }
  expect(most).toBeGreaterThan(1000);
  expect(most).toBeLessThanOrEqual(QUEUE_SLOTS);
  expect(socket.device!.mostHeld).toBeLessThan(FIRST_ROOM + 65_536);
  // Given up: what is sent now is dropped by the socket, and nothing is kept for later.
  expect(socket.isBlocked).toBe(false);
  expect(socket.counters.sendBlocked).toBeGreaterThan(0);
  expect(agent.core.outbound.queue.size).toBe(0);
  socket.limit(100);
  const count = (): number => Math.min(...BULK.map((port) => traffic.arrived.get(port)!));
  const before = count();
  expect(world.until(() => count() > before + 100, Seconds(20))).toBe(true);
});

test('the relay connection and heartbeats live through a minute of overload', async () => {
  const { it, traffic } = await start();
  const { agent, world } = it;
  agent.udp[0]!.limit(1);
  for (const port of BULK) traffic.flow(port, BULK_BYTES, Micros(8000));
  const session = agent.session('c1')!;
  const { link } = session;
  const problems = agent.eventsOf('relay-lost').length;
  world.run(Seconds(60));
  expect(agent.eventsOf('relay-lost').length).toBe(problems);
  expect(session.link).toBe(link);
  expect(agent.core.drops.get('queue_delay') + agent.core.drops.get('queue_full')).toBeGreaterThan(1000);
});
