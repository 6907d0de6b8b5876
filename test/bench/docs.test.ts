import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { PAGE, withResults } from '../../bench/docs.js';

describe('docs/benchmarks.md', () => {
  const page = readFileSync(PAGE, 'utf8');

  it('shows the published results as they are (node bench/docs.mjs renews it)', () => {
    expect(withResults(page)).toBe(page);
    const names = ['clean', 'lossy', 'loopback', 'idle', 'soak', 'heap', 'tun2socks', 'netstack', 'engine'];
    for (const name of names) expect(page).toContain(`<!-- results: ${name} -->`);
  });

  it('is not touched outside the places of the tables', () => {
    const outside = (text: string) => text.replace(/<!-- results: \w+ -->[\s\S]*?<!-- end -->/g, '');
    expect(outside(withResults(page.replaceAll(/\d{2,}/g, '9')))).toBe(outside(page.replaceAll(/\d{2,}/g, '9')));
    expect(() => withResults('<!-- results: other -->\n<!-- end -->')).toThrow(/other/);
  });
});
