/**
 * A TCP connection of a simulated host with its backend in memory. The node under test holds the `TcpStream`; the test is the
 * backend: `say`, `end`, `reset`, `received`, and `room` for one that reads slowly.
 */
import type { SocketAddress } from '../../src/base/address.js';
import { BROKEN, EAGAIN, ECONNRESET, READABLE, type TcpStream, WRITABLE } from '../../src/os/io.js';
import type { Descriptor, SimReactor } from './sim-reactor.js';

const EPIPE = 32;

export class SimStream implements TcpStream, Descriptor {
  readonly fd: number;
  readonly to: SocketAddress;
  /** Bytes the backend takes before it makes the node wait. */
  room = Number.POSITIVE_INFINITY;
  receivedBytes = 0;
  /** The node's direction has ended. */
  nodeEnded = false;
  /** How the node let go of it. */
  closed: 'close' | 'abort' | undefined;
  /** The backend as a program. */
  onData: ((bytes: Uint8Array) => void) | undefined;
  onEnd: (() => void) | undefined;
  readonly #received: Uint8Array[] = [];
  readonly #incoming: Uint8Array[] = [];
  #unread = 0;
  #ended = false;
  #reset = false;
  #result: number | undefined;

  constructor(reactor: SimReactor, to: SocketAddress) {
    this.fd = reactor.register(this);
    this.to = to;
  }

  /** The attempt to connect has come to a result. */
  settle(result: number): void {
    this.#result = result;
  }

  say(bytes: Uint8Array | string): void {
    const copy = typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes.slice();
    this.#incoming.push(copy);
    this.#unread += copy.length;
  }

  end(): void {
    this.#ended = true;
  }

  reset(): void {
    this.#reset = true;
  }

  /** Bytes said that the node has not read. */
  get unread(): number {
    return this.#unread;
  }

  get received(): Uint8Array {
    return Buffer.concat(this.#received);
  }

  text(): string {
    return new TextDecoder().decode(this.received);
  }

  readiness(): number {
    if (this.closed !== undefined) throw new Error('a closed stream is still watched');
    if (this.#result === undefined) return 0;
    if (this.#result !== 0) return WRITABLE | BROKEN;
    return (
      (this.#unread > 0 || this.#ended || this.#reset ? READABLE : 0) |
      (this.room > 0 ? WRITABLE : 0) |
      (this.#reset || (this.#ended && this.nodeEnded) ? BROKEN : 0)
    );
  }

  get local(): SocketAddress {
    return this.to;
  }

  connectResult(): number {
    return this.#result ?? -EAGAIN;
  }

  read(target: Uint8Array, offset: number, length: number): number {
    if (this.#reset) return -ECONNRESET;
    const first = this.#incoming[0];
    if (first === undefined) return this.#ended ? 0 : -EAGAIN;
    const n = Math.min(first.length, length);
    target.set(first.subarray(0, n), offset);
    if (n === first.length) this.#incoming.shift();
    else this.#incoming[0] = first.subarray(n);
    this.#unread -= n;
    return n;
  }

  write(source: Uint8Array, offset: number, length: number): number {
    if (this.#reset || this.nodeEnded || this.closed !== undefined) return -EPIPE;
    const n = Math.min(length, this.room);
    if (n === 0) return -EAGAIN;
    const bytes = source.slice(offset, offset + n);
    this.#received.push(bytes);
    this.receivedBytes += n;
    this.room -= n;
    this.onData?.(bytes);
    return n;
  }

  shutdownWrite(): void {
    if (this.nodeEnded) return;
    this.nodeEnded = true;
    this.onEnd?.();
  }

  close(): void {
    this.closed ??= 'close';
  }

  abort(): void {
    this.closed ??= 'abort';
  }
}
