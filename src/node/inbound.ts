/**
 * The way of IP packets out of a link: DATAGRAM payloads are told apart by their first nibble, fragments put together, and
 * packets coalesced into super-segments for the device or stack behind.
 *
 *   0100, 0110 (4, 6)   one IP packet            0000   fragment            the rest   reserved, dropped
 */
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import type { DatagramBatch } from '../quic/connection.js';
import { Reassembler } from '../tunnel/fragments.js';
import { Arena } from '../wire/arena.js';
import { Coalescer, type CoalescerOptions, type CoalescerSink } from '../wire/gro.js';

export class Inbound {
  readonly #coalescer: Coalescer;
  readonly #drops: Counters<DropName>;

  constructor(drops: Counters<DropName>, sink: CoalescerSink, options: CoalescerOptions = {}) {
    this.#drops = drops;
    this.#coalescer = new Coalescer(sink, options);
  }

  /** Handles one batch of a session; everything has been given to the sink when it returns. */
  handle(now: Instant, batch: DatagramBatch, state: InboundState): void {
    const { arena, table, count } = batch;
    for (let i = 0; i < count; i++) {
      const offset = table[i * 2]!;
      const length = table[i * 2 + 1]!;
      const nibble = length === 0 ? -1 : arena.bytes[offset]! >>> 4;
      if (nibble === 4 || nibble === 6) this.#coalescer.push(arena, offset, length);
      else if (nibble === 0) this.#fragment(now, arena, offset, length, state);
      else this.#drops.values[Drop.reserved_frame]!++;
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
