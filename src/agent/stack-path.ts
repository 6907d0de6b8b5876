/**
 * The agent's proxy mode: a userspace stack with the overlay address, whose packets take the sessions' links, and from
 * which local proxies open connections to services.
 */
import type { SocketAddress } from '../base/address.js';
import type { Counters } from '../base/counters.js';
import type { Crypto } from '../base/crypto.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import type { Instant } from '../base/time.js';
import { BufferStore, RETAINED_BYTES } from '../netstack/buffer-store.js';
import { createStackCounters, type StackCounters } from '../netstack/counters.js';
import { Stack } from '../netstack/stack.js';
import type { TcpConnection } from '../netstack/tcp/connection.js';
import type { TcpHandlers } from '../netstack/types.js';
import { Bounces } from '../node/bounces.js';
import type { Link } from '../node/link.js';
import type { Outbound } from '../node/outbound.js';
import { StackOutput } from '../node/stack-output.js';
import type { CompiledService } from '../policy/view.js';
import type { Arena } from '../wire/arena.js';
import type { CoalescedPacket } from '../wire/gro.js';
import type { OwnAddresses } from './judge.js';
import type { Routes } from './routes.js';
import type { Sessions } from './sessions.js';
import { UdpPorts } from './udp-ports.js';

export interface StackPathParts {
  readonly sessions: Sessions;
  readonly outbound: Outbound;
  readonly drops: Counters<DropName>;
  readonly routes: () => Routes | undefined;
  readonly own: OwnAddresses;
  readonly innerMtu: number;
  readonly clock: { now(): Instant };
  readonly entropy: Entropy;
  readonly crypto: Crypto;
}

export class StackPath {
  readonly counters: StackCounters = createStackCounters();
  readonly buffers = new BufferStore(RETAINED_BYTES);
  /** Ports of the proxies' UDP flows. */
  readonly udp: UdpPorts;
  readonly #stack: Stack;
  readonly #bounces: Bounces;
  readonly #parts: StackPathParts;
  /** Of the packet whose link was last looked for. */
  #isHeld = false;

  constructor(parts: StackPathParts) {
    this.#parts = parts;
    const { own, clock } = parts;
    this.udp = new UdpPorts({
      own,
      entropy: parts.entropy,
      send: (now, addresses, bytes, offset, length) => this.#stack.sendUdp(now, addresses, 0, 1, bytes, offset, length),
    });
    this.#stack = new Stack({
      mtu: parts.innerMtu,
      entropy: parts.entropy,
      crypto: parts.crypto,
      counters: this.counters,
      buffers: this.buffers,
      handlers: this.udp.handlers,
      ...(own.overlay4 === undefined ? {} : { localV4: own.overlay4 }),
      ...(own.overlay6 === undefined ? {} : { localV6: own.overlay6 }),
      sink: new StackOutput(parts.outbound, clock, parts.drops, {
        link: (now, packet, offset) => this.#link(now, packet, offset),
        isHeld: () => this.#isHeld,
        keep: (packet, offset, length) => this.#keep(packet, offset, length),
      }),
    });
    this.#bounces = new Bounces(this.#stack);
  }

  /** A packet of the stack was dropped because its link carries only `mtu` bytes. */
  tooBig(arena: Arena, offset: number, length: number, mtu: number): void {
    this.#bounces.add(arena.bytes, offset, length, 'too_big', mtu);
  }

  /** These packets have waited for a session whose connector is not there. */
  refuse(packets: readonly Uint8Array[]): void {
    for (const packet of packets) this.#bounces.add(packet, 0, packet.length, 'host_unreachable');
  }

  /** Opens a connection to a service's address. @throws SallyportError STACK_NO_ADDRESS, STACK_NO_PORT (caller). */
  connect(now: Instant, to: SocketAddress, handlers: TcpHandlers): TcpConnection {
    return this.#stack.connect(now, to, handlers);
  }

  deliver(now: Instant, packet: CoalescedPacket): number {
    const { arena, offset, length, gsoSize, checked } = packet;
    this.#stack.handlePacket(now, arena, offset, length, gsoSize, checked);
    return Drop.none;
  }

  /** A session has a link again: its flows go on at once. */
  kick(now: Instant): void {
    this.#stack.kick(now);
  }

  flush(now: Instant): void {
    if (!this.#bounces.isEmpty) this.#bounces.report(now);
    const due = this.#stack.pollTimeout();
    if (due !== undefined && due <= now) this.#stack.handleTimeout(now);
    this.#stack.flush(now);
  }

  /** At once (0) while the stack has something to be told. */
  nextTimeout(): Instant | undefined {
    return this.#bounces.isEmpty ? this.#stack.pollTimeout() : (0 as Instant);
  }

  /** Keeps a packet for a session that opens; for one whose connector is not there, its flow is told so. */
  #keep(packet: Arena, offset: number, length: number): boolean {
    const now = this.#parts.clock.now();
    const service = this.#service(packet, offset);
    const session = service && this.#parts.sessions.sessionFor(now, service);
    if (session === undefined) return false;
    if (!session.isAbsent(now)) return session.waiting.push(packet.bytes, offset, length);
    this.#bounces.add(packet.bytes, offset, length, 'host_unreachable');
    return false;
  }

  #link(now: Instant, packet: Arena, offset: number): Link | undefined {
    const service = this.#service(packet, offset);
    this.#isHeld = service?.entry.path !== undefined;
    return service && this.#parts.sessions.sessionFor(now, service)?.linkFor(now, service);
  }

  #service({ bytes }: Arena, offset: number): CompiledService | undefined {
    return this.#parts.routes()?.serviceOf(bytes, offset);
  }
}
