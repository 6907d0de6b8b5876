/**
 * A binary min-heap whose entries know their own slot, so that any of them can be moved or removed in O(log n) and
 * re-keying allocates nothing. Entries with equal keys come out in the order in which they got those keys.
 *
 *   slot 0 = smallest; children of slot i are 2i + 1 and 2i + 2; `heapSlot` of an entry outside every heap is −1
 */

/** What an entry must carry; only the heap writes it. An entry belongs to at most one heap at a time. */
export interface HeapEntry {
  heapSlot: number;
}

export class IndexedHeap<T extends HeapEntry> {
  readonly #entries: T[] = [];
  #keys = new Float64Array(16);
  #orders = new Float64Array(16);
  #order = 0;

  get size(): number {
    return this.#entries.length;
  }

  /** The entry with the smallest key. */
  peek(): T | undefined {
    return this.#entries[0];
  }

  /** The smallest key; Infinity when empty. */
  get smallestKey(): number {
    return this.#entries.length === 0 ? Number.POSITIVE_INFINITY : this.#keys[0]!;
  }

  /** The key of an entry that is in this heap. */
  keyOf(entry: T): number {
    return this.#keys[entry.heapSlot]!;
  }

  /** Inserts `entry`, or moves it to its new key. */
  set(entry: T, key: number): void {
    let slot = entry.heapSlot;
    const order = this.#order++;
    if (slot < 0) {
      slot = this.#entries.length;
      if (slot === this.#keys.length) this.#grow();
      this.#entries.push(entry);
      this.#place(entry, key, order, slot);
      this.#up(slot);
      return;
    }
    const old = this.#keys[slot]!;
    this.#place(entry, key, order, slot);
    if (key < old) this.#up(slot);
    else this.#down(slot);
  }

  /** Removes `entry`; nothing happens when it is in no heap. */
  remove(entry: T): void {
    const slot = entry.heapSlot;
    if (slot < 0) return;
    entry.heapSlot = -1;
    const last = this.#entries.pop()!;
    if (last === entry) return;
    const from = this.#entries.length;
    this.#place(last, this.#keys[from]!, this.#orders[from]!, slot);
    this.#up(slot);
    this.#down(last.heapSlot);
  }

  /** Removes and returns the entry with the smallest key. */
  pop(): T | undefined {
    const first = this.#entries[0];
    if (first !== undefined) this.remove(first);
    return first;
  }

  clear(): void {
    for (const entry of this.#entries) entry.heapSlot = -1;
    this.#entries.length = 0;
  }

  #place(entry: T, key: number, order: number, slot: number): void {
    this.#entries[slot] = entry;
    this.#keys[slot] = key;
    this.#orders[slot] = order;
    entry.heapSlot = slot;
  }

  #less(a: number, b: number): boolean {
    const ka = this.#keys[a]!;
    const kb = this.#keys[b]!;
    return ka < kb || (ka === kb && this.#orders[a]! < this.#orders[b]!);
  }

  #swap(a: number, b: number): void {
    const entry = this.#entries[a]!;
    const key = this.#keys[a]!;
    const order = this.#orders[a]!;
    this.#place(this.#entries[b]!, this.#keys[b]!, this.#orders[b]!, a);
    this.#place(entry, key, order, b);
  }

  #up(start: number): void {
    let slot = start;
    while (slot > 0) {
      const parent = (slot - 1) >> 1;
      if (!this.#less(slot, parent)) return;
      this.#swap(slot, parent);
      slot = parent;
    }
  }

  #down(start: number): void {
    const size = this.#entries.length;
    let slot = start;
    for (;;) {
      let child = 2 * slot + 1;
      if (child >= size) return;
      if (child + 1 < size && this.#less(child + 1, child)) child++;
      if (!this.#less(child, slot)) return;
      this.#swap(slot, child);
      slot = child;
    }
  }

  #grow(): void {
    const keys = new Float64Array(this.#keys.length * 2);
    keys.set(this.#keys);
    this.#keys = keys;
    const orders = new Float64Array(this.#orders.length * 2);
    orders.set(this.#orders);
    this.#orders = orders;
  }
}
