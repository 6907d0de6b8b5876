import { describe, expect, it } from 'vitest';
import { Lockstep } from '../../bench/lockstep.js';

describe('Lockstep', () => {
  it('lets every row begin when all have come to it, and does not wait for one that has ended', async () => {
    const lockstep = new Lockstep(2);
    const order: string[] = [];
    const run = async (name: string, rows: number): Promise<void> => {
      for (let row = 0; row < rows; row++) {
        await lockstep.arrive();
        order.push(`${name}${row}`);
      }
      lockstep.leave();
    };
    const first = run('a', 1);
    await Promise.resolve();
    expect(order).toEqual([]);
    await Promise.all([first, run('b', 3)]);
    expect(order).toEqual(['a0', 'b0', 'b1', 'b2']);
  });
});
