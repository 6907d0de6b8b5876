/** The memory of used invitations: it stays small, survives what breaks a write, and loses nothing. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Use, UsedInvitations } from '../../src/control/used.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sallyport-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const use = (n: number, rotations: number): Use => ({
  invitation: n.toString(16).padStart(32, '0'),
  spki: 'ab'.repeat(32),
  at: 1,
  certificate: 'x'.repeat(1300),
  rotations,
});

it('renewals do not let it grow: replaced lines go, at the latest use is known, also after a restart', () => {
  const path = join(dir, 'used.jsonl');
  const store = UsedInvitations.open(path);
  for (let n = 0; n < 50; n++) store.commit(use(n, 0));
  let largest = 0;
  for (let round = 1; round <= 60; round++) {
    for (let n = 0; n < 50; n++) store.commit(use(n, round));
    largest = Math.max(largest, statSync(path).size);
  }
  // 3,050 lines of 1.4 KB were written.
  expect(largest).toBeLessThan(1.3e6);
  store.close();
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const again = UsedInvitations.open(path);
  for (let n = 0; n < 50; n++) expect(again.get(use(n, 0).invitation)).toEqual(use(n, 60));
  expect(again.claim(use(7, 0).invitation)).toBe(false);
  again.commit(use(51, 0));
  again.close();
  expect(readFileSync(path, 'utf8').trimEnd().split('\n').length).toBeLessThan(900);
});
