/** Datagram flows of an agent's device towards one backend: sparse and bulk ones, how many arrive, and how late. */
import { expect } from 'vitest';
import { type Duration, elapsed, type Instant, later, Seconds, scale, toMillis } from '../../src/base/time.js';
import type { Scene } from '../connector/fixtures.js';
import { udpPacket } from '../support/packets.js';

export const DNS = '10.100.0.2';
export const BACKEND = '10.0.0.5:5353';
export const PING_PORT = 9000;
export const BULK_PORT = 4000;
export const PING_BYTES = 40;
/** Bytes of a bulk packet with its IP header. */
export const BULK_BYTES = 1400;
export const BULK = [BULK_PORT, BULK_PORT + 1, BULK_PORT + 2, BULK_PORT + 3];

/** What arrives at the backend, by the port of its sender; programs of the host that send datagrams without listening to anybody. */
export class Traffic {
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

  /** Gaps of all flows are so many times as long. */
  slowness = 1;

  /** A flow of `bytes` bytes every `gap`, until `stop`. */
  flow(port: number, bytes: number, gap: Duration): void {
    const { reactor } = this.#scene.agent.host;
    const again = (now: Instant): void => {
      if (this.#isOver) return;
      this.send(port, bytes);
      reactor.at(later(now, scale(gap, port === PING_PORT ? 1 : this.slowness)), again);
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

export function percentile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!;
}

export function jain(values: readonly number[]): number {
  const sum = values.reduce((a, b) => a + b, 0);
  return (sum * sum) / (values.length * values.reduce((a, b) => a + b * b, 0));
}

export const megabits = (packets: readonly number[], span: Duration): number =>
  (packets.reduce((a, b) => a + b, 0) * BULK_BYTES * 8) / (span as number);

/** Flows that the connector knows, over a session that is live. */
export function startTraffic(it: Scene): Traffic {
  const traffic = new Traffic(it);
  const ports = [PING_PORT, BULK_PORT, BULK_PORT + 1, BULK_PORT + 2, BULK_PORT + 3];
  for (const port of ports) traffic.send(port, PING_BYTES);
  expect(it.world.until(() => traffic.arrived.size === ports.length)).toBe(true);
  // Size discovery has its turns.
  it.world.run(Seconds(5));
  return traffic;
}
