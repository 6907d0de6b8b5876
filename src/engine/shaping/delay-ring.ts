/**
 * Bytes that wait, in records that each have a time: one direction of one flow, first in first out.
 *
 *   bytes    │ … │ head: record, record, record │ tail … │     a record lies in one piece; what does not fit behind goes to the front
 *   records  due · offset · length, a ring of its own
 *
 * Starts small and doubles as long as the memory that all share has room.
 */
import { type Instant, instantAt } from '../../base/time.js';

/** What a record costs beside its bytes. */
const RECORD_BYTES = 16;
const RECORDS_FIRST = 16;
const RECORDS_MAX = 4096;

/** Bytes that rings may have beyond what each begins with. */
export class SharedMemory {
  readonly #total: number;
  used = 0;

  constructor(total: number) {
    this.#total = total;
  }

  take(bytes: number): boolean {
    if (this.used + bytes > this.#total) return false;
    this.used += bytes;
    return true;
  }

  give(bytes: number): void {
    this.used -= bytes;
  }
}

export class DelayRing {
  /** Where `room` has found room: write there, then `commit`. */
  tail = 0;
  bytes: Uint8Array;
  /** Bytes that wait. */
  held = 0;
  /** Records that wait. */
  count = 0;
  readonly #memory: SharedMemory;
  readonly #most: number;
  #head = 0;
  #first = 0;
  #due = new Float64Array(RECORDS_FIRST);
  #offsets = new Uint32Array(RECORDS_FIRST);
  #lengths = new Uint32Array(RECORDS_FIRST);
  #taken = 0;

  /** @param initial bytes that need no asking for @param most bytes of the largest ring */
  constructor(memory: SharedMemory, initial: number, most: number) {
    this.#memory = memory;
    this.#most = most;
    this.bytes = new Uint8Array(initial);
  }

  /** Bytes that can be written at `tail` in one piece: `want`, or less unless `whole`; 0 = none. */
  room(want: number, whole: boolean): number {
    if (this.count === this.#due.length && !this.#growRecords()) return 0;
    for (;;) {
      const free = this.#contiguous(want);
      if (free >= want) return want;
      if (this.#grow(want)) continue;
      return whole ? 0 : free;
    }
  }

  /** What was written at `tail` waits until `due`. */
  commit(length: number, due: Instant): void {
    const slot = (this.#first + this.count) % this.#due.length;
    this.#due[slot] = due;
    this.#offsets[slot] = this.tail;
    this.#lengths[slot] = length;
    this.count++;
    this.held += length;
    this.tail += length;
  }

  firstDue(): Instant | undefined {
    return this.count === 0 ? undefined : instantAt(this.#due[this.#first]!);
  }

  get firstOffset(): number {
    return this.#offsets[this.#first]!;
  }

  get firstLength(): number {
    return this.#lengths[this.#first]!;
  }

  /** Takes `n` bytes of the first record; all of them end it. */
  consume(n: number): void {
    const first = this.#first;
    this.held -= n;
    this.#lengths[first]! -= n;
    this.#offsets[first]! += n;
    if (this.#lengths[first] !== 0) return;
    this.#first = (first + 1) % this.#due.length;
    this.count--;
    this.#head = this.count === 0 ? 0 : this.#offsets[this.#first]!;
    if (this.count === 0) this.tail = 0;
  }

  /** Everything is dropped, the memory given back. */
  close(): void {
    this.#memory.give(this.#taken);
    this.#taken = 0;
    this.count = this.held = this.tail = this.#head = 0;
    this.bytes = new Uint8Array(0);
  }

  /** Room at the tail, which moves to the front when there is more and the rest behind it is too little. */
  #contiguous(want: number): number {
    const { bytes } = this;
    if (this.count > 0 && this.tail <= this.#head) return this.#head - this.tail;
    const behind = bytes.length - this.tail;
    if (behind >= want || this.#head <= behind) return behind;
    this.tail = 0;
    return this.#head;
  }

  #grow(want: number): boolean {
    const old = this.bytes;
    const size = Math.min(Math.max(2 * old.length, old.length + want + 64, 2048), this.#most);
    if (size <= old.length || !this.#take(size - old.length)) return false;
    const bytes = new Uint8Array(size);
    let at = 0;
    for (let i = 0; i < this.count; i++) {
      const slot = (this.#first + i) % this.#due.length;
      const offset = this.#offsets[slot]!;
      bytes.set(old.subarray(offset, offset + this.#lengths[slot]!), at);
      this.#offsets[slot] = at;
      at += Math.max(this.#lengths[slot]!, 1);
    }
    this.bytes = bytes;
    this.#head = 0;
    this.tail = at;
    return true;
  }

  #growRecords(): boolean {
    const size = this.#due.length;
    if (size >= RECORDS_MAX || !this.#take(size * RECORD_BYTES)) return false;
    const [due, offsets, lengths] = [new Float64Array(2 * size), new Uint32Array(2 * size), new Uint32Array(2 * size)];
    for (let i = 0; i < this.count; i++) {
      const slot = (this.#first + i) % size;
      due[i] = this.#due[slot]!;
      offsets[i] = this.#offsets[slot]!;
      lengths[i] = this.#lengths[slot]!;
    }
    [this.#due, this.#offsets, this.#lengths, this.#first] = [due, offsets, lengths, 0];
    return true;
  }

  #take(bytes: number): boolean {
    if (!this.#memory.take(bytes)) return false;
    this.#taken += bytes;
    return true;
  }
}
