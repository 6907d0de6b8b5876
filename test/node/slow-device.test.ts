/**
 * A node whose network device takes less than its flows bring: what waits, waits in one fair queue, and what is dropped is counted.
 */
import { expect, test } from 'vitest';
import { type Duration, elapsed, type Instant, later, Micros, Millis, Seconds, toMillis } from '../../src/base/time.js';
import { type Scene, scene } from '../connector/fixtures.js';
import { udpPacket } from '../support/packets.js';

const DNS = '10.100.0.2';
const BACKEND = '10.0.0.5:5353';
const PING_PORT = 9000;
const BULK_PORT = 4000;
const PING_BYTES = 40;
/** Bytes of a bulk packet with its IP header. */
const BULK_BYTES = 1400;

/** What arrives at the backend, by the port of its sender; programs of the host that send datagrams without listening to anybody. */
class Traffic {
  readonly sent = new Map<number, number>();
  readonly arrived = new Map<number, number>();
  readonly delays: number[] = [];
  readonly #scene: Scene;
  readonly #payload = new Uint8Array(BULK_BYTES - 28);
  #isOver = false;

  constructor(it: Scene) {
    this.#scene = it;
    it.connector.host.sockets.udpBackend(BACKEND).onDatagram = (_flow, bytes) => {
      const view = new DataView(bytes.buffer, bytes.byteOffset);
      const port = view.getUint16(0);
      this.arrived.set(port, (this.arrived.get(port) ?? 0) + 1);
      if (port === PING_PORT) this.delays.push(toMillis(elapsed(view.getFloat64(2) as Instant, it.world.now)));
    };
  }

  send(port: number, bytes: number): void {
    const { agent, world } = this.#scene;
    const payload = this.#payload.subarray(0, bytes - 28);
    const view = new DataView(payload.buffer);
    view.setUint16(0, port);
    view.setFloat64(2, world.now);
    const ends = { from: agent.credentials.identity.overlay4!.toString(), to: DNS };
    agent.tun!.send(udpPacket(ends, port, 53, payload));
    this.sent.set(port, (this.sent.get(port) ?? 0) + 1);
  }

  /** A flow of `bytes` bytes every `gap`, until `stop`. */
  flow(port: number, bytes: number, gap: Duration): void {
    const { reactor } = this.#scene.agent.host;
    const again = (now: Instant): void => {
      if (this.#isOver) return;
      this.send(port, bytes);
      reactor.at(later(now, gap), again);
    };
    again(this.#scene.world.now);
    reactor.wake();
  }

  stop(): void {
    this.#isOver = true;
  }

  /** What has arrived of `ports` in the next `span`, in packets. */
  during(span: Duration, ports: readonly number[]): number[] {
    const before = new Map(this.arrived);
    this.delays.length = 0;
    this.#scene.world.run(span);
    return ports.map((port) => (this.arrived.get(port) ?? 0) - (before.get(port) ?? 0));
  }

  get total(): { readonly sent: number; readonly arrived: number } {
    const sum = (of: Map<number, number>): number => [...of.values()].reduce((a, b) => a + b, 0);
    return { sent: sum(this.sent), arrived: sum(this.arrived) };
  }
}

function percentile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!;
}

function jain(values: readonly number[]): number {
  const sum = values.reduce((a, b) => a + b, 0);
  return (sum * sum) / (values.length * values.reduce((a, b) => a + b * b, 0));
}

const megabits = (packets: readonly number[], span: Duration): number =>
  (packets.reduce((a, b) => a + b, 0) * BULK_BYTES * 8) / (span as number);

/** An agent with a device, a live session, and flows that the connector knows. */
async function start(): Promise<{ readonly it: Scene; readonly traffic: Traffic }> {
  const it = await scene({ agent: { tun: true } });
  const traffic = new Traffic(it);
  const ports = [PING_PORT, BULK_PORT, BULK_PORT + 1, BULK_PORT + 2, BULK_PORT + 3];
  for (const port of ports) traffic.send(port, PING_BYTES);
  expect(it.world.until(() => traffic.arrived.size === ports.length)).toBe(true);
  // Size discovery has its turns.
  it.world.run(Seconds(5));
  return { it, traffic };
}

const BULK = [BULK_PORT, BULK_PORT + 1, BULK_PORT + 2, BULK_PORT + 3];

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
  const fast = traffic.during(Seconds(0.5), BULK);
  expect(jain(fast)).toBeGreaterThanOrEqual(0.9);
  expect(megabits(fast, Seconds(0.5))).toBeGreaterThan(85);
  expect(percentile(traffic.delays, 0.95) - base).toBeLessThan(20);

  socket.limit(5);
  it.world.run(Seconds(2));
  const slow = traffic.during(Seconds(2), [...BULK, PING_PORT]);
  expect(jain(slow.slice(0, 4))).toBeGreaterThanOrEqual(0.9);
  expect(megabits(slow.slice(0, 4), Seconds(2))).toBeGreaterThan(4.2);
  expect(slow[4]).toBeGreaterThan(95);
  expect(percentile(traffic.delays, 0.95) - base).toBeLessThan(20);

  socket.limit(100);
  it.world.run(Seconds(0.5));
  const again = traffic.during(Seconds(0.5), BULK);
  expect(megabits(again, Seconds(0.5))).toBeGreaterThan(85);
  expect(jain(again)).toBeGreaterThanOrEqual(0.9);

  traffic.stop();
  it.world.run(Seconds(3));
  const { sent, arrived } = traffic.total;
  const drops = agent.core.drops.snapshot();
  expect(drops.queue_full).toBeGreaterThan(0);
  expect(sent - arrived).toBe((drops.queue_full ?? 0) + (drops.queue_delay ?? 0));
  expect(agent.core.outbound.queue.size).toBe(0);
});
