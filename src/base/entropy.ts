/**
 * Randomness as the pure floors know it: an argument. The driver passes the system's generator, tests a seeded one.
 */

export interface Entropy {
  /** Fills `target` with random bytes. */
  fill(target: Uint8Array): void;
  /** A uniform integer in 0 … 2^32 − 1. */
  uint32(): number;
}

/** A deterministic generator (xoshiro128**, seeded through splitmix32) for tests and simulations; never for secrets. */
export class SeededEntropy implements Entropy {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = seed >>> 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) >>> 0;
      let z = state;
      z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
      return (z ^ (z >>> 15)) >>> 0;
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    this.#d = next() | 1;
  }

  uint32(): number {
    const r = Math.imul(this.#b, 5);
    const result = Math.imul((r << 7) | (r >>> 25), 9) >>> 0;
    const t = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= t;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** A uniform number in [0, 1). */
  unit(): number {
    return this.uint32() / 0x1_0000_0000;
  }

  fill(target: Uint8Array): void {
    for (let i = 0; i < target.length; i++) target[i] = this.uint32() >>> 24;
  }
}
