/**
 * 5-tuple → flow: open addressing with linear probing over an array of flows, keyed by ten words; look-ups allocate nothing.
 *
 * Deletion shifts the following run back, so there are no tombstones. The hash is seeded: whoever chooses ports cannot
 * choose collisions.
 */
import { FLOW_WORDS, type Flow } from './flow.js';

const INITIAL_SLOTS = 64;

export class FlowTable {
  #slots: (Flow | undefined)[] = new Array<Flow | undefined>(INITIAL_SLOTS).fill(undefined);
  #mask = INITIAL_SLOTS - 1;
  #size = 0;

  constructor(readonly seed: number) {}

  get size(): number {
    return this.#size;
  }

  find(words: Uint32Array): Flow | undefined {
    const hash = this.#hash(words);
    for (let i = hash & this.#mask; ; i = (i + 1) & this.#mask) {
      const flow = this.#slots[i];
      if (flow === undefined) return undefined;
      if (flow.hash === hash && sameWords(flow.words, words)) return flow;
    }
  }

  /** Adds `flow`; its key must not be in the table. */
  add(flow: Flow): void {
    if ((this.#size + 1) * 2 > this.#slots.length) this.#grow();
    flow.hash = this.#hash(flow.words);
    this.#put(flow);
    this.#size++;
  }

  /** Removes `flow`; nothing happens when it is not in the table. */
  remove(flow: Flow): void {
    if (flow.slot < 0) return;
    let hole = flow.slot;
    flow.slot = -1;
    this.#size--;
    for (let i = (hole + 1) & this.#mask; ; i = (i + 1) & this.#mask) {
      const next = this.#slots[i];
      if (next === undefined) break;
      // `next` may move into the hole only if that is not before its home slot.
      if (((i - (next.hash & this.#mask)) & this.#mask) >= ((i - hole) & this.#mask)) {
        this.#slots[hole] = next;
        next.slot = hole;
        hole = i;
      }
    }
    this.#slots[hole] = undefined;
  }

  /** Calls `visit` for every flow; the visitor must not add or remove. */
  forEach(visit: (flow: Flow) => void): void {
    for (const flow of this.#slots) if (flow !== undefined) visit(flow);
  }

  #put(flow: Flow): void {
    let i = flow.hash & this.#mask;
    while (this.#slots[i] !== undefined) i = (i + 1) & this.#mask;
    this.#slots[i] = flow;
    flow.slot = i;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Array<Flow | undefined>(old.length * 2).fill(undefined);
    this.#mask = this.#slots.length - 1;
    for (const flow of old) if (flow !== undefined) this.#put(flow);
  }

  #hash(words: Uint32Array): number {
    let h = this.seed | 0;
    for (let i = 0; i < FLOW_WORDS; i++) {
      h = Math.imul(h ^ words[i], 0x9e3779b1);
      h ^= h >>> 15;
    }
    return (Math.imul(h, 0x85ebca6b) ^ (h >>> 13)) & 0x3fffffff;
  }
}

function sameWords(a: Uint32Array, b: Uint32Array): boolean {
  return (
    a[9] === b[9] &&
    a[8] === b[8] &&
    a[4] === b[4] &&
    a[3] === b[3] &&
    a[7] === b[7] &&
    a[6] === b[6] &&
    a[5] === b[5] &&
    a[2] === b[2] &&
    a[1] === b[1] &&
    a[0] === b[0]
  );
}
