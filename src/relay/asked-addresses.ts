/**
 * Which local address each source asked, so that a relay with several addresses answers from the one that was asked: nodes
 * take packets from that address only. Noted when a handshake begins, bounded, the oldest half forgotten when full; what belongs to a
 * node that is connected is kept, whatever a flood of strangers asks.
 */
import { ADDRESS_WORDS, sameWords } from '../base/address.js';

/** Sources remembered; a relay's connections and the handshakes under way fit several times over. */
const CAPACITY = 65_536;

interface Entry {
  readonly source: Uint32Array;
  readonly local: Uint32Array;
  /** Nodes that are reached there. */
  pins: number;
}

export class AskedAddresses {
  /** By hash; two sources with one hash share a place, the newer wins unless the older is a node's. */
  readonly #entries = new Map<number, Entry>();

  get size(): number {
    return this.#entries.size;
  }

  /** The source at `index` of `sources` has asked the address at `index` of `locals`. */
  note(sources: Uint32Array, locals: Uint32Array, index: number): void {
    const hash = hashOf(sources, index);
    const known = this.#entries.get(hash);
    if (known !== undefined) {
      if (sameWords(known.source, 0, sources, index) && sameWords(known.local, 0, locals, index)) return;
      if (known.pins > 0 && !sameWords(known.source, 0, sources, index)) return;
    } else if (this.#entries.size >= CAPACITY) this.#forgetHalf();
    const at = index * ADDRESS_WORDS;
    this.#entries.set(hash, {
      source: sources.slice(at, at + ADDRESS_WORDS),
      local: locals.slice(at, at + ADDRESS_WORDS),
      pins: known?.pins ?? 0,
    });
  }

  /** The packed local address this source asked, if known. */
  find(sources: Uint32Array, index: number): Uint32Array | undefined {
    return this.#entry(sources, index)?.local;
  }

  /** A node is reached at this source, asked at `local`, until `unpin`. */
  pin(source: Uint32Array, local: Uint32Array): void {
    this.note(source, local, 0);
    const entry = this.#entry(source, 0);
    if (entry !== undefined) entry.pins++;
  }

  /** Undoes one `pin`. */
  unpin(source: Uint32Array): void {
    const entry = this.#entry(source, 0);
    if (entry !== undefined && entry.pins > 0) entry.pins--;
  }

  #entry(sources: Uint32Array, index: number): Entry | undefined {
    const entry = this.#entries.get(hashOf(sources, index));
    return entry !== undefined && sameWords(entry.source, 0, sources, index) ? entry : undefined;
  }

  #forgetHalf(): void {
    let left = CAPACITY / 2;
    for (const [hash, entry] of this.#entries) {
      if (left-- === 0) return;
      if (entry.pins === 0) this.#entries.delete(hash);
    }
  }
}

/** 48 bits, as a number: chance collisions among 65,536 sources stay rare. */
function hashOf(words: Uint32Array, index: number): number {
  const at = index * ADDRESS_WORDS;
  let a = 0x811c9dc5;
  let b = 0x9e3779b9;
  for (let i = 0; i < ADDRESS_WORDS; i++) {
    a = Math.imul(a ^ words[at + i]!, 0x01000193);
    b = Math.imul(b ^ words[at + i]!, 0x85ebca6b);
    a ^= a >>> 13;
    b ^= b >>> 16;
  }
  return (a >>> 0) * 0x10000 + ((b >>> 0) & 0xffff);
}
