/**
 * Packets of the host that wait for the engine's next turn: copied in, handed out in order, bounded in bytes.
 *
 *   │ length u32 · packet (padded to 4) │ length u32 · packet │ …       a length of 0: the rest up to the end is not used
 */
import { Arena, align } from '../../wire/arena.js';

const LENGTH = 4;

export class PacketRing {
  readonly arena: Arena;
  readonly #words: Uint32Array;
  #head = 0;
  #tail = 0;
  #used = 0;
  count = 0;

  /** @param bytes a multiple of 4. */
  constructor(bytes: number) {
    this.arena = new Arena(bytes);
    this.#words = this.arena.words;
  }

  /** False: there is no room. */
  push(packet: Uint8Array): boolean {
    const { size } = this.arena;
    const need = LENGTH + align(packet.length);
    if (packet.length === 0 || need > size) return false;
    const rest = size - this.#tail;
    const skipped = rest < need ? rest : 0;
    if (this.#used + skipped + need > size) return false;
    if (skipped > 0) {
      if (rest >= LENGTH) this.#words[this.#tail >>> 2] = 0;
      this.#used += skipped;
      this.#tail = 0;
    }
    this.#words[this.#tail >>> 2] = packet.length;
    this.arena.bytes.set(packet, this.#tail + LENGTH);
    this.#tail = (this.#tail + need) % size;
    this.#used += need;
    this.count++;
    return true;
  }

  /** Gives the oldest packet to `take` and forgets it. False: there is none. */
  shift(take: (arena: Arena, offset: number, length: number) => void): boolean {
    if (this.count === 0) return false;
    let length = this.#words[this.#head >>> 2]!;
    if (length === 0) {
      this.#used -= this.arena.size - this.#head;
      this.#head = 0;
      length = this.#words[0]!;
    }
    const at = this.#head;
    take(this.arena, at + LENGTH, length);
    const need = LENGTH + align(length);
    this.#head = (at + need) % this.arena.size;
    this.#used -= need;
    this.count--;
    if (this.count === 0) {
      // An empty ring has room for the largest packet in one piece.
      this.#head = 0;
      this.#tail = 0;
      this.#used = 0;
    }
    return true;
  }
}
