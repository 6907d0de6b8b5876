/** A program that uses a service over the agent's own stack: it writes as fast as it may and keeps what it reads. */
import type { SocketAddress } from '../../src/base/address.js';
import type { TcpConnection } from '../../src/netstack/tcp/connection.js';
import type { CloseReason, TcpHandlers } from '../../src/netstack/types.js';
import { at, type SimAgent } from './sim-nodes.js';

export class App implements TcpHandlers {
  readonly connection: TcpConnection;
  connected = false;
  peerClosed = false;
  closed: CloseReason | undefined;
  receivedBytes = 0;
  /** False: what arrives is left in the stack's buffer. */
  reads = true;
  readonly #agent: SimAgent;
  readonly #received: Uint8Array[] = [];
  #pending: Uint8Array = new Uint8Array(0);
  #endAfter = false;

  constructor(agent: SimAgent, to: string | SocketAddress) {
    this.#agent = agent;
    const address = typeof to === 'string' ? at(to) : to;
    this.connection = agent.core.stack.connect(agent.host.reactor.now(), address, this);
    agent.host.reactor.wake();
  }

  /** Bytes given to `say` that the stack has not taken: the program is made to wait. */
  get unsent(): number {
    return this.#pending.length;
  }

  get received(): Uint8Array {
    return Buffer.concat(this.#received);
  }

  text(): string {
    return new TextDecoder().decode(this.received);
  }

  say(bytes: Uint8Array | string): this {
    const more = typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes;
    this.#pending = Buffer.concat([this.#pending, more]);
    this.#push();
    return this;
  }

  /** Ends its direction when everything has been written. */
  end(): this {
    this.#endAfter = true;
    this.#push();
    return this;
  }

  abort(): void {
    this.connection.abort();
    this.#agent.host.reactor.wake();
  }

  read(): void {
    this.reads = true;
    this.connection.pull();
    this.#agent.host.reactor.wake();
  }

  #push(): void {
    while (this.#pending.length > 0) {
      const taken = this.connection.write(this.#pending, 0, this.#pending.length);
      if (taken === 0) break;
      this.#pending = this.#pending.subarray(taken);
    }
    if (this.#pending.length === 0 && this.#endAfter) this.connection.shutdownWrite();
    this.#agent.host.reactor.wake();
  }

  onConnected(): void {
    this.connected = true;
    this.#push();
  }

  onData(bytes: Uint8Array, offset: number, length: number): number {
    if (!this.reads) return 0;
    this.#received.push(bytes.slice(offset, offset + length));
    this.receivedBytes += length;
    return length;
  }

  onPeerClosed(): void {
    this.peerClosed = true;
  }

  onWritable(): void {
    this.#push();
  }

  onClosed(reason: CloseReason): void {
    this.closed = reason;
  }
}

/** Bytes that differ at every place, the same for the same seed. */
export function pattern(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}
