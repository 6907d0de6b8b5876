/**
 * The way of IP packets out of a link: DATAGRAM payloads are told apart by their first nibble, fragments put together, copies
 * that have come already left out, and packets coalesced into super-segments for the device or stack behind.
 *
 *   0100, 0110 (4, 6)   one IP packet            0000   fragment          0001   copy of one of these
 *   0101, 0111 (5, 7)   one IP packet whose TCP checksum is left open (wire/open-checksum.ts)
 *   0010                heartbeat                the rest   reserved, dropped
 */
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import type { DatagramBatch } from '../quic/connection.js';
import { Reassembler } from '../tunnel/fragments.js';
import { COPY_HEADER } from '../tunnel/links/frames.js';
import { Arena } from '../wire/arena.js';
import { Coalescer, type CoalescerOptions, type CoalescerSink } from '../wire/gro.js';
import { OPEN_MARK } from '../wire/open-checksum.js';
import type { Link } from './link.js';

export class Inbound {
  readonly #coalescer: Coalescer;
  readonly #drops: Counters<DropName>;

  constructor(drops: Counters<DropName>, sink: CoalescerSink, options: CoalescerOptions = {}) {
    this.#drops = drops;
    this.#coalescer = new Coalescer(sink, options);
  }

  /** Handles one batch of a session that came on `link`; everything has been given to the sink when it returns. */
  handle(now: Instant, batch: DatagramBatch, state: InboundState, link: Link): void {
    const { arena, table, count } = batch;
    let packets = 0;
    for (let i = 0; i < count; i++) {
      const offset = table[i * 2]!;
      const length = table[i * 2 + 1]!;
      const nibble = length === 0 ? -1 : arena.bytes[offset]! >>> 4;
      if (nibble === 4 || nibble === 6) {
        this.#coalescer.push(arena, offset, length);
        packets++;
      } else if (nibble === 5 || nibble === 7) {
        arena.bytes[offset]! &= ~OPEN_MARK;
        this.#coalescer.push(arena, offset, length, true);
        packets++;
      } else if (nibble === 0) {
        this.#fragment(now, arena, offset, length, state);
        packets++;
      } else if (nibble === 1) packets += this.#copy(now, arena, offset, length, state, link);
      else if (nibble === 2) this.#beat(now, arena, offset, length, link);
      else this.#drops.values[Drop.reserved_frame]!++;
    }
    if (packets > 0) {
      link.packetsIn += packets;
      link.set?.traffic(now);
    }
    this.#coalescer.flush();
  }

  #fragment(now: Instant, arena: Arena, offset: number, length: number, state: InboundState): void {
    const reassembly = state.reassembly();
    const result = reassembly.reassembler.add(now, arena.bytes, offset, length);
    if (result > 0) this.#coalescer.push(reassembly.arena, reassembly.reassembler.offset, result);
    else if (result < 0) this.#drops.values[-result]!++;
    const { expired, displaced } = reassembly.reassembler;
    if (expired + displaced === 0) return;
    this.#drops.values[Drop.reassembly_timeout]! += expired;
    this.#drops.values[Drop.reassembly_limit]! += displaced;
    reassembly.reassembler.expired = 0;
    reassembly.reassembler.displaced = 0;
  }

  /** Returns 1 when there was a packet or fragment in it, come before or not. */
  #copy(now: Instant, arena: Arena, offset: number, length: number, state: InboundState, link: Link): number {
    const { set } = link;
    if (set === undefined || length < COPY_HEADER) {
      this.#drops.values[Drop.malformed]!++;
      return 0;
    }
    const isFirst = set.onCopy(now, arena.bytes, offset, length);
    // An alarm is the header of a copy and nothing more.
    if (length === COPY_HEADER) return 0;
    if (!isFirst) {
      this.#drops.values[Drop.duplicate]!++;
      return 1;
    }
    const inner = arena.bytes[offset + COPY_HEADER]! >>> 4;
    const size = length - COPY_HEADER;
    if (inner === 0) this.#fragment(now, arena, offset + COPY_HEADER, size, state);
    else if (inner === 4 || inner === 6) {
      // Packets start at a multiple of 4: the copy's header has done its work.
      arena.bytes.copyWithin(offset, offset + COPY_HEADER, offset + length);
      this.#coalescer.push(arena, offset, size);
    } else this.#drops.values[Drop.reserved_frame]!++;
    return 1;
  }

  #beat(now: Instant, arena: Arena, offset: number, length: number, link: Link): void {
    const { set } = link;
    if (set === undefined || !set.onBeat(now, link, arena.bytes, offset, length)) this.#drops.values[Drop.malformed]!++;
  }
}

/** What reassembly a session holds; made on its first fragment. */
export class InboundState {
  #reassembly: { readonly reassembler: Reassembler; readonly arena: Arena } | undefined;

  reassembly(): { readonly reassembler: Reassembler; readonly arena: Arena } {
    if (this.#reassembly === undefined) {
      const reassembler = new Reassembler();
      this.#reassembly = { reassembler, arena: new Arena(reassembler.memory) };
    }
    return this.#reassembly;
  }
}
