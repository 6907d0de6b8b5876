/**
 * Inner packets that do not fit one DATAGRAM, in at most four equal parts.
 *
 *   00 · id u16 · last bit, offset u15 · bytes            (a fragment as a DATAGRAM payload)
 *
 * The id counts per session and sender, so that parts may travel on different links. Reassembly is bounded in packets,
 * bytes and time; parts that overlap drop the whole packet, because one of them is not what the sender cut (RFC 5722 has
 * the same rule and reason).
 */
import { Drop, type DropReason } from '../base/drop.js';
import { type Duration, type Instant, later, Seconds } from '../base/time.js';

export const FRAGMENT_HEADER = 5;
/** Parts one packet may have. */
export const MAX_FRAGMENTS = 4;
/** Packets and time that reassembly holds per session; with the slot size below this is 256 KiB. */
export const REASSEMBLY_PACKETS = 64;
export const REASSEMBLY_PACKET_BYTES = 4096;
export const REASSEMBLY_TIME: Duration = Seconds(1);

const LAST = 0x8000;

/** The id of the packet that the fragment at `offset` is a part of. */
export function fragmentId(bytes: Uint8Array, offset: number): number {
  return (bytes[offset + 1]! << 8) | bytes[offset + 2]!;
}

/** Whether the fragment at `offset` begins its packet. */
export function isFirstFragment(bytes: Uint8Array, offset: number): boolean {
  return ((bytes[offset + 3]! << 8) | bytes[offset + 4]!) === 0;
}

/** Cuts packets; one per session and sender. */
export class Fragmenter {
  #nextId: number;

  constructor(firstId = 0) {
    this.#nextId = firstId & 0xffff;
  }

  /**
   * Writes the fragments of a packet to `target` at `targetOffset` (each start a multiple of 4) and their places to
   * `table` from entry `index` on.
   * @returns the number of fragments, or a negated drop reason (`too_big` when four parts do not do).
   */
  cut(
    source: Uint8Array,
    offset: number,
    length: number,
    maxDatagram: number,
    target: Uint8Array,
    targetOffset: number,
    table: Uint32Array,
    index: number,
  ): number {
    const room = maxDatagram - FRAGMENT_HEADER;
    const parts = room > 0 ? Math.ceil(length / room) : MAX_FRAGMENTS + 1;
    if (parts > MAX_FRAGMENTS || length > REASSEMBLY_PACKET_BYTES) return -Drop.too_big;
    const size = Math.ceil(length / parts);
    const id = this.#nextId;
    this.#nextId = (id + 1) & 0xffff;
    let to = targetOffset;
    for (let part = 0; part < parts; part++) {
      const from = part * size;
      const take = Math.min(size, length - from);
      const position = from | (part === parts - 1 ? LAST : 0);
      target[to] = 0;
      target[to + 1] = id >>> 8;
      target[to + 2] = id;
      target[to + 3] = position >>> 8;
      target[to + 4] = position;
      target.set(source.subarray(offset + from, offset + from + take), to + FRAGMENT_HEADER);
      table[(index + part) * 2] = to;
      table[(index + part) * 2 + 1] = FRAGMENT_HEADER + take;
      to = (to + FRAGMENT_HEADER + take + 3) & ~3;
    }
    return parts;
  }
}

interface Slot {
  used: boolean;
  id: number;
  deadline: Instant;
  /** Total length, known once the last part is here; else 0. */
  total: number;
  received: number;
  parts: number;
  readonly starts: Uint32Array;
  readonly ends: Uint32Array;
  readonly base: number;
}

/** Puts packets together; one per session. After `add` returned a length the packet stands in `memory` at `offset`. */
export class Reassembler {
  readonly memory: Uint8Array;
  offset = 0;
  /** Packets given up because their time ran out, and because newer ones needed their room (the owner counts and clears). */
  expired = 0;
  displaced = 0;
  readonly #slots: Slot[] = [];
  #last: Slot | undefined;

  /** @param memory `REASSEMBLY_PACKETS * REASSEMBLY_PACKET_BYTES` bytes, four-byte aligned; allocated when absent. */
  constructor(memory: Uint8Array = new Uint8Array(REASSEMBLY_PACKETS * REASSEMBLY_PACKET_BYTES)) {
    this.memory = memory;
    for (let i = 0; i < REASSEMBLY_PACKETS; i++) {
      this.#slots.push({
        used: false,
        id: 0,
        deadline: 0 as Instant,
        total: 0,
        received: 0,
        parts: 0,
        starts: new Uint32Array(MAX_FRAGMENTS),
        ends: new Uint32Array(MAX_FRAGMENTS),
        base: i * REASSEMBLY_PACKET_BYTES,
      });
    }
  }

  /**
   * Takes one fragment (with its header).
   * @returns the packet's length when it is complete, 0 when parts are missing, or a negated drop reason.
   */
  add(now: Instant, bytes: Uint8Array, offset: number, length: number): number {
    if (length <= FRAGMENT_HEADER) return -Drop.malformed;
    const id = fragmentId(bytes, offset);
    const position = (bytes[offset + 3]! << 8) | bytes[offset + 4]!;
    const start = position & ~LAST;
    const end = start + length - FRAGMENT_HEADER;
    const slot = this.#slot(now, id);
    const problem = this.#accept(slot, start, end, (position & LAST) !== 0);
    if (problem !== Drop.none) {
      slot.used = false;
      return -problem;
    }
    this.memory.set(bytes.subarray(offset + FRAGMENT_HEADER, offset + length), slot.base + start);
    if (slot.total === 0 || slot.received < slot.total) return 0;
    slot.used = false;
    this.offset = slot.base;
    return slot.total;
  }

  #accept(slot: Slot, start: number, end: number, last: boolean): DropReason {
    if (end > REASSEMBLY_PACKET_BYTES) return Drop.too_big;
    if (slot.parts === MAX_FRAGMENTS) return Drop.reassembly_overlap;
    for (let i = 0; i < slot.parts; i++) {
      if (start < slot.ends[i]! && end > slot.starts[i]!) return Drop.reassembly_overlap;
      if (last && slot.ends[i]! > end) return Drop.reassembly_overlap;
    }
    if (slot.total !== 0 && (last || end > slot.total)) return Drop.reassembly_overlap;
    slot.starts[slot.parts] = start;
    slot.ends[slot.parts] = end;
    slot.parts++;
    slot.received += end - start;
    if (last) slot.total = end;
    return Drop.none;
  }

  /**
   * The slot of `id`, or a fresh one. When all are taken the oldest packet gives way: under loss those that miss a part
   * would otherwise keep every packet out for a second.
   */
  #slot(now: Instant, id: number): Slot {
    const recent = this.#last;
    if (recent?.used && recent.id === id && recent.deadline > now) return recent;
    let free: Slot | undefined;
    let oldest = this.#slots[0]!;
    for (const slot of this.#slots) {
      if (slot.used && slot.deadline <= now) {
        slot.used = false;
        this.expired++;
      }
      if (slot.used) {
        if (slot.id === id) {
          this.#last = slot;
          return slot;
        }
        if (slot.deadline < oldest.deadline) oldest = slot;
      } else free ??= slot;
    }
    if (free === undefined) {
      free = oldest;
      this.displaced++;
    }
    free.used = true;
    free.id = id;
    free.deadline = later(now, REASSEMBLY_TIME);
    free.total = 0;
    free.received = 0;
    free.parts = 0;
    this.#last = free;
    return free;
  }
}
