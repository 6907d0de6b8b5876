/** A session survives whatever happens to its paths and ends, and is as good as before when that is over: a few random histories. */
import { expect, test } from 'vitest';
import { Seconds } from '../../src/base/time.js';
import { adversary } from './adversary.js';

test.each([3, 47, 58])(
  'history %i: after peace the session is direct again, and nothing is left behind',
  async (seed) => {
    const { problems, log } = await adversary(seed, Seconds(30));
    expect(problems, log.join('\n')).toEqual([]);
  },
);
