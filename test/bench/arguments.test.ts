/** The command lines of benchmarks: what they take, and what they say of the rest. */
import { expect, test } from 'vitest';
import { chosen, wholeNumber } from '../../bench/arguments.js';

test('whole numbers from 1 on', () => {
  expect([wholeNumber('--rounds', undefined, 3, ''), wholeNumber('--rounds', '7', 3, '')]).toEqual([3, 7]);
  for (const text of ['0', '-1', '1.5', 'x', '', 'Infinity']) {
    expect(() => wholeNumber('--rounds', text, 3, 'usage'), text).toThrow(
      `--rounds ${text}: a whole number from 1 on\nusage`,
    );
  }
});

test('names out of a list, in its order; all of them when none is asked for', () => {
  const names = ['one', 'two', 'three'] as const;
  expect(chosen('--only', undefined, names, '')).toEqual(names);
  expect(chosen('--only', 'three,one,', names, '')).toEqual(['one', 'three']);
  for (const text of ['', ',', 'four', 'one,four']) {
    expect(() => chosen('--only', text, names, ''), text).toThrow('one or more of one, two, three');
  }
});
