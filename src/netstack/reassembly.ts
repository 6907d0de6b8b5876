/**
 * Reassembly of fragmented IP packets, bounded in packets, bytes and time.
 *
 *   key: family, source, destination, identification (and protocol in IPv4)
 *   collecting ──all bytes there──► packet      ──overlap──► poisoned (everything of it dropped until it expires)
 *       ├──too old──► dropped, and told when the first fragment has come
 *       └──the oldest when there is no room──► dropped
 *
 * RFC 815 (idea), RFC 1122 §3.3.2, RFC 5722 (overlap drops all), RFC 8200 §4.5, RFC 6946 (atomic fragments never get here).
 */
import { Drop, type DropReason } from '../base/drop.js';
import { type Instant, later } from '../base/time.js';
import { Arena } from '../wire/arena.js';
import { writeU16 } from '../wire/bytes.js';
import { writeIpv4Checksum } from '../wire/checksum.js';
import type { ParsedPacket } from '../wire/inner.js';
import { IP_LENGTH_MAX, IPV4_HEADER, IPV6_HEADER } from '../wire/ip.js';
import type { StackLimits } from './options.js';

interface Piece {
  readonly start: number;
  readonly bytes: Uint8Array;
}

interface Partial {
  readonly family: number;
  readonly words: readonly number[];
  readonly identification: number;
  readonly protocol: number;
  readonly arrived: Instant;
  /** Sorted, disjoint. */
  readonly pieces: Piece[];
  /** The first fragment's IP header, without options. */
  header: Uint8Array | undefined;
  /** What stood before the first fragment's piece, as it came. */
  head: Uint8Array | undefined;
  /** Bytes of the whole, −1 until the last fragment came. */
  total: number;
  held: number;
  poisoned: boolean;
}

export class Reassembler {
  /** The packet that the last `add` completed, at offset 0; its length is `length`. */
  packet: Arena | undefined;
  length = 0;
  #held = 0;
  /** Oldest first. */
  readonly #partials: Partial[] = [];

  /** @param onLate told the first fragment of a packet that was given up for its age, as it came. */
  constructor(
    readonly limits: StackLimits,
    readonly onLate: (first: Uint8Array) => void = () => {},
  ) {}

  get pending(): number {
    return this.#partials.length;
  }

  /** Takes one fragment. `Drop.none` with `packet` set: complete; with `packet` undefined: kept. */
  add(now: Instant, bytes: Uint8Array, fragment: ParsedPacket): DropReason {
    this.packet = undefined;
    this.expire(now);
    const isV4 = fragment.family === 4;
    const dataAt = isV4 ? fragment.transportOffset : fragment.fragmentHeaderOffset + 8;
    const length = fragment.offset + fragment.totalLength - dataAt;
    const start = fragment.fragmentOffset;
    const end = start + length;
    if (length <= 0 || end > IP_LENGTH_MAX) return Drop.malformed;
    if (fragment.moreFragments && length % 8 !== 0) return Drop.malformed;
    const protocol = isV4 ? fragment.protocol : bytes[fragment.fragmentHeaderOffset];
    let partial = this.#find(fragment, isV4 ? protocol : -1);
    if (partial === undefined) {
      if (this.#partials.length >= this.limits.reassemblyPackets) this.#remove(this.#partials[0]);
      partial = create(now, fragment, isV4 ? protocol : -1);
      this.#partials.push(partial);
    }
    if (partial.poisoned) return Drop.reassembly_overlap;
    const at = place(partial, start, bytes, dataAt, length);
    if (at === DUPLICATE) return Drop.duplicate;
    const beyond = partial.total >= 0 && (fragment.moreFragments ? end > partial.total : end !== partial.total);
    if (at === OVERLAP || beyond || (!fragment.moreFragments && reach(partial) > end)) {
      this.#poison(partial);
      return Drop.reassembly_overlap;
    }
    partial.pieces.splice(at, 0, { start, bytes: bytes.slice(dataAt, dataAt + length) });
    partial.held += length;
    this.#held += length;
    if (!fragment.moreFragments) partial.total = end;
    if (start === 0) {
      partial.header = headerOf(bytes, fragment, protocol);
      if (dataAt - fragment.offset <= HEAD_MAX) partial.head = bytes.slice(fragment.offset, dataAt);
    }
    if (partial.held === partial.total) {
      this.#complete(partial);
      return Drop.none;
    }
    while (this.#held > this.limits.reassemblyBytes) {
      const oldest = this.#partials[0];
      this.#remove(oldest);
      if (oldest === partial) return Drop.reassembly_limit;
    }
    return Drop.none;
  }

  /** When the oldest packet is given up; undefined = none waits. */
  nextExpiry(): Instant | undefined {
    const oldest = this.#partials[0];
    return oldest === undefined ? undefined : later(oldest.arrived, this.limits.reassemblyTime);
  }

  /** Gives up what is too old and returns how many packets that were. */
  expire(now: Instant): number {
    let count = 0;
    for (let p = this.#partials[0]; p !== undefined; p = this.#partials[0]) {
      if (later(p.arrived, this.limits.reassemblyTime) > now) break;
      this.#remove(p);
      const [piece] = p.pieces;
      if (p.head !== undefined && piece?.start === 0) this.onLate(joined(p.head, piece.bytes));
      count++;
    }
    return count;
  }

  #find(fragment: ParsedPacket, protocol: number): Partial | undefined {
    const words = wordsOf(fragment);
    return this.#partials.find(
      (p) =>
        p.identification === fragment.identification &&
        p.family === fragment.family &&
        p.protocol === protocol &&
        p.words.every((w, i) => w === words[i]),
    );
  }

  #remove(partial: Partial): void {
    this.#held -= partial.held;
    this.#partials.splice(this.#partials.indexOf(partial), 1);
  }

  #poison(partial: Partial): void {
    this.#held -= partial.held;
    partial.held = 0;
    partial.pieces.length = 0;
    partial.poisoned = true;
  }

  #complete(partial: Partial): void {
    this.#remove(partial);
    const header = partial.header!;
    const total = header.length + partial.total;
    if (total > IP_LENGTH_MAX + (partial.family === 6 ? IPV6_HEADER : 0)) return;
    const packet = new Arena(total);
    packet.bytes.set(header, 0);
    for (const piece of partial.pieces) packet.bytes.set(piece.bytes, header.length + piece.start);
    if (partial.family === 4) {
      writeU16(packet.bytes, 2, total);
      writeIpv4Checksum(packet.bytes, 0);
    } else writeU16(packet.bytes, 4, partial.total);
    this.packet = packet;
    this.length = total;
  }
}

/** Headers that are kept for an error, bytes; longer ones occur in attacks only, and their packets end untold. */
const HEAD_MAX = 256;
const DUPLICATE = -1;
const OVERLAP = -2;

/** Where the piece belongs among the sorted ones, or why it does not. */
function place(partial: Partial, start: number, bytes: Uint8Array, at: number, length: number): number {
  const end = start + length;
  let index = 0;
  for (const piece of partial.pieces) {
    const pieceEnd = piece.start + piece.bytes.length;
    if (pieceEnd <= start) index++;
    else if (piece.start < end) {
      const same = piece.start === start && pieceEnd === end && piece.bytes.every((b, i) => b === bytes[at + i]);
      return same ? DUPLICATE : OVERLAP;
    }
  }
  return index;
}

function joined(head: Uint8Array, piece: Uint8Array): Uint8Array {
  const whole = new Uint8Array(head.length + piece.length);
  whole.set(head, 0);
  whole.set(piece, head.length);
  return whole;
}

function reach(partial: Partial): number {
  const last = partial.pieces.at(-1);
  return last === undefined ? 0 : last.start + last.bytes.length;
}

function wordsOf(p: ParsedPacket): readonly number[] {
  return [p.source0, p.source1, p.source2, p.source3, p.destination0, p.destination1, p.destination2, p.destination3];
}

function create(now: Instant, fragment: ParsedPacket, protocol: number): Partial {
  return {
    family: fragment.family,
    words: wordsOf(fragment),
    identification: fragment.identification,
    protocol,
    arrived: now,
    pieces: [],
    header: undefined,
    head: undefined,
    total: -1,
    held: 0,
    poisoned: false,
  };
}

/** The header of the whole: the first fragment's fixed part, no options, no fragmentation. */
function headerOf(bytes: Uint8Array, fragment: ParsedPacket, next: number): Uint8Array {
  if (fragment.family === 4) {
    const header = bytes.slice(fragment.offset, fragment.offset + IPV4_HEADER);
    header[0] = 0x45;
    writeU16(header, 6, 0);
    return header;
  }
  const header = bytes.slice(fragment.offset, fragment.offset + IPV6_HEADER);
  header[6] = next;
  return header;
}
