/**
 * Bounded first-in first-out rings: `Ring` of objects and `NumberRing` of numbers, both allocated once.
 *
 *   head ──► oldest … newest ──► head + length (mod capacity)
 */

/** A bounded FIFO of objects. The slot of a removed object is cleared, so nothing is kept alive. */
export class Ring<T extends object> {
  readonly capacity: number;
  readonly #slots: (T | undefined)[];
  #head = 0;
  #length = 0;

  /** @param capacity most entries, at least 1. */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.#slots = new Array<T | undefined>(capacity).fill(undefined);
  }

  get length(): number {
    return this.#length;
  }

  get isFull(): boolean {
    return this.#length === this.capacity;
  }

  /** False when full: the entry was not taken. */
  push(entry: T): boolean {
    if (this.#length === this.capacity) return false;
    let slot = this.#head + this.#length;
    if (slot >= this.capacity) slot -= this.capacity;
    this.#slots[slot] = entry;
    this.#length++;
    return true;
  }

  /** Removes and returns the oldest. */
  shift(): T | undefined {
    if (this.#length === 0) return undefined;
    const entry = this.#slots[this.#head];
    this.#slots[this.#head] = undefined;
    this.#head = this.#head + 1 === this.capacity ? 0 : this.#head + 1;
    this.#length--;
    return entry;
  }

  /** Entry `index` from the oldest (0) without removing it. */
  peek(index = 0): T | undefined {
    if (index < 0 || index >= this.#length) return undefined;
    const slot = this.#head + index;
    return this.#slots[slot >= this.capacity ? slot - this.capacity : slot];
  }

  clear(): void {
    this.#slots.fill(undefined);
    this.#head = 0;
    this.#length = 0;
  }
}

/** A bounded FIFO of numbers; stores doubles, so any number comes back as it went in. */
export class NumberRing {
  readonly capacity: number;
  readonly #slots: Float64Array;
  #head = 0;
  #length = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#slots = new Float64Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  get isFull(): boolean {
    return this.#length === this.capacity;
  }

  /** False when full: the number was not taken. */
  push(value: number): boolean {
    if (this.#length === this.capacity) return false;
    let slot = this.#head + this.#length;
    if (slot >= this.capacity) slot -= this.capacity;
    this.#slots[slot] = value;
    this.#length++;
    return true;
  }

  /** Removes and returns the oldest; NaN when empty. */
  shift(): number {
    if (this.#length === 0) return Number.NaN;
    const value = this.#slots[this.#head]!;
    this.#head = this.#head + 1 === this.capacity ? 0 : this.#head + 1;
    this.#length--;
    return value;
  }

  /** Number `index` from the oldest (0) without removing it; NaN when there is none. */
  peek(index = 0): number {
    if (index < 0 || index >= this.#length) return Number.NaN;
    const slot = this.#head + index;
    return this.#slots[slot >= this.capacity ? slot - this.capacity : slot]!;
  }

  clear(): void {
    this.#head = 0;
    this.#length = 0;
  }
}
