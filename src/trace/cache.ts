/** A bounded map of answers that expire: the oldest goes when there is no room, an expired one when it is met. */
import { type Clock, type Duration, elapsed, type Instant } from '../base/time.js';

interface Entry<V> {
  readonly value: V;
  readonly since: Instant;
}

export class ExpiringCache<K, V> {
  readonly #lifetime: Duration;
  readonly #capacity: number;
  readonly #clock: Clock;
  /** In order of insertion. */
  readonly #entries = new Map<K, Entry<V>>();

  /** @param capacity entries kept, ≥ 1 */
  constructor(lifetime: Duration, capacity: number, clock: Clock) {
    this.#lifetime = lifetime;
    this.#capacity = capacity;
    this.#clock = clock;
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: K): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    if (elapsed(entry.since, this.#clock.now()) < this.#lifetime) return entry.value;
    this.#entries.delete(key);
    return undefined;
  }

  set(key: K, value: V): void {
    this.#entries.delete(key);
    if (this.#entries.size >= this.#capacity) this.#entries.delete(this.#entries.keys().next().value!);
    this.#entries.set(key, { value, since: this.#clock.now() });
  }
}
