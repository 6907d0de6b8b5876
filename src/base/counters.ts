/**
 * Named counters in one Float64Array that two threads may share: the packet thread adds, the main thread reads. A counter
 * is a whole number below 2^53; only one thread writes a given array.
 */

export class Counters<Name extends string> {
  readonly names: readonly Name[];
  readonly values: Float64Array;
  readonly #index: ReadonlyMap<Name, number>;

  /** @param shared memory of at least `names.length * 8` bytes; its own when absent. */
  constructor(names: readonly Name[], shared?: ArrayBufferLike) {
    this.names = names;
    this.values = shared === undefined ? new Float64Array(names.length) : new Float64Array(shared, 0, names.length);
    this.#index = new Map(names.map((name, i) => [name, i]));
  }

  /** The slot of `name`, to be looked up once and used with `values` on the packet path. */
  slot(name: Name): number {
    return this.#index.get(name)!;
  }

  add(name: Name, amount = 1): void {
    this.values[this.#index.get(name)!]! += amount;
  }

  get(name: Name): number {
    return this.values[this.#index.get(name)!]!;
  }

  /** Every counter that is not zero. */
  snapshot(): Partial<Record<Name, number>> {
    const result: Partial<Record<Name, number>> = {};
    this.names.forEach((name, i) => {
      if (this.values[i] !== 0) result[name] = this.values[i]!;
    });
    return result;
  }
}
