/**
 * The memory that packets are written to on their way into links. Links are lent it: they read a packet when it leaves, so that it
 * is not copied before. Until then nothing may be written over it.
 *
 *   main    │lent to links … │ free             │    from the beginning again once nothing of it is lent
 *   spare   │written │                                what is written here is copied at once: while a link keeps what fills the main one,
 *                                                     and for what has waited in a queue
 */
import type { Instant } from '../base/time.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import { Arena } from '../wire/arena.js';
import type { Link } from './link.js';

export class OutboundMemory {
  /** Where packets are written at present, from `offset` on. */
  arena: Arena;
  offset = 0;
  readonly #main: Arena;
  readonly #endpoint: QuicEndpoint;
  #spare: { readonly arena: Arena; readonly number: number } | undefined;

  constructor(endpoint: QuicEndpoint) {
    this.#endpoint = endpoint;
    this.#main = endpoint.outbound.arena;
    this.arena = this.#main;
  }

  /** Made when first needed. */
  get spare(): Arena {
    return this.#spareMemory().arena;
  }

  /** The first `count` entries of the endpoint's table, which were written here, go into `link`. Returns how many were taken. */
  feed(now: Instant, link: Link, count: number): number {
    return this.arena === this.#main ? link.connection.lendDatagrams(now, count) : this.feedSpare(now, link, count);
  }

  /** The same for what was written to the spare memory, which is free again afterwards. */
  feedSpare(now: Instant, link: Link, count: number): number {
    return link.connection.writeDatagrams(now, count, this.#spareMemory().number);
  }

  /** What was written has gone to where it goes: a link, a queue, or nowhere. */
  done(): void {
    if (this.arena === this.#main) return;
    this.offset = 0;
    if (!this.#endpoint.isLent) this.arena = this.#main;
  }

  /** Makes room for `bytes` bytes, which fit the arena. @param flushLinks sends what links hold, as far as the sockets take it */
  reserve(bytes: number, flushLinks: () => void): void {
    if (this.#endpoint.isLent) {
      if (this.offset + bytes <= this.arena.size) return;
      flushLinks();
      if (this.#endpoint.isLent) this.arena = this.spare;
    }
    this.offset = 0;
  }

  #spareMemory(): { readonly arena: Arena; readonly number: number } {
    if (this.#spare === undefined) {
      const arena = new Arena(this.#main.size);
      this.#spare = { arena, number: this.#endpoint.attach(arena.bytes) };
    }
    return this.#spare;
  }
}
