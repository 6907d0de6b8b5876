/**
 * A QUIC endpoint without a socket: packets and time in; runs of packets, calls to handlers and the next deadline out.
 *
 * Order of a turn:
 *   1. `queueRun` for every received run, then `receive(now)` before the receive memory is used again;
 *   2. `process(now)`: timers, then handlers are called; they may write, connect and close;
 *   3. `transmit(now, offset, …)` until it returns false, handing each run to a socket, which is flushed before the part of
 *      `tx` that it lies in is used again;
 *   4. sleep until `nextTimeout()`.
 * `setWallTime` at least every minute: certificates are judged by it.
 */
import { ADDRESS_WORDS, type SocketAddress } from '../base/address.js';
import { Counters } from '../base/counters.js';
import { SallyportError } from '../base/error.js';
import { earliest, elapsed, type Instant, later, Millis, type WallTime, wallLater } from '../base/time.js';
import { Arena } from '../wire/arena.js';
import { certificateExpiry, expiryAs } from './certificate.js';
import { CloseCode, closeReason } from './close.js';
import type { ConnectionHandler, DatagramBatch } from './connection.js';
import { QuicConnection } from './connection.js';
import { NativeHost, REFUSED } from './host.js';
import type { NativeEndpoint, SharedMemory } from './native.js';
import {
  EVENT_WORDS,
  EventKind,
  MORE,
  makeNative,
  NATIVE_COUNTERS,
  OUT_ADDRESS,
  RUN_WORDS,
  STATE_DEADLINE,
  STATE_EVENTS,
  STATE_LENT,
  STATE_SENDS,
  STATE_WORDS,
  TRANSMIT_RUN,
} from './native.js';
import type { QuicEndpointOptions } from './options.js';
import {
  DEFAULT_MESSAGES_PER_SECOND,
  DEFAULT_RECHECK_INTERVAL,
  DEFAULT_TRANSMIT_BYTES,
  toNative,
  WALL_RESOLUTION,
} from './options.js';

/** Received runs that one crossing takes: more than one batch of the sockets. */
const MAX_RUNS = 512;
const MAX_EVENTS = 256;
/** Datagrams per batch in either direction, and bytes of the arenas. */
const MAX_DATAGRAMS = 1024;
const ARENA_BYTES = 1024 * 1024;
const SCRATCH_BYTES = 64 * 1024;
const FIGURES = 32;
const NEVER = Number.POSITIVE_INFINITY as WallTime;
/** Connection number of runs that belong to none. */
const NO_CONNECTION = 0xffff_ffff;

export type QuicCounterName =
  | (typeof NATIVE_COUNTERS)[number]
  | (typeof REFUSED)[number]
  | (typeof OWN_COUNTERS)[number];

const OWN_COUNTERS = ['runsOutside', 'expired', 'wrongKeyUsage'] as const;

/** What the endpoint sends without a connection. */
export const ResponseKind = { none: 0, reset: 1, versionNegotiation: 2, retry: 3, refusal: 4 } as const;

/** A run as `transmit` left it. */
export interface TransmitRun {
  /** Bytes in `tx`, prefixes included. */
  length: number;
  /** Bytes of each packet but the last, its prefix included. */
  segment: number;
  /** Undefined for the endpoint's own answers. */
  connection: number | undefined;
  /** Whether the destination is a relay channel, so that prefixes are to be filled in. */
  isVirtual: boolean;
  /** A `ResponseKind`: what the driver's own limits may want to drop. */
  response: number;
}

export class QuicEndpoint {
  /** Register it once with the sockets. */
  readonly tx: Uint8Array;
  readonly out: TransmitRun = { length: 0, segment: 0, connection: undefined, isVirtual: false, response: 0 };
  /** Where `onDatagrams` finds what arrived; its content is nobody's between two calls of `process`. */
  readonly inbound: Arena;
  /** Destination of the run, five words. */
  readonly outAddress: Uint32Array;
  /** Where datagrams for `writeDatagrams` are put. */
  readonly outbound: { readonly arena: Arena; readonly table: Uint32Array };
  /** The raw calls below connections and streams; for tests. */
  readonly host: NativeHost;
  readonly #native: NativeEndpoint;
  readonly #shared: SharedMemory;
  readonly #options: QuicEndpointOptions;
  readonly #connections = new Map<number, QuicConnection>();
  readonly #batch: { arena: Arena; bytes: Uint8Array; table: Uint32Array; count: number };
  readonly #own = new Counters(OWN_COUNTERS);
  #queued = 0;
  #processing = false;
  #closed = false;
  #ownExpiry: WallTime;
  #wall: WallTime;
  #wallTold: WallTime;
  #wallSetAt: Instant | undefined;
  /** The latest `now`. */
  #last: Instant = 0 as Instant;
  #nextExpiry: WallTime | undefined;
  #nextRecheck: Instant | undefined;

  /** @throws SallyportError QUIC_NATIVE_MISSING, QUIC_OPTIONS, CERTIFICATE_MALFORMED. */
  constructor(options: QuicEndpointOptions) {
    this.#options = options;
    const out = new Uint32Array(OUT_ADDRESS + ADDRESS_WORDS);
    const inbound = new Arena(ARENA_BYTES);
    this.outbound = { arena: new Arena(ARENA_BYTES), table: new Uint32Array(MAX_DATAGRAMS * 2) };
    this.tx = new Uint8Array(options.transmitBytes ?? DEFAULT_TRANSMIT_BYTES);
    this.outAddress = out.subarray(OUT_ADDRESS);
    this.#shared = {
      runs: new Uint32Array(MAX_RUNS * RUN_WORDS),
      out,
      tx: this.tx,
      events: new Float64Array(MAX_EVENTS * EVENT_WORDS),
      inbound: inbound.bytes,
      inboundTable: new Uint32Array(MAX_DATAGRAMS * 2),
      outboundTable: this.outbound.table,
      results: new Uint32Array(4),
      figures: new Float64Array(FIGURES),
      state: new Float64Array(STATE_WORDS),
      scratch: new Uint8Array(SCRATCH_BYTES),
    };
    this.inbound = inbound;
    this.#batch = { arena: inbound, bytes: inbound.bytes, table: this.#shared.inboundTable, count: 0 };
    this.#wall = options.wallTime;
    this.#wallTold = options.wallTime;
    this.#native = makeNative(toNative(options), this.#shared);
    this.#ownExpiry = options.identity === undefined ? NEVER : certificateExpiry(options.identity.certificate);
    this.attach(this.outbound.arena.bytes);
    const rate = options.messagesPerSecond ?? DEFAULT_MESSAGES_PER_SECOND;
    this.host = new NativeHost(this.#native, this.#shared, rate);
  }

  /** Memory that received runs or outbound datagrams lie in; it must never be transferred or resized. Returns its number. */
  attach(memory: Uint8Array): number {
    return this.#native.attach(memory);
  }

  attachReceive(memory: Uint8Array): number {
    return this.attach(memory);
  }

  /**
   * Notes one run for the next `receive`: `length` bytes at `offset` of memory `memory`, datagrams of `segment` bytes each
   * beginning with `skip` bytes that are not QUIC's, from the packed address at `index` of `addresses`.
   */
  queueRun(
    memory: number,
    offset: number,
    length: number,
    segment: number,
    skip: number,
    addresses: Uint32Array,
    index: number,
  ): void {
    if (this.#queued === MAX_RUNS) this.receive(this.#last);
    const runs = this.#shared.runs;
    const at = this.#queued++ * RUN_WORDS;
    const from = index * ADDRESS_WORDS;
    runs[at] = memory;
    runs[at + 1] = offset;
    runs[at + 2] = length;
    runs[at + 3] = segment;
    runs[at + 4] = skip;
    runs[at + 5] = addresses[from]!;
    runs[at + 6] = addresses[from + 1]!;
    runs[at + 7] = addresses[from + 2]!;
    runs[at + 8] = addresses[from + 3]!;
    runs[at + 9] = addresses[from + 4]!;
  }

  /** Takes in all queued runs, in one crossing; the receive memory is free afterwards. */
  receive(now: Instant): void {
    this.#last = now;
    const count = this.#queued;
    if (count === 0) return;
    this.#queued = 0;
    const outside = this.#native.receive(now, count);
    if (outside > 0) this.#own.add('runsOutside', outside);
  }

  /** Runs timers, then calls handlers for everything that has happened. Does nothing when a handler calls it. */
  process(now: Instant): void {
    if (this.#processing) return;
    this.#processing = true;
    try {
      this.#process(now);
    } finally {
      this.#processing = false;
    }
  }

  #process(now: Instant): void {
    this.receive(now);
    this.#last = now;
    const { events: table, state } = this.#shared;
    const deadline = state[STATE_DEADLINE]!;
    if (deadline >= 0 && deadline <= now) this.#native.expire(now);
    this.#judge(now);
    while (state[STATE_EVENTS]! > 0) {
      const count = this.#native.events();
      // A handler may make events, never overwrite the table: only `events` does.
      for (let i = 0; i < count * EVENT_WORDS; i += EVENT_WORDS) {
        this.#dispatch(now, table[i]!, table[i + 1]!, table[i + 2]!, table[i + 3]!);
      }
    }
  }

  /** Puts the next run at `offset` of `tx` and describes it in `out` and `outAddress`. False: nothing left, or no room. */
  transmit(now: Instant, offset: number, maxSegments: number): boolean {
    if (this.#shared.state[STATE_SENDS] === 0) return false;
    if (this.#native.transmit(now, offset, maxSegments) !== TRANSMIT_RUN) return false;
    const words = this.#shared.out;
    const run = this.out;
    run.length = words[0]!;
    run.segment = words[1]!;
    run.connection = words[2] === NO_CONNECTION ? undefined : words[2]!;
    run.isVirtual = words[3] === 1;
    run.response = words[4]!;
    return true;
  }

  /** Whether datagrams that `lendDatagrams` took in still wait: then nothing may be written over them. */
  get isLent(): boolean {
    return this.#shared.state[STATE_LENT]! > 0;
  }

  /** When `process` wants to be called next; may be early. */
  nextTimeout(): Instant | undefined {
    const { state } = this.#shared;
    const deadline = state[STATE_EVENTS]! > 0 ? 0 : state[STATE_DEADLINE]!;
    const timer = deadline < 0 ? undefined : (deadline as Instant);
    return earliest(timer, earliest(this.#expiryDeadline(), this.#nextRecheck));
  }

  /**
   * Starts a handshake with `to`, whose certificate must carry `serverName`.
   * @throws SallyportError QUIC_CONNECT (caller): not a client endpoint, port 0, or not a DNS name.
   */
  connect(now: Instant, to: SocketAddress, serverName: string, handler: ConnectionHandler): QuicConnection {
    this.#last = now;
    to.write(this.outAddress, 0);
    let id: number;
    try {
      id = this.#native.connect(now, serverName);
    } catch (cause) {
      throw new SallyportError('caller', 'QUIC_CONNECT', `QUIC connect: ${(cause as Error).message}`, { cause });
    }
    const connection = new QuicConnection(id, false, to, handler, this.host);
    this.#connections.set(id, connection);
    return connection;
  }

  /** New handshakes use the new identity. @throws SallyportError QUIC_OPTIONS; the old one then stays. */
  setIdentity(certificate: string, key: string): void {
    const expiry = certificateExpiry(certificate);
    try {
      this.#native.setIdentity(certificate, key);
    } catch (cause) {
      throw new SallyportError('caller', 'QUIC_OPTIONS', `QUIC identity: ${(cause as Error).message}`, { cause });
    }
    this.#ownExpiry = expiry;
  }

  /** The wall clock at `now`. */
  setWallTime(now: Instant, wall: WallTime): void {
    this.#wall = wall;
    this.#wallSetAt = now;
    if (Math.abs(wall - this.#wallTold) * 1_000 < WALL_RESOLUTION) return;
    this.#wallTold = wall;
    this.#native.setWallTime(wall);
  }

  /** Asks every handler's `recheck` now: policy or revocations have changed. */
  recheck(now: Instant): void {
    const wall = this.#wallNow(now);
    for (const connection of this.#connections.values()) {
      if (connection.state !== 'open') continue;
      const order = connection.handler?.recheck?.(now, wall, connection);
      if (order !== undefined) connection.close(now, order.code, order.reason);
    }
  }

  get connections(): IterableIterator<QuicConnection> {
    return this.#connections.values();
  }

  /** Everything counted since the beginning; `handshakes`, `connections` and `sources` are what there is now. */
  counters(): Record<QuicCounterName, number> {
    this.#native.counters();
    const result = {} as Record<QuicCounterName, number>;
    for (const [i, name] of NATIVE_COUNTERS.entries()) result[name] = this.#shared.figures[i]!;
    for (const name of REFUSED) result[name] = this.host.counters.get(name);
    for (const name of OWN_COUNTERS) result[name] = this.#own.get(name);
    return result;
  }

  /** Closes every connection. The driver then calls `process` and `transmit` once more, and lets go of the endpoint. */
  close(now: Instant, code: number = CloseCode.done, reason = ''): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const connection of this.#connections.values()) connection.close(now, code, reason);
  }

  #dispatch(now: Instant, kind: number, id: number, a: number, b: number): void {
    const connection = this.#connections.get(id);
    if (kind === EventKind.closed) {
      this.#onClosed(now, connection, id, a, b);
      return;
    }
    if (kind === EventKind.connected) {
      this.#onConnected(now, connection, id, a === 1);
      return;
    }
    if (connection === undefined || connection.state !== 'open') return;
    switch (kind) {
      case EventKind.datagrams:
        this.#readDatagrams(now, connection);
        break;
      case EventKind.streamOpened:
        connection.streamOpened(now, a);
        break;
      case EventKind.streamReadable:
        connection.streamReadable(now, a);
        break;
      case EventKind.streamWritable:
        connection.streamWritable(a);
        break;
      case EventKind.streamFinished:
      case EventKind.streamStopped:
        connection.streamEnded(now, a);
        break;
      case EventKind.streamsAvailable:
        connection.streamsAvailable();
        break;
      case EventKind.datagramsUnblocked:
        connection.handler?.onUnblocked?.(now, connection);
        break;
      case EventKind.addressChanged:
        connection.remote = this.host.remoteOf(id);
        connection.handler?.onAddressChanged?.(now, connection);
        break;
      case EventKind.datagramSize:
        connection.maxDatagramSize = a;
        connection.handler?.onDatagramSize?.(now, connection);
        break;
    }
  }

  #readDatagrams(now: Instant, connection: QuicConnection): void {
    for (;;) {
      const result = this.#native.readDatagrams(connection.id);
      this.#batch.count = result & (MORE - 1);
      if (this.#batch.count > 0) connection.handler?.onDatagrams(now, this.#batch as DatagramBatch, connection);
      if (result < MORE || connection.state !== 'open') return;
    }
  }

  #onConnected(now: Instant, known: QuicConnection | undefined, id: number, isServer: boolean): void {
    const connection = known ?? new QuicConnection(id, isServer, this.host.remoteOf(id), undefined, this.host);
    if (connection.state !== 'connecting') return;
    connection.state = 'open';
    connection.peerCertificates = this.#native.peerCertificates(id);
    const problem = this.#admit(connection);
    if (problem !== undefined) {
      connection.close(now, problem.code, problem.reason);
      return;
    }
    this.#watchExpiry(connection.certificateExpiry);
    this.#nextRecheck ??= later(now, this.#options.recheckInterval ?? DEFAULT_RECHECK_INTERVAL);
    if (isServer) {
      connection.handler = this.#options.server?.accept(now, connection);
      if (connection.handler === undefined) {
        connection.close(now, CloseCode.refused, 'refused');
        return;
      }
      this.#connections.set(id, connection);
    }
    connection.handler?.onConnected(now, connection);
  }

  /** The checks that rustls does not make. */
  #admit(connection: QuicConnection): { readonly code: number; readonly reason: string } | undefined {
    const certificate = connection.peerCertificates[0];
    const role = connection.isServer ? 'client' : 'server';
    const expiry = certificate === undefined ? undefined : expiryAs(role, certificate);
    if (expiry === undefined) {
      this.#own.add('wrongKeyUsage');
      return { code: CloseCode.keyUsage, reason: 'the certificate is not for this role' };
    }
    connection.certificateExpiry = Math.min(expiry, this.#ownExpiry) as WallTime;
    return undefined;
  }

  #onClosed(now: Instant, connection: QuicConnection | undefined, id: number, kind: number, code: number): void {
    const reason = closeReason(kind, code, this.#native.closeText(id));
    if (connection === undefined) return;
    connection.state = 'closed';
    this.#connections.delete(id);
    connection.handler?.onClosed(now, reason, connection);
  }

  /** Closes what has outlived its certificates, and asks the handlers when it is time. */
  #judge(now: Instant): void {
    const due = this.#expiryDeadline();
    if (due !== undefined && now >= due) {
      const wall = this.#wallNow(now);
      this.#nextExpiry = undefined;
      for (const connection of this.#connections.values()) {
        if (connection.state !== 'open') continue;
        if (connection.certificateExpiry <= wall) {
          this.#own.add('expired');
          connection.close(now, CloseCode.certificateExpired, 'certificate expired');
        } else this.#watchExpiry(connection.certificateExpiry);
      }
    }
    if (this.#nextRecheck !== undefined && now >= this.#nextRecheck) {
      this.#nextRecheck =
        this.#connections.size === 0
          ? undefined
          : later(now, this.#options.recheckInterval ?? DEFAULT_RECHECK_INTERVAL);
      this.recheck(now);
    }
  }

  #watchExpiry(expiry: WallTime): void {
    if (this.#nextExpiry === undefined || expiry < this.#nextExpiry) this.#nextExpiry = expiry;
  }

  /** The monotonic instant of the next expiry, as far as the wall clock was told. */
  #expiryDeadline(): Instant | undefined {
    if (this.#nextExpiry === undefined) return undefined;
    const base = this.#wallSetAt ?? this.#last;
    return later(base, Millis(this.#nextExpiry - this.#wall));
  }

  #wallNow(now: Instant): WallTime {
    return this.#wallSetAt === undefined ? this.#wall : wallLater(this.#wall, elapsed(this.#wallSetAt, now));
  }
}
