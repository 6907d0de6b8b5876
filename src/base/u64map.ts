/**
 * A hash map from a 64-bit key, given as two unsigned 32-bit words, to an object. Lookups allocate nothing.
 *
 * Open addressing with linear probing; at most half of the slots are used. Deletion moves the following entries of the
 * probe run back, so there are no tombstones and the map does not decay under churn.
 */

const SMALLEST = 16;

export class U64Map<T extends object> {
  readonly #seed: number;
  #mask = SMALLEST - 1;
  #keys = new Uint32Array(SMALLEST * 2);
  #values: (T | undefined)[] = new Array<T | undefined>(SMALLEST).fill(undefined);
  #size = 0;

  /** @param seed a random number when keys come from strangers, so that they cannot choose colliding ones. */
  constructor(seed = 0) {
    this.#seed = seed | 0;
  }

  get size(): number {
    return this.#size;
  }

  get(hi: number, lo: number): T | undefined {
    return this.#values[this.#find(hi >>> 0, lo >>> 0)];
  }

  has(hi: number, lo: number): boolean {
    return this.get(hi, lo) !== undefined;
  }

  /** Sets and returns the value that was there before. */
  set(hi: number, lo: number, value: T): T | undefined {
    const slot = this.#find(hi >>> 0, lo >>> 0);
    const old = this.#values[slot];
    this.#keys[slot * 2] = hi;
    this.#keys[slot * 2 + 1] = lo;
    this.#values[slot] = value;
    if (old === undefined && ++this.#size * 2 > this.#values.length) this.#resize(this.#values.length * 2);
    return old;
  }

  /** Removes and returns the value; undefined when there was none. */
  delete(hi: number, lo: number): T | undefined {
    let hole = this.#find(hi >>> 0, lo >>> 0);
    const old = this.#values[hole];
    if (old === undefined) return undefined;
    this.#size--;
    for (let slot = (hole + 1) & this.#mask; this.#values[slot] !== undefined; slot = (slot + 1) & this.#mask) {
      const home = this.#hash(this.#keys[slot * 2]!, this.#keys[slot * 2 + 1]!);
      // The entry may fill the hole unless its home lies cyclically after it.
      if (((slot - home) & this.#mask) < ((slot - hole) & this.#mask)) continue;
      this.#keys[hole * 2] = this.#keys[slot * 2]!;
      this.#keys[hole * 2 + 1] = this.#keys[slot * 2 + 1]!;
      this.#values[hole] = this.#values[slot];
      hole = slot;
    }
    this.#values[hole] = undefined;
    return old;
  }

  clear(): void {
    this.#mask = SMALLEST - 1;
    this.#keys = new Uint32Array(SMALLEST * 2);
    this.#values = new Array<T | undefined>(SMALLEST).fill(undefined);
    this.#size = 0;
  }

  /** Calls `visit` for every entry, in no particular order. The map must not change meanwhile. */
  forEach(visit: (value: T, hi: number, lo: number) => void): void {
    for (let slot = 0; slot < this.#values.length; slot++) {
      const value = this.#values[slot];
      if (value !== undefined) visit(value, this.#keys[slot * 2]!, this.#keys[slot * 2 + 1]!);
    }
  }

  /** Every value, in no particular order; a copy, so the map may change while it is read. */
  values(): T[] {
    return this.#values.filter((value) => value !== undefined);
  }

  /** The slot of the key, or the empty slot where it would go. */
  #find(hi: number, lo: number): number {
    const keys = this.#keys;
    let slot = this.#hash(hi, lo);
    while (this.#values[slot] !== undefined && (keys[slot * 2] !== hi || keys[slot * 2 + 1] !== lo)) {
      slot = (slot + 1) & this.#mask;
    }
    return slot;
  }

  #hash(hi: number, lo: number): number {
    let h = Math.imul(hi ^ this.#seed, 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 15) ^ lo, 0xc2b2ae35);
    h = Math.imul(h ^ (h >>> 13) ^ this.#seed, 0x27d4eb2f);
    return (h ^ (h >>> 16)) & this.#mask;
  }

  #resize(slots: number): void {
    const keys = this.#keys;
    const values = this.#values;
    this.#mask = slots - 1;
    this.#keys = new Uint32Array(slots * 2);
    this.#values = new Array<T | undefined>(slots).fill(undefined);
    for (let i = 0; i < values.length; i++) {
      if (values[i] === undefined) continue;
      const slot = this.#find(keys[i * 2]!, keys[i * 2 + 1]!);
      this.#keys[slot * 2] = keys[i * 2]!;
      this.#keys[slot * 2 + 1] = keys[i * 2 + 1]!;
      this.#values[slot] = values[i];
    }
  }
}
