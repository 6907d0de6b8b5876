/**
 * Packets of a suspect link, written a second time behind the headers of copies, so that the very same bytes can go out on two
 * links. Made when copies are first needed: a session whose links are well never pays for it.
 *
 *   bytes   ···│10 seq│packet│···│10 seq│fragment│···      table  [offset, length] per copy; packets at multiples of 4
 */
import type { QuicEndpoint } from '../quic/endpoint.js';
import { COPY_HEADER, putCopy } from '../tunnel/links/frames.js';
import { Arena, align, copyBytes } from '../wire/arena.js';

/** Bytes before a header, so that what follows it starts at a multiple of 4. */
const LEAD = align(COPY_HEADER) - COPY_HEADER;

export class Copies {
  /** The arena's number at the links' endpoint. */
  readonly memory: number;
  readonly arena: Arena;
  readonly table: Uint32Array;
  count = 0;
  #offset = 0;

  constructor(endpoint: QuicEndpoint) {
    const { arena, table } = endpoint.outbound;
    // Headers make packets longer: what fills the outbound arena with packets of 44 bytes and more has room here.
    this.arena = new Arena(arena.size + (arena.size >>> 2));
    this.table = new Uint32Array(table.length);
    this.memory = endpoint.attach(this.arena.bytes);
  }

  clear(): void {
    this.count = 0;
    this.#offset = 0;
  }

  /** Adds the packet of `length` bytes as copy `seq`. False: there is no room. */
  add(source: Arena, offset: number, length: number, seq: number, isMirrored: boolean): boolean {
    const header = this.#offset + LEAD;
    const end = header + COPY_HEADER + length;
    if (end > this.arena.size || (this.count + 1) * 2 > this.table.length) return false;
    putCopy(this.arena.bytes, header, seq, isMirrored);
    copyBytes(source, offset, this.arena, header + COPY_HEADER, length);
    this.table[this.count * 2] = header;
    this.table[this.count * 2 + 1] = COPY_HEADER + length;
    this.count++;
    this.#offset = align(end);
    return true;
  }
}
