/**
 * The agent's stack and a connector's, back to back, with a service behind: virtual time, no loss, a delay when wanted.
 */

import { UdpPorts } from '../../../src/agent/udp-ports.js';
import { IpAddress, SocketAddress } from '../../../src/base/address.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { earliest, type Instant } from '../../../src/base/time.js';
import { Stack } from '../../../src/netstack/stack.js';
import type { TcpConnection } from '../../../src/netstack/tcp/connection.js';
import type { TcpRequest } from '../../../src/netstack/tcp/request.js';
import type { CloseReason, Rejection, StackSink, TcpHandlers } from '../../../src/netstack/types.js';
import { createCrypto } from '../../../src/os/crypto.js';
import { Arena } from '../../../src/wire/arena.js';

export const OVERLAY6 = IpAddress.parse('fd12:3456:789a::9')!;
export const OVERLAY = IpAddress.parse('100.64.0.2')!;
const MTU = 1280;

interface Wire {
  readonly packet: Arena;
  readonly length: number;
  readonly segment: number;
}

/** One connection as the service sees it. Takes everything unless told otherwise. */
export class ServiceConnection implements TcpHandlers {
  connection!: TcpConnection;
  readonly received: number[] = [];
  peerClosed = false;
  closed: CloseReason | undefined;

  constructor(
    readonly to: SocketAddress,
    readonly echo: boolean,
  ) {}

  text(): string {
    return Buffer.from(this.received).toString('latin1');
  }

  send(text: string): void {
    this.connection.write(Buffer.from(text, 'latin1'), 0, text.length);
  }

  onData(bytes: Uint8Array, offset: number, length: number): number {
    if (this.echo) return this.connection.write(bytes, offset, length);
    this.received.push(...bytes.subarray(offset, offset + length));
    return length;
  }

  onWritable(): void {
    this.connection.pull();
  }

  onPeerClosed(): void {
    this.peerClosed = true;
    if (this.echo) this.connection.shutdownWrite();
  }

  onClosed(reason: CloseReason): void {
    this.closed = reason;
  }
}

export class Network {
  readonly agent: Stack;
  readonly udp = new UdpPorts({
    own: { overlay4: OVERLAY, overlay6: OVERLAY6 },
    entropy: new SeededEntropy(3),
    send: (now, addresses, bytes, offset, length) => this.agent.sendUdp(now, addresses, 0, 1, bytes, offset, length),
  });
  /** Datagrams that services got: who sent them, where to, what. */
  readonly datagrams: { readonly from: string; readonly to: string; readonly text: string }[] = [];
  /** What a UDP service answers; nothing when undefined. */
  answer: ((text: string) => string | undefined) | undefined = (text) => text.toUpperCase();
  readonly connector: Stack;
  /** What becomes of datagrams that are not answered. */
  rejects: Rejection | undefined;
  readonly connections: ServiceConnection[] = [];
  /** What the service does with a request. */
  policy: 'accept' | 'accept and speak' | 'accept and end' | 'reset' | 'ignore' = 'accept';
  /** Services say what they hear, and end when they have heard the end. */
  echo = false;
  /** Packets are lost on the way. */
  cut = false;
  /** What the agent sends waits on the way. */
  hold = false;
  readonly #toAgent: Wire[] = [];
  readonly #toConnector: Wire[] = [];
  readonly #accepted: ServiceConnection[] = [];

  /** @param sendBuffer bytes the agent's connections buffer at most; a power of two. */
  constructor(sendBuffer?: number, withV6 = false) {
    const crypto = createCrypto();
    this.agent = new Stack({
      mtu: MTU,
      sink: sinkInto(this.#toConnector),
      handlers: this.udp.handlers,
      entropy: new SeededEntropy(1),
      crypto,
      localV4: OVERLAY,
      ...(withV6 ? { localV6: OVERLAY6 } : {}),
      ...(sendBuffer === undefined ? {} : { tcp: { sendInitial: sendBuffer, sendMax: sendBuffer } }),
    });
    this.connector = new Stack({
      mtu: MTU,
      sink: sinkInto(this.#toAgent),
      handlers: {
        onSyn: (request) => this.#onSyn(request),
        onUdp: (addresses, bytes, offset, length) => this.#onUdp(addresses, bytes, offset, length),
      },
      entropy: new SeededEntropy(2),
      crypto,
    });
  }

  #onUdp(addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): Rejection | undefined {
    const text = Buffer.from(bytes.subarray(offset, offset + length)).toString('latin1');
    const [from, to] = [SocketAddress.read(addresses, 0), SocketAddress.read(addresses, 1)];
    this.datagrams.push({ from: from.toString(), to: to.toString(), text });
    const answer = this.answer?.(text);
    if (answer === undefined) return this.rejects;
    const back = new Uint32Array(10);
    to.write(back, 0);
    from.write(back, 1);
    this.connector.sendUdp(this.connector.now, back, 0, 1, Buffer.from(answer, 'latin1'), 0, answer.length);
    return undefined;
  }

  #onSyn(request: TcpRequest): void {
    if (this.policy === 'reset') request.reject('reset');
    else if (this.policy !== 'ignore') {
      const service = new ServiceConnection(SocketAddress.read(request.words, 0), this.echo);
      service.connection = request.accept(service)!;
      this.connections.push(service);
      if (this.policy !== 'accept') this.#accepted.push(service);
    }
  }

  /** Carries what is on the way until nothing is. */
  turn(now: Instant): boolean {
    let busy = false;
    for (;;) {
      for (const stack of [this.agent, this.connector]) {
        if ((stack.pollTimeout() ?? Number.POSITIVE_INFINITY) <= now) stack.handleTimeout(now);
        stack.flush(now);
      }
      const there = this.hold ? 0 : this.#carry(now, this.#toConnector, this.connector);
      const carried = there + this.#carry(now, this.#toAgent, this.agent);
      // A service that speaks or ends before the client has said anything.
      for (const service of this.#accepted.splice(0)) {
        if (this.policy === 'accept and speak') service.send('hello and goodbye');
        service.connection.shutdownWrite();
      }
      if (carried === 0) return busy;
      busy = true;
    }
  }

  nextTimeout(): Instant | undefined {
    return earliest(this.agent.pollTimeout(), this.connector.pollTimeout());
  }

  #carry(now: Instant, wire: Wire[], to: Stack): number {
    const packets = wire.splice(0);
    if (!this.cut)
      for (const { packet, length, segment } of packets) to.handlePacket(now, packet, 0, length, segment, true);
    return packets.length;
  }
}

/** Hands super-segments on whole, as a receiver that coalesces would see them. */
function sinkInto(wire: Wire[]): StackSink {
  const packetOf = (...parts: readonly [Arena, number, number][]): { packet: Arena; length: number } => {
    const length = parts.reduce((sum, [, , n]) => sum + n, 0);
    const packet = new Arena(length);
    let at = 0;
    for (const [from, offset, n] of parts) {
      packet.bytes.set(from.bytes.subarray(offset, offset + n), at);
      at += n;
    }
    return { packet, length };
  };
  return {
    emit: (packet, offset, length) => {
      wire.push({ ...packetOf([packet, offset, length]), segment: 0 });
    },
    emitTcp: (header, headerOffset, headerLength, payload, offset, length, segmentSize) => {
      const whole = packetOf([header, headerOffset, headerLength], [payload, offset, length]);
      wire.push({ ...whole, segment: length > segmentSize ? segmentSize : 0 });
    },
  };
}
