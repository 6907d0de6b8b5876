/**
 * Packets written a second time, because they cannot go into a link as they lie in the outbound arena: cut ones, those that go out on
 * two links behind the headers of copies, and the ones between them, so that everything leaves in the order in which it came. Made when
 * first needed: a node whose links carry everything and are well never pays for it.
 *
 *   bytes    ···│packet│fragment│fragment│10 seq│packet│···     each packet at a multiple of 4
 *   table    [offset, length] of all of them                    copies   of those that the second link gets too
 */
import type { QuicEndpoint } from '../quic/endpoint.js';
import { COPY_HEADER, putCopy } from '../tunnel/links/frames.js';
import { Arena, align, copyBytes } from '../wire/arena.js';

/** Bytes before a copy's header, so that what follows it starts at a multiple of 4. */
const LEAD = align(COPY_HEADER) - COPY_HEADER;

export class Staging {
  /** The arena's number at the links' endpoint. */
  readonly memory: number;
  readonly arena: Arena;
  readonly table: Uint32Array;
  readonly copies: Uint32Array;
  count = 0;
  copyCount = 0;
  #offset = 0;

  constructor(endpoint: QuicEndpoint) {
    const { arena, table } = endpoint.outbound;
    // Headers make packets longer: most batches fit at once.
    this.arena = new Arena(arena.size + (arena.size >>> 2));
    this.table = new Uint32Array(table.length);
    this.copies = new Uint32Array(table.length);
    this.memory = endpoint.attach(this.arena.bytes);
  }

  clear(): void {
    this.count = 0;
    this.copyCount = 0;
    this.#offset = 0;
  }

  /** Adds `length` bytes as they are. False: there is no room. */
  add(source: Arena, offset: number, length: number): boolean {
    const at = this.#offset;
    if (!this.#hasRoom(at + length)) return false;
    copyBytes(source, offset, this.arena, at, length);
    this.#enter(at, length);
    return true;
  }

  /** Adds them as copy `seq`. False: there is no room. */
  addCopy(source: Arena, offset: number, length: number, seq: number, isMirrored: boolean): boolean {
    const header = this.#offset + LEAD;
    if (!this.#hasRoom(header + COPY_HEADER + length)) return false;
    putCopy(this.arena.bytes, header, seq, isMirrored);
    copyBytes(source, offset, this.arena, header + COPY_HEADER, length);
    this.copies[this.copyCount * 2] = header;
    this.copies[this.copyCount * 2 + 1] = COPY_HEADER + length;
    this.copyCount++;
    this.#enter(header, COPY_HEADER + length);
    return true;
  }

  #hasRoom(end: number): boolean {
    return end <= this.arena.size && (this.count + 1) * 2 <= this.table.length;
  }

  #enter(at: number, length: number): void {
    this.table[this.count * 2] = at;
    this.table[this.count * 2 + 1] = length;
    this.count++;
    this.#offset = align(at + length);
  }
}
