/** Which ranges acknowledgements name: newest first, each three times, however many come at once. */
import { describe, expect, test } from 'vitest';
import { SequenceRanges } from '../../src/netstack/tcp/ranges.js';
import { MAX_DUPLICATES, SackBlocks } from '../../src/netstack/tcp/sack-blocks.js';

const SIZE = 100;

class Held {
  readonly ranges = new SequenceRanges(1024);
  readonly blocks = new SackBlocks();
  readonly #edges = new Uint32Array(8);

  take(...starts: number[]): void {
    for (const start of starts) {
      this.ranges.add(start, start + SIZE);
      this.blocks.note(this.ranges, start);
    }
  }

  /** What is sent after a batch: of each acknowledgement where its ranges begin. */
  acks(): number[][] {
    const n = this.blocks.due;
    return Array.from({ length: n }, (_, i) => {
      const count = this.blocks.write(this.ranges, this.#edges, n - i);
      return Array.from({ length: count }, (_unused, k) => this.#edges[2 * k]!);
    });
  }
}

describe('blocks of acknowledgements', () => {
  test('the newest range comes first and stays for two more acknowledgements', () => {
    const held = new Held();
    const acks = [1000, 2000, 3000, 4000, 5000].map((start) => {
      held.take(start);
      return held.acks();
    });
    expect(acks).toEqual([[[1000]], [[2000, 1000]], [[3000, 2000, 1000]], [[4000, 3000, 2000]], [[5000, 4000, 3000]]]);
  });

  test('a range that grows is one range, before those that have not', () => {
    const held = new Held();
    held.take(1000, 2000, 3000);
    held.acks();
    held.take(2100, 2200);
    expect(held.acks()).toEqual([[2000, 3000, 1000]]);
    expect(held.acks()).toEqual([[2000, 3000, 1000]]);
  });

  test('what has become part of the stream is not named; older ranges take turns in the blocks that are free', () => {
    const held = new Held();
    held.take(1000, 2000, 3000, 4000, 5000);
    held.acks();
    held.ranges.trimBelow(4050);
    expect(held.acks()).toEqual([[5000, 4050]]);
    held.ranges.trimBelow(6000);
    expect(held.acks()).toEqual([[]]);
    held.take(7000);
    expect(held.acks()).toEqual([[7000]]);
    held.blocks.clear();
    held.take(9000);
    expect(held.acks()).toEqual([[9000, 7000]]);
  });

  test.each([1, 2, 3, 63, 64, 65, 100, 191, 192])('a batch with %i new ranges names every one in order', (count) => {
    const held = new Held();
    const starts = Array.from({ length: count }, (_, i) => 1000 * (i + 1));
    held.take(...starts);
    const acks = held.acks();
    expect(acks.length).toBeLessThanOrEqual(MAX_DUPLICATES);
    expect(acks.length).toBe(count <= MAX_DUPLICATES ? count : Math.ceil(count / 3));
    expect(new Set(acks.flat())).toEqual(new Set(starts));
    const highest = acks.map((ack) => Math.max(...ack));
    expect(highest).toEqual([...highest].sort((a, b) => a - b));
    expect(acks.at(-1)![0]).toBe(starts.at(-1));
  });

  test('more at once than can be named: the newest are, and the rest takes turns', () => {
    const held = new Held();
    held.take(...Array.from({ length: 300 }, (_, i) => 1000 * (i + 1)));
    const acks = held.acks();
    expect(acks.length).toBe(MAX_DUPLICATES);
    expect(acks.at(-1)![0]).toBe(300_000);
  });
});
