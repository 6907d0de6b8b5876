/**
 * A tracer's system in virtual time: routers and a target that answer raw probes after a delay, as a function says. What is
 * opened is counted, so that tests see that everything is closed again.
 */
import { type IpAddress, SocketAddress } from '../../../src/base/address.js';
import { SallyportError } from '../../../src/base/error.js';
import { type Instant, instantAt, later, Millis } from '../../../src/base/time.js';
import { Timer, TimerQueue } from '../../../src/base/timers.js';
import type { IoResult } from '../../../src/os/io.js';
import type { FilterSpec, PacketHandler, PacketIo, PortReservation, SendPath } from '../../../src/os/packet-io.js';
import { ParsedPacket, parsePacket } from '../../../src/wire/inner.js';

/** A packet that comes back, after so many milliseconds. */
export interface Delivery {
  readonly after: number;
  readonly packet: Uint8Array;
}

export interface SentProbe {
  readonly at: number;
  readonly ttl: number;
  readonly bytes: Uint8Array;
  readonly packet: ParsedPacket;
}

/** What the network makes of one probe; a number is a negated errno with which the host refuses it. */
export type Network = (probe: SentProbe) => readonly Delivery[] | number;

export class SimIo implements PacketIo {
  readonly probes: SentProbe[] = [];
  readonly filters: FilterSpec[] = [];
  /** Sources, sinks and reservations not closed yet. */
  open = 0;
  mtu = 1500;
  noRoute = false;
  readonly local: IpAddress;
  readonly #network: Network;
  readonly #timers = new TimerQueue();
  readonly #handlers = new Set<PacketHandler>();
  #now = instantAt(1_000_000);
  #port = 40_000;

  constructor(local: IpAddress, network: Network) {
    this.local = local;
    this.#network = network;
  }

  now(): Instant {
    return this.#now;
  }

  /** Milliseconds since the start. */
  get time(): number {
    return (this.#now - 1_000_000) / 1_000;
  }

  at(at: Instant, handler: () => void): () => void {
    const timer = new Timer(handler);
    this.#timers.arm(timer, at);
    return () => this.#timers.cancel(timer);
  }

  source(handler: PacketHandler): ReturnType<PacketIo['source']> {
    this.#handlers.add(handler);
    this.open++;
    return {
      counters: { packets: 0, unusable: 0 },
      filter: (spec) => this.filters.push(spec),
      drain: () => undefined,
      close: () => {
        if (this.#handlers.delete(handler)) this.open--;
      },
    };
  }

  sink(): ReturnType<PacketIo['sink']> {
    const now = (): Instant => this.#now;
    return this.#closable({
      get sentAt() {
        return now();
      },
      send: (bytes: Uint8Array, offset: number, length: number) => this.#send(bytes.slice(offset, offset + length)),
    });
  }

  reserveUdp(_to: SocketAddress, localPort: number, path: SendPath): PortReservation {
    return this.#reserve(localPort, path);
  }

  reserveTcp(_to: SocketAddress, localPort: number, path: SendPath): PortReservation {
    return this.#reserve(localPort, path);
  }

  session(): never {
    throw new Error('no sessions here');
  }

  probeSocket(): never {
    throw new Error('no sockets here');
  }

  deviceMtu(): number {
    return this.mtu;
  }

  close(): void {}

  /** Delivers a packet now. */
  deliver(packet: Uint8Array): void {
    for (const handler of this.#handlers) handler(packet, 0, packet.length, this.#now);
  }

  /** Lets time pass until `ending` settles. @throws Error when nothing is left to happen before it does */
  async drive<T>(ending: Promise<T>): Promise<T> {
    let settled = false;
    const done = ending.finally(() => {
      settled = true;
    });
    done.catch(() => undefined);
    for (let idle = 0; !settled && idle < 20; idle++) {
      await new Promise((resolve) => setImmediate(resolve));
      const next = this.#timers.next();
      if (settled || next === undefined) continue;
      idle = 0;
      this.#now = instantAt(Math.max(this.#now, next));
      this.#timers.expire(this.#now);
    }
    if (!settled) throw new Error('nothing is left to happen');
    return await done;
  }

  #send(bytes: Uint8Array): IoResult {
    const packet = new ParsedPacket();
    if (parsePacket(bytes, 0, bytes.length, packet) !== 0) throw new Error('a probe that is no packet');
    const probe = { at: this.time, ttl: packet.hopLimit, bytes, packet };
    const answers = this.#network(probe);
    if (typeof answers === 'number') return answers;
    this.probes.push(probe);
    for (const { after, packet: answer } of answers)
      this.at(later(this.#now, Millis(after)), () => this.deliver(answer));
    return bytes.length;
  }

  #reserve(localPort: number, path: SendPath): PortReservation {
    if (this.noRoute) throw new SallyportError('environment', 'ENETUNREACH', 'no way there');
    const port = localPort === 0 ? this.#port++ : localPort;
    return this.#closable({ local: new SocketAddress(path.source ?? this.local, port) });
  }

  #closable<T extends object>(thing: T): T & { close(): void } {
    this.open++;
    let isOpen = true;
    return Object.assign(thing, {
      close: () => {
        if (isOpen) this.open--;
        isOpen = false;
      },
    });
  }
}
