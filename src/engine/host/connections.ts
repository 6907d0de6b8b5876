/**
 * A dialer whose sockets are the host's: the engine asks, the host answers later, each connection by its number.
 *
 *   engine ─ dial(request) ─► host                  host ─ connected(id) │ failed(id, kind) ─► engine
 *          ─ send(id, bytes) ─►   false: no more until resumed(id)       received(id, bytes[, from]) ─►
 *          ─ pause(id), resume(id) ─►                                    ended(id) ─►
 *          ─ end(id), close(id, reason) ─►                               closed(id, reason) ─►
 *
 * What the host hands over waits in a bounded queue; a host that ignores `pause` loses the connection (TCP, whose bytes must not be
 * dropped) or the datagram, and both are counted.
 */
import { ADDRESS_WORDS, SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import {
  BROKEN,
  EACCES,
  EAGAIN,
  ECONNREFUSED,
  ECONNRESET,
  type EchoSocket,
  EHOSTUNREACH,
  ENETUNREACH,
  ETIMEDOUT,
  type IoResult,
  READABLE,
  type TakeDatagram,
  type TcpStream,
  WRITABLE,
} from '../../os/io.js';
import type { Dialer, UdpOutlet } from '../dialer.js';
import type { LogFields } from '../log-sink.js';
import type { EngineCounter } from '../metrics.js';
import { ChunkQueue } from './chunk-queue.js';
import type { HostDescriptor, HostReactor } from './reactor.js';

export type DialFailure = 'refused' | 'unreachable-net' | 'unreachable-host' | 'timeout' | 'blocked' | 'other';

export interface DialRequest {
  /** Names the connection in every later call. */
  readonly id: number;
  readonly protocol: 'tcp' | 'udp';
  /** Where to: of UDP the first destination; each datagram says its own. */
  readonly destination: SocketAddress;
  /** The name that address was looked up by, when the engine knows one. */
  readonly host: string | undefined;
}

/** What a host does for the engine. Every call comes from within a turn, and must not wait. */
export interface HostConnections {
  dial(request: DialRequest): void;
  /**
   * Bytes of a TCP stream, or one datagram for `to`; only lent. They are taken in any case; false: nothing more until
   * `resumed`.
   */
  send(id: number, bytes: Uint8Array, to: SocketAddress | undefined): boolean;
  /** Half-close: nothing more is sent on this TCP connection. */
  end(id: number): void;
  /** The number means nothing any more. */
  close(id: number, reason: 'finished' | 'aborted'): void;
  /** Please hand over nothing more of it until `resume`. */
  pause(id: number): void;
  resume(id: number): void;
}

/** Datagrams given away before others get their turn. */
const RECEIVE_BUDGET = 64;
/** Hosts read in pieces of 64 KiB and more: so many times what makes a connection pause may wait for it. */
const OVERSHOOT = 4;

const ERRNO: Readonly<Record<DialFailure, number>> = {
  refused: ECONNREFUSED,
  'unreachable-net': ENETUNREACH,
  'unreachable-host': EHOSTUNREACH,
  timeout: ETIMEDOUT,
  blocked: EACCES,
  other: EHOSTUNREACH,
};

export interface HostTableParts {
  readonly reactor: HostReactor;
  readonly count: (counter: EngineCounter) => void;
  /** A call of the host's has thrown. */
  readonly onThrow: (call: string, error: unknown) => void;
  /** Told of every call but those with bytes, where somebody follows them. */
  readonly trace: ((message: string, fields: LogFields) => void) | undefined;
  readonly nameOf: (address: SocketAddress) => string | undefined;
  /** Bytes that wait for one connection, and for all. */
  readonly perFlowBytes: number;
  readonly totalBytes: number;
}

type Connection = HostStream | HostOutlet;

/** Every connection of every dialer, by its number. */
export class HostTable {
  /** Bytes that wait, of all connections. */
  queued = 0;
  /** More than half of all that may wait does: every connection is paused, down to a quarter. */
  isHeld = false;
  readonly parts: HostTableParts;
  readonly #connections = new Map<number, Connection>();
  #nextId = 1;

  constructor(parts: HostTableParts) {
    this.parts = parts;
  }

  nextId(): number {
    return this.#nextId++;
  }

  add(connection: Connection): void {
    this.#connections.set(connection.id, connection);
  }

  forget(id: number, fd: number): void {
    this.#connections.delete(id);
    this.parts.reactor.release(fd);
  }

  grew(bytes: number): void {
    this.queued += bytes;
    if (this.isHeld || this.queued < 0.5 * this.parts.totalBytes) return;
    this.isHeld = true;
    for (const connection of this.#connections.values()) connection.pause();
  }

  shrank(bytes: number): void {
    this.queued -= bytes;
    if (!this.isHeld || this.queued > 0.25 * this.parts.totalBytes) return;
    this.isHeld = false;
    for (const connection of this.#connections.values()) connection.resumeIfRoom();
  }

  connected(id: number): void {
    this.parts.trace?.('host says connected', { id });
    this.#connections.get(id)?.onConnected(0);
  }

  failed(id: number, kind: DialFailure): void {
    this.parts.trace?.('host says failed', { id, kind });
    this.#connections.get(id)?.onConnected(-(ERRNO[kind] ?? EHOSTUNREACH));
  }

  received(id: number, bytes: Uint8Array, from: SocketAddress | undefined): void {
    this.#connections.get(id)?.onReceived(bytes, from);
  }

  resumed(id: number): void {
    this.parts.trace?.('host says resumed', { id });
    this.#connections.get(id)?.onResumed();
  }

  ended(id: number): void {
    this.parts.trace?.('host says ended', { id });
    this.#connections.get(id)?.onEnded();
  }

  closed(id: number, isError: boolean): void {
    this.parts.trace?.('host says closed', { id, reason: isError ? 'error' : 'finished' });
    this.#connections.get(id)?.onHostClosed(isError);
  }
}

/** One of the host's ways out. */
export class HostDialer implements Dialer {
  readonly name: string;
  readonly table: HostTable;
  readonly #host: HostConnections;

  constructor(name: string, table: HostTable, host: HostConnections) {
    this.name = name;
    this.table = table;
    this.#host = host;
  }

  tcp(target: SocketAddress, done: (result: IoResult, stream: TcpStream | undefined) => void): () => void {
    const stream = new HostStream(this, target, done);
    this.#ask(stream, 'tcp', target);
    return () => stream.abort();
  }

  udp(_flow: Uint32Array, target: SocketAddress): UdpOutlet {
    const outlet = new HostOutlet(this);
    this.#ask(outlet, 'udp', target);
    return outlet;
  }

  /** A host has no echo to give: the engine answers. */
  echo(): EchoSocket {
    throw new SallyportError('caller', 'NO_ECHO', 'this dialer carries no ICMP');
  }

  /** Calls the host; one that throws is counted. */
  tell(call: keyof HostConnections, act: (host: HostConnections) => void): void {
    try {
      act(this.#host);
    } catch (error) {
      this.table.parts.onThrow(`${this.name}.${call}`, error);
    }
  }

  /** The same, followed in the log: not for calls with bytes. */
  ask(call: keyof HostConnections, id: number, act: (host: HostConnections) => void, fields?: LogFields): void {
    this.table.parts.trace?.(`host is asked to ${call}`, { id, dialer: this.name, ...fields });
    this.tell(call, act);
  }

  #ask(connection: Connection, protocol: 'tcp' | 'udp', destination: SocketAddress): void {
    this.table.add(connection);
    const host = this.table.parts.nameOf(destination);
    const { id } = connection;
    const fields = { protocol, destination: destination.toString(), host: host ?? '' };
    this.ask('dial', id, (to) => to.dial({ id, protocol, destination, host }), fields);
  }
}

/** What both kinds have in common: a queue from the host, a pause to it, and a pause from it. */
abstract class HostConnection implements HostDescriptor {
  readonly fd: number;
  protected readonly queue: ChunkQueue;
  /** `send` has returned false, and `resumed` has not come yet. */
  sendPaused = false;
  protected isClosed = false;
  #isPaused = false;

  readonly id: number;
  protected readonly table: HostTable;

  constructor(protected readonly dialer: HostDialer) {
    this.table = dialer.table;
    this.id = this.table.nextId();
    this.fd = this.table.parts.reactor.register(this);
    this.queue = new ChunkQueue();
  }

  abstract readiness(): number;

  onResumed(): void {
    this.sendPaused = false;
    this.notify();
  }

  protected notify(): void {
    this.table.parts.reactor.notify(this.fd);
  }

  /** Asks the host to hold back; nothing when it does already. */
  pause(): void {
    if (this.#isPaused || this.isClosed) return;
    this.#isPaused = true;
    this.dialer.ask('pause', this.id, (host) => host.pause(this.id));
  }

  /** Lets the host go on, unless this connection has enough of its own or all together have. */
  resumeIfRoom(): void {
    if (!this.#isPaused || this.isClosed || this.table.isHeld) return;
    if (this.queue.bytes > 0.5 * this.table.parts.perFlowBytes) return;
    this.#isPaused = false;
    this.dialer.ask('resume', this.id, (host) => host.resume(this.id));
  }

  /** False: it does not fit. */
  protected enqueue(bytes: Uint8Array, from: SocketAddress | undefined): boolean {
    const { queue, table } = this;
    const { perFlowBytes, totalBytes } = table.parts;
    const isTooMuch = queue.bytes + bytes.length > OVERSHOOT * perFlowBytes;
    if (isTooMuch || table.queued + bytes.length > totalBytes) return false;
    queue.push(bytes.slice(), from);
    if (queue.bytes >= 0.75 * perFlowBytes) this.pause();
    table.grew(bytes.length);
    this.notify();
    return true;
  }

  protected taken(bytes: number): void {
    this.table.shrank(bytes);
    this.resumeIfRoom();
  }

  protected discard(): void {
    const { bytes } = this.queue;
    this.queue.clear();
    this.table.shrank(bytes);
  }

  protected finish(reason: 'finished' | 'aborted' | undefined): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.discard();
    this.table.forget(this.id, this.fd);
    if (reason !== undefined) this.dialer.ask('close', this.id, (host) => host.close(this.id, reason), { reason });
  }
}

class HostStream extends HostConnection implements TcpStream {
  readonly local: SocketAddress;
  #done: ((result: IoResult, stream: TcpStream | undefined) => void) | undefined;
  #ended = false;
  #broken = false;
  #shut = false;
  /** The host knows the number no longer. */
  #gone = false;

  constructor(
    dialer: HostDialer,
    target: SocketAddress,
    done: (result: IoResult, stream: TcpStream | undefined) => void,
  ) {
    super(dialer);
    this.local = target;
    this.#done = done;
  }

  /** The answer is given in a turn, never within the host's call. */
  onConnected(result: IoResult): void {
    const done = this.#done;
    if (done === undefined) return;
    this.#done = undefined;
    const { reactor } = this.table.parts;
    reactor.at(reactor.now(), () => {
      if (this.isClosed) return;
      if (result === 0) done(0, this);
      else {
        this.finish(undefined);
        done(result, undefined);
      }
    });
  }

  onReceived(bytes: Uint8Array): void {
    if (this.#ended || this.#broken || bytes.length === 0) return;
    if (this.enqueue(bytes, undefined)) return;
    this.table.parts.count('host_queue_drops');
    this.#broken = true;
    this.discard();
    this.notify();
  }

  onEnded(): void {
    this.#ended = true;
    this.notify();
  }

  onHostClosed(isError: boolean): void {
    this.#gone = true;
    if (this.#done !== undefined) {
      this.onConnected(-(isError ? ECONNREFUSED : EHOSTUNREACH));
      return;
    }
    this.#broken ||= isError;
    this.#ended = true;
    this.notify();
  }

  connectResult(): IoResult {
    return 0;
  }

  readiness(): number {
    return (
      (this.queue.length > 0 || this.#ended || this.#broken ? READABLE : 0) |
      (this.sendPaused ? 0 : WRITABLE) |
      (this.#broken ? BROKEN : 0)
    );
  }

  read(target: Uint8Array, offset: number, length: number): IoResult {
    if (this.#broken) return -ECONNRESET;
    if (this.queue.length === 0) return this.#ended ? 0 : -EAGAIN;
    const n = this.queue.read(target, offset, length);
    this.taken(n);
    return n;
  }

  write(source: Uint8Array, offset: number, length: number): IoResult {
    if (this.#broken || this.#gone) return -ECONNRESET;
    if (this.sendPaused) return -EAGAIN;
    this.dialer.tell('send', (host) => {
      if (!host.send(this.id, source.subarray(offset, offset + length), undefined)) this.sendPaused = true;
    });
    return length;
  }

  shutdownWrite(): void {
    if (this.#shut) return;
    this.#shut = true;
    if (!this.#gone) this.dialer.ask('end', this.id, (host) => host.end(this.id));
  }

  close(): void {
    this.finish(this.#gone ? undefined : 'finished');
  }

  abort(): void {
    this.#done = undefined;
    this.finish(this.#gone ? undefined : 'aborted');
  }
}

/** Datagrams of one client port, before the host has said that it is connected too. */
class HostOutlet extends HostConnection implements UdpOutlet {
  readonly source = new Uint32Array(ADDRESS_WORDS);
  onOver: ((result: IoResult, stood: boolean) => void) | undefined;
  /** Why it is over, once it is: 0, or a negated errno. */
  #over: IoResult | undefined;
  #stood = false;
  /** The destination of the last datagram, as the host was told it. */
  #to: SocketAddress | undefined;

  get isDialling(): boolean {
    return !this.#stood && this.#over === undefined;
  }

  onConnected(result: IoResult): void {
    if (result === 0) this.#stood = true;
    else this.#end(result);
  }

  onReceived(bytes: Uint8Array, from: SocketAddress | undefined): void {
    if (this.#over !== undefined) return;
    this.#stood = true;
    if (from === undefined || !this.enqueue(bytes, from)) this.table.parts.count('host_queue_drops');
  }

  onEnded(): void {}

  onHostClosed(isError: boolean): void {
    this.#end(isError ? -ECONNREFUSED : 0);
  }

  readiness(): number {
    return this.queue.length > 0 || this.#over !== undefined ? READABLE : 0;
  }

  receive(take: TakeDatagram): IoResult {
    let count = 0;
    for (; count < RECEIVE_BUDGET && !this.isClosed; count++) {
      const next = this.queue.shift();
      if (next === undefined) break;
      this.taken(next.bytes.length);
      next.from!.write(this.source, 0);
      take(next.bytes, 0, next.bytes.length);
    }
    if (this.#over === undefined || this.queue.length > 0 || this.isClosed) return count;
    this.finish(undefined);
    this.onOver?.(this.#over, this.#stood);
    return count;
  }

  write(addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): IoResult {
    // Whoever uses it is about to be told, and tells of this datagram too.
    if (this.#over !== undefined) return length;
    if (this.sendPaused) return -EAGAIN;
    if (this.#to === undefined || !this.#to.matches(addresses, 1)) this.#to = SocketAddress.read(addresses, 1);
    const to = this.#to;
    this.dialer.tell('send', (host) => {
      if (!host.send(this.id, bytes.subarray(offset, offset + length), to)) this.sendPaused = true;
    });
    return length;
  }

  close(): void {
    this.finish(this.#over === undefined ? 'finished' : undefined);
  }

  /** Told once what the host has handed over is taken. */
  #end(result: IoResult): void {
    if (this.#over !== undefined) return;
    this.#over = result;
    this.notify();
  }
}
