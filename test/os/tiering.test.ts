/** The flags for V8 are flags of this V8, whichever it is: one that it does not know would be an error on standard error. */
import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { tieringFlags } from '../../src/os/tiering.js';

it('knows what this V8 calls its limits', () => {
  const options = execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8' });
  for (const flag of tieringFlags()) expect(options).toContain(`\n  ${flag.split('=')[0]} (`);
});

it('takes the names of Node 20 and those of later ones', () => {
  expect(tieringFlags('11.3.244.8-node.33')).toEqual(['--interrupt-budget=2500']);
  expect(tieringFlags('12.4.254.21-node.57')).toHaveLength(2);
});
