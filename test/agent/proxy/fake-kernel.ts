/**
 * A reactor and TCP sockets in memory and in virtual time: what the proxy sees of its clients. Readiness is level-triggered
 * and errors are told to those who ask for nothing, as with epoll.
 */

import { IpAddress, SocketAddress } from '../../../src/base/address.js';
import { SallyportError } from '../../../src/base/error.js';
import { type Instant, instantAt, type WallTime, wallAt } from '../../../src/base/time.js';
import { Timer, TimerQueue } from '../../../src/base/timers.js';
import {
  BROKEN,
  EAGAIN,
  ECONNRESET,
  READABLE,
  type Reactor,
  type ReadyHandler,
  type TcpListener,
  type TcpStream,
  type Watch,
  WRITABLE,
} from '../../../src/os/io.js';

const EPIPE = 32;
export const CLIENT = new SocketAddress(IpAddress.v4(0x7f000001), 40_000);

interface Descriptor {
  readiness(): number;
}

/** The client's end is the test's: `send`, `end`, `reset`, `received`. The other end is the proxy's `TcpStream`. */
export class FakeSocket implements TcpStream, Descriptor {
  readonly #incoming: number[] = [];
  readonly received: number[] = [];
  /** How much more the client lets itself be sent. */
  room = Number.POSITIVE_INFINITY;
  clientEnded = false;
  clientReset = false;
  serverEnded = false;
  /** How the proxy closed it. */
  closed: 'close' | 'abort' | undefined;

  constructor(readonly fd: number) {}

  send(bytes: Uint8Array | string): void {
    for (const byte of typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes) this.#incoming.push(byte);
  }

  /** Bytes the proxy has not read. */
  get unread(): number {
    return this.#incoming.length;
  }

  text(): string {
    return Buffer.from(this.received).toString('latin1');
  }

  readiness(): number {
    if (this.closed !== undefined) throw new Error(`descriptor ${this.fd} is watched after it was closed`);
    return (
      (this.#incoming.length > 0 || this.clientEnded || this.clientReset ? READABLE : 0) |
      (this.room > 0 ? WRITABLE : 0) |
      (this.clientReset || (this.clientEnded && this.serverEnded) ? BROKEN : 0)
    );
  }

  get local(): SocketAddress {
    return new SocketAddress(CLIENT.ip, 1080);
  }

  connectResult(): number {
    return 0;
  }

  read(target: Uint8Array, offset: number, length: number): number {
    if (this.clientReset) return -ECONNRESET;
    if (this.#incoming.length === 0) return this.clientEnded ? 0 : -EAGAIN;
    const part = this.#incoming.splice(0, length);
    target.set(part, offset);
    return part.length;
  }

  write(source: Uint8Array, offset: number, length: number): number {
    if (this.clientReset || this.serverEnded || this.closed !== undefined) return -EPIPE;
    const n = Math.min(length, this.room);
    if (n === 0) return -EAGAIN;
    this.received.push(...source.subarray(offset, offset + n));
    this.room -= n;
    return n;
  }

  shutdownWrite(): void {
    this.serverEnded = true;
  }

  close(): void {
    this.closed ??= 'close';
  }

  abort(): void {
    this.closed ??= 'abort';
  }
}

export class FakeListener implements TcpListener, Descriptor {
  readonly backlog: FakeSocket[] = [];
  /** Readable although nothing can be accepted: out of descriptors. */
  exhausted = false;
  accepts = 0;
  closed = false;

  constructor(
    readonly fd: number,
    readonly local: SocketAddress,
    readonly kernel: { readonly peer: SocketAddress },
  ) {}

  readiness(): number {
    return this.backlog.length > 0 || this.exhausted ? READABLE : 0;
  }

  accept(): { stream: TcpStream; peer: SocketAddress } | undefined {
    this.accepts++;
    const stream = this.exhausted ? undefined : this.backlog.shift();
    return stream === undefined ? undefined : { stream, peer: this.kernel.peer };
  }

  close(): void {
    this.closed = true;
  }
}

interface FakeWatch extends Watch {
  readonly descriptor: Descriptor;
  readonly handler: ReadyHandler;
  bits: number;
  open: boolean;
}

export class FakeKernel implements Reactor {
  time: Instant = instantAt(1_000_000);
  readonly listeners: FakeListener[] = [];
  /** Whom new clients come from. */
  peer = CLIENT;
  readonly #timers = new TimerQueue();
  readonly #watches = new Set<FakeWatch>();
  readonly #descriptors = new Map<number, Descriptor>();
  #nextFd = 10;

  /** Watches that are open. */
  get watched(): number {
    return this.#watches.size;
  }

  get timersArmed(): number {
    return this.#timers.size;
  }

  now(): Instant {
    return this.time;
  }

  readClock(): Instant {
    return this.time;
  }

  wall(): WallTime {
    return wallAt(0);
  }

  listen(local: SocketAddress): FakeListener {
    if (this.listeners.some((other) => !other.closed && other.local.equals(local))) {
      throw new SallyportError('environment', 'ADDRESS_IN_USE', `${local} is in use`);
    }
    const listener = new FakeListener(this.#nextFd++, local, this);
    this.#descriptors.set(listener.fd, listener);
    this.listeners.push(listener);
    return listener;
  }

  /** No UDP in memory: an association cannot be opened. */
  udp(): never {
    throw new SallyportError('environment', 'SOCKET_FAILED', 'no UDP here');
  }

  /** A client of the listener; accepted in the next turn. */
  client(listener: FakeListener): FakeSocket {
    const socket = new FakeSocket(this.#nextFd++);
    this.#descriptors.set(socket.fd, socket);
    listener.backlog.push(socket);
    return socket;
  }

  watch(fd: number, bits: number, handler: ReadyHandler): Watch {
    const descriptor = this.#descriptors.get(fd)!;
    for (const other of this.#watches) if (other.descriptor === descriptor) throw new Error(`${fd} is watched twice`);
    const watches = this.#watches;
    const watch: FakeWatch = {
      descriptor,
      handler,
      bits,
      open: true,
      interest(wanted) {
        watch.bits = wanted;
      },
      close() {
        watch.open = false;
        watches.delete(watch);
      },
    };
    watches.add(watch);
    return watch;
  }

  at(at: Instant, handler: (now: Instant) => void): () => void {
    const timer = new Timer(handler);
    this.#timers.arm(timer, at);
    return () => this.#timers.cancel(timer);
  }

  onTurn(): void {}

  run(): Promise<void> {
    return Promise.resolve();
  }

  stop(): void {}

  /** One turn at the present time. False when there was nothing to do. */
  turn(): boolean {
    let busy = false;
    for (const watch of [...this.#watches]) {
      if (!watch.open) continue;
      const ready = watch.descriptor.readiness() & (watch.bits | BROKEN);
      if (ready === 0 || (watch.bits === 0 && this.#told.has(watch))) continue;
      busy = true;
      watch.handler(ready);
      if ((ready & BROKEN) !== 0 && watch.bits === 0) this.#told.add(watch);
      else this.#told.delete(watch);
    }
    return this.#timers.expire(this.time) > 0 || busy;
  }

  readonly #told = new WeakSet<FakeWatch>();
}
