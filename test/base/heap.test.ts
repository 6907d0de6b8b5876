import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IndexedHeap } from '../../src/base/heap.js';

interface Entry {
  heapSlot: number;
  readonly id: number;
}

describe('IndexedHeap', () => {
  it('agrees with a sorted list under inserts, moves, removals and pops; equal keys keep their order', () => {
    const step = fc.record({
      id: fc.nat(99),
      key: fc.oneof(fc.nat(9), fc.nat(1000)),
      act: fc.constantFrom('set', 'set', 'set', 'set', 'remove', 'pop'),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300, size: 'max' }), (steps) => {
        const heap = new IndexedHeap<Entry>();
        const entries: Entry[] = Array.from({ length: 100 }, (_, id) => ({ heapSlot: -1, id }));
        let model: { id: number; key: number; order: number }[] = [];
        const sorted = (): typeof model => [...model].sort((a, b) => a.key - b.key || a.order - b.order);
        steps.forEach(({ id, key, act }, order) => {
          if (act === 'set') {
            heap.set(entries[id]!, key);
            model = [...model.filter((m) => m.id !== id), { id, key, order }];
            expect(heap.keyOf(entries[id]!)).toBe(key);
          } else if (act === 'remove') {
            heap.remove(entries[id]!);
            model = model.filter((m) => m.id !== id);
            expect(entries[id]!.heapSlot).toBe(-1);
          } else {
            const first = sorted()[0];
            expect(heap.pop()?.id).toBe(first?.id);
            model = model.filter((m) => m !== first);
          }
          expect(heap.size).toBe(model.length);
          expect(heap.peek()?.id).toBe(sorted()[0]?.id);
          expect(heap.smallestKey).toBe(sorted()[0]?.key ?? Number.POSITIVE_INFINITY);
        });
        for (const want of sorted()) expect(heap.pop()?.id).toBe(want.id);
      }),
      { numRuns: 40 },
    );
  });

  it('clear frees every entry for another heap', () => {
    const heap = new IndexedHeap<Entry>();
    const entry: Entry = { heapSlot: -1, id: 1 };
    heap.set(entry, 5);
    heap.clear();
    const other = new IndexedHeap<Entry>();
    other.set(entry, 3);
    expect([heap.size, other.pop()?.id]).toEqual([0, 1]);
  });
});
