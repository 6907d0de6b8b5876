/**
 * Two stacks and a wire between them, in virtual time: the base of every test in this folder.
 */
import { createHmac } from 'node:crypto';
import { SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { type Duration, type Instant, instantAt, later, Millis } from '../../src/base/time.js';
import type { StackLimits } from '../../src/netstack/options.js';
import { Packetizer } from '../../src/netstack/packetizer.js';
import { Stack } from '../../src/netstack/stack.js';
import type { TcpConnection } from '../../src/netstack/tcp/connection.js';
import type { TcpOptions } from '../../src/netstack/tcp/options.js';
import type { CloseReason, StackHandlers, TcpHandlers } from '../../src/netstack/types.js';
import { Arena } from '../../src/wire/arena.js';

export const crypto = {
  hmacSha256: (key: Uint8Array, data: Uint8Array): Uint8Array =>
    new Uint8Array(createHmac('sha256', key).update(data).digest()),
};

export const CLIENT = '10.0.0.1';
export const SERVER = '10.0.0.2';
export const socket = (text: string): SocketAddress => SocketAddress.parse(text)!;

export interface PeerOptions {
  mtu?: number;
  seed?: number;
  tcp?: Partial<TcpOptions>;
  limits?: Partial<StackLimits>;
  handlers?: StackHandlers;
  v4?: string;
  v6?: string;
}

/** A stack whose packets are kept until somebody takes them. */
export class Peer {
  readonly out: Uint8Array[] = [];
  readonly stack: Stack;
  readonly packetizer: Packetizer;
  handlers: StackHandlers;

  constructor(options: PeerOptions = {}) {
    this.packetizer = new Packetizer(new Arena(1 << 18), 512, (batch) => {
      for (let i = 0; i < batch.count; i++) {
        const at = batch.table[2 * i]!;
        this.out.push(batch.arena.bytes.slice(at, at + batch.table[2 * i + 1]!));
      }
    });
    this.handlers = options.handlers ?? {};
    const local = (text: string | undefined) => (text === undefined ? {} : { ip: SocketAddress.parse(text)!.ip });
    const v4 = local(options.v4 && `${options.v4}:0`).ip;
    const v6 = local(options.v6 && `[${options.v6}]:0`).ip;
    this.stack = new Stack({
      mtu: options.mtu ?? 1400,
      sink: this.packetizer,
      entropy: new SeededEntropy(options.seed ?? 1),
      crypto,
      handlers: this.handlers,
      ...(options.tcp === undefined ? {} : { tcp: options.tcp }),
      ...(options.limits === undefined ? {} : { limits: options.limits }),
      ...(v4 === undefined ? {} : { localV4: v4 }),
      ...(v6 === undefined ? {} : { localV6: v6 }),
    });
  }

  /** Everything emitted since the last call. */
  take(now: Instant): Uint8Array[] {
    this.stack.flush(now);
    this.packetizer.flush();
    return this.out.splice(0);
  }

  receive(now: Instant, packet: Uint8Array): number {
    const arena = new Arena(packet.length);
    arena.bytes.set(packet);
    return this.stack.handlePacket(now, arena, 0, packet.length);
  }
}

/** Collects what arrives; takes everything unless `limit` says how much at a time. */
export class Collector implements TcpHandlers {
  readonly chunks: Uint8Array[] = [];
  total = 0;
  connected = 0;
  peerClosed = 0;
  writable = 0;
  closed: CloseReason | undefined;
  limit = Number.POSITIVE_INFINITY;
  connection: TcpConnection | undefined;

  onConnected(): void {
    this.connected++;
  }

  onData(bytes: Uint8Array, offset: number, length: number): number {
    const n = Math.min(length, this.limit);
    this.chunks.push(bytes.slice(offset, offset + n));
    this.total += n;
    return n;
  }

  onPeerClosed(): void {
    this.peerClosed++;
  }

  onWritable(): void {
    this.writable++;
  }

  onClosed(reason: CloseReason): void {
    if (this.closed !== undefined) throw new Error('closed twice');
    this.closed = reason;
  }

  bytes(): Uint8Array {
    const out = new Uint8Array(this.total);
    let at = 0;
    for (const c of this.chunks) {
      out.set(c, at);
      at += c.length;
    }
    return out;
  }
}

/** What the wire does to a packet: nothing returned = lost; more than one = copies; each with its delay. */
export type Impairment = (
  packet: Uint8Array,
  fromClient: boolean,
  index: number,
) => readonly { packet: Uint8Array; delay: Duration }[];

interface Flight {
  at: Instant;
  order: number;
  toClient: boolean;
  packet: Uint8Array;
}

/** Client, server and the wire. Time advances from event to event. */
export class Network {
  now: Instant = instantAt(1_000_000);
  readonly client: Peer;
  readonly server: Peer;
  readonly #flights: Flight[] = [];
  #order = 0;
  sent = 0;
  impair: Impairment;
  /** Called for every packet put on the wire. */
  onPacket: ((packet: Uint8Array, fromClient: boolean) => void) | undefined;

  constructor(
    client: PeerOptions = {},
    server: PeerOptions = {},
    readonly delay: Duration = Millis(10),
  ) {
    this.client = new Peer({ v4: CLIENT, v6: 'fd00::1', seed: 1, ...client });
    this.server = new Peer({ v4: SERVER, v6: 'fd00::2', seed: 2, ...server });
    this.impair = (packet) => [{ packet, delay }];
  }

  /** Puts what both stacks have to say on the wire. */
  pump(): void {
    for (const fromClient of [true, false]) {
      for (const packet of (fromClient ? this.client : this.server).take(this.now)) {
        this.onPacket?.(packet, fromClient);
        for (const copy of this.impair(packet, fromClient, this.sent++)) {
          this.#flights.push({
            at: later(this.now, copy.delay),
            order: this.#order++,
            toClient: !fromClient,
            packet: copy.packet,
          });
        }
      }
    }
  }

  /** Runs one event; false when nothing will ever happen again. */
  step(until: Instant): boolean {
    this.pump();
    let next: Instant | undefined;
    for (const f of this.#flights) if (next === undefined || f.at < next) next = f.at;
    for (const peer of [this.client, this.server]) {
      const t = peer.stack.pollTimeout();
      if (t !== undefined && (next === undefined || t < next)) next = t;
    }
    if (next === undefined || next > until) {
      this.now = until;
      return false;
    }
    if (next > this.now) this.now = next;
    for (const peer of [this.client, this.server]) {
      const t = peer.stack.pollTimeout();
      if (t !== undefined && t <= this.now) peer.stack.handleTimeout(this.now);
    }
    const due = this.#flights.filter((f) => f.at <= this.now).sort((a, b) => a.at - b.at || a.order - b.order);
    for (const f of due) {
      this.#flights.splice(this.#flights.indexOf(f), 1);
      (f.toClient ? this.client : this.server).receive(this.now, f.packet);
    }
    return true;
  }

  /**
   * Runs for `span`, or until `done`, asked after every event, says so. `beat`: `done` is also asked this often when
   * nothing happens (programs act by themselves); undefined from it = only at events. Returns whether `done` was reached.
   */
  run(span: Duration, done?: () => boolean, beat?: () => Duration | undefined): boolean {
    const until = later(this.now, span);
    let still = 0;
    let before = this.now;
    for (;;) {
      still = this.now === before ? still + 1 : 0;
      before = this.now;
      if (still > 10_000) throw new Error(`time stands still at ${this.now}`);
      if (done?.()) return true;
      const pause = beat?.();
      const limit = pause === undefined ? until : instantAt(Math.min(until, this.now + pause));
      if (!this.step(limit) && limit === until) {
        this.pump();
        return done?.() ?? false;
      }
    }
  }
}

/** Pseudo-random bytes that depend on the seed and the position. */
export function pattern(seed: number, length: number): Uint8Array {
  const out = new Uint8Array(length);
  new SeededEntropy(seed).fill(out);
  return out;
}

/** Feeds `data` into a connection as room permits. */
export class Feeder {
  at = 0;

  constructor(
    readonly connection: TcpConnection,
    readonly data: Uint8Array,
    readonly thenFin = false,
  ) {}

  feed(most = Number.POSITIVE_INFINITY): void {
    if (this.at === this.data.length) return;
    const n = this.connection.write(this.data, this.at, Math.min(this.data.length - this.at, most));
    this.at += n;
    if (this.at === this.data.length && this.thenFin) this.connection.shutdownWrite();
  }
}
