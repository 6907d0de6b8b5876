/**
 * A sink that turns what a stack emits into a batch of complete MTU-size packets: an arena and a table of offset, length.
 * Payload is copied once, from the connection's send buffer, and checksummed on the way.
 *
 *   table:  offset₀ length₀ │ offset₁ length₁ │ …        offsets are multiples of 4; `count` pairs are valid
 */
import { Drop } from '../base/drop.js';
import { type Arena, align, copyBytes } from '../wire/arena.js';
import { segmentPayload } from '../wire/gso.js';
import { IPV4_HEADER, IPV6_HEADER } from '../wire/ip.js';
import type { StackSink } from './types.js';

export class Packetizer implements StackSink {
  /** Packets in the batch. */
  count = 0;
  /** Packets that found no room even in an empty arena (a sizing mistake). */
  lost = 0;
  readonly table: Uint32Array;
  #end = 0;

  /**
   * @param arena room for the batch; at least one super-segment cut up (about 70 KB) should fit
   * @param packets entries of the table
   * @param drain called when the batch is full: hands the packets on; the batch is empty afterwards
   */
  constructor(
    readonly arena: Arena,
    packets: number,
    readonly drain: (batch: Packetizer) => void,
  ) {
    this.table = new Uint32Array(packets * 2);
  }

  /** Hands on what is in the batch. */
  flush(): void {
    if (this.count > 0) this.drain(this);
    this.count = 0;
    this.#end = 0;
  }

  emit(packet: Arena, offset: number, length: number): void {
    if (this.#end + length > this.arena.size || this.count * 2 === this.table.length) this.flush();
    if (length > this.arena.size) {
      this.lost++;
      return;
    }
    copyBytes(packet, offset, this.arena, this.#end, length);
    this.#add(this.#end, length);
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
    const ip = header.bytes[headerOffset] >>> 4 === 4 ? IPV4_HEADER : IPV6_HEADER;
    for (let attempt = 0; attempt < 2; attempt++) {
      const made = segmentPayload(
        header,
        headerOffset,
        ip,
        headerLength,
        payload,
        offset,
        length,
        segmentSize,
        false,
        this.arena,
        this.#end,
        this.table,
        this.count,
      );
      if (made > 0) {
        this.count += made;
        const last = this.count - 1;
        this.#end = align(this.table[last * 2] + this.table[last * 2 + 1]);
        return;
      }
      if (made !== -Drop.no_room) break;
      this.flush();
    }
    this.lost += Math.ceil(length / segmentSize);
  }

  #add(offset: number, length: number): void {
    this.table[this.count * 2] = offset;
    this.table[this.count * 2 + 1] = length;
    this.count++;
    this.#end = align(offset + length);
  }
}
