/**
 * The sink of a session's stack: what the stack emits is cut into packets right in the outbound arena of the links' endpoint,
 * so that payload is copied once between the stack's send buffer and the native side. Without a link packets are dropped;
 * TCP sends them again.
 */
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import type { StackSink } from '../netstack/types.js';
import { type Arena, align, copyBytes } from '../wire/arena.js';
import { segmentPayload } from '../wire/gso.js';
import { IPV4_HEADER, IPV6_HEADER } from '../wire/ip.js';
import type { Link } from './link.js';
import type { Outbound } from './outbound.js';

/** Where the packets of a stack go. */
export interface StackRoute {
  /** The live link that the packet whose IP header stands at `offset` of `packet` takes. */
  link(now: Instant, packet: Arena, offset: number): Link | undefined;
  /** Whether the packet that `link` was last asked for is held to links of its kind. */
  isHeld(): boolean;
  /** A complete packet found no link: it may be kept for later. False: it is dropped. */
  keep?(packet: Arena, offset: number, length: number): boolean;
}

export class StackOutput implements StackSink {
  readonly #outbound: Outbound;
  readonly #clock: { now(): Instant };
  readonly #drops: Counters<DropName>;
  readonly #route: StackRoute;

  constructor(outbound: Outbound, clock: { now(): Instant }, drops: Counters<DropName>, route: StackRoute) {
    this.#outbound = outbound;
    this.#clock = clock;
    this.#drops = drops;
    this.#route = route;
  }

  emit(packet: Arena, offset: number, length: number): void {
    const now = this.#clock.now();
    const link = this.#route.link(now, packet, offset);
    const outbound = this.#outbound;
    if (link === undefined || !link.isLive) {
      if (this.#route.keep?.(packet, offset, length) !== true) this.#drops.values[Drop.no_link]!++;
      return;
    }
    if (!outbound.begin(now, link, 1, align(length), this.#route.isHeld())) {
      this.#drops.values[Drop.no_room]!++;
      return;
    }
    copyBytes(packet, offset, outbound.arena, outbound.offset, length);
    outbound.table[outbound.count * 2] = outbound.offset;
    outbound.table[outbound.count * 2 + 1] = length;
    outbound.commit(1);
  }

  emitTcp(
    header: Arena,
    headerOffset: number,
    headerLength: number,
    payload: Arena,
    offset: number,
    length: number,
    segmentSize: number,
  ): void {
    const now = this.#clock.now();
    const link = this.#route.link(now, header, headerOffset);
    const outbound = this.#outbound;
    const packets = Math.ceil(length / segmentSize);
    if (link === undefined || !link.isLive) {
      this.#drops.values[Drop.no_link]! += packets;
      return;
    }
    const room = packets * align(headerLength + segmentSize);
    if (!outbound.begin(now, link, packets, room, this.#route.isHeld())) {
      this.#drops.values[Drop.no_room]! += packets;
      return;
    }
    const start = header.bytes[headerOffset]! >>> 4 === 4 ? IPV4_HEADER : IPV6_HEADER;
    const made = segmentPayload(
      header,
      headerOffset,
      start,
      headerLength,
      payload,
      offset,
      length,
      segmentSize,
      false,
      outbound.arena,
      outbound.offset,
      outbound.table,
      outbound.count,
      link.takesOpen,
    );
    if (made > 0) outbound.commit(made);
    else this.#drops.values[-made]! += packets;
  }
}
