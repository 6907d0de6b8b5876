import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Change, Journal } from '../../../src/os/linux/journal.js';

const ADDRESS: Change = { kind: 'address', device: 'sp0', value: '10.1.2.3/32' };
const ROUTE: Change = { kind: 'route', device: 'sp0', value: '10.9.0.0/16' };

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-journal-'));
  path = join(folder, 'state', 'network.journal');
});
afterEach(() => rmSync(folder, { recursive: true }));

it('knows after a crash what was begun and not undone, the latest first', () => {
  const journal = new Journal(path);
  journal.begin(ADDRESS);
  const route = journal.begin(ROUTE);
  journal.begin({ ...ROUTE, value: '10.8.0.0/16' });
  journal.undone(route);
  const next = new Journal(path);
  expect(next.pending().map((entry) => entry.change)).toEqual([{ ...ROUTE, value: '10.8.0.0/16' }, ADDRESS]);
  expect(next.find(ADDRESS)).toBeDefined();
  expect(next.find(ROUTE)).toBeUndefined();
});

it('is on disk before the change is made, and gone when nothing is left', () => {
  const journal = new Journal(path);
  expect(existsSync(path)).toBe(false);
  const id = journal.begin(ADDRESS);
  expect(readFileSync(path, 'utf8')).toContain('10.1.2.3/32');
  journal.undone(id);
  journal.undone(id);
  expect(existsSync(path)).toBe(false);
});

it('skips a line that a crash cut short, and lines it does not know', () => {
  new Journal(path).begin(ADDRESS);
  appendFileSync(path, '{"id":7,"kind":"moon","device":"a","value":"b"}\nnull\n{"id":2,"kind":"rou');
  const journal = new Journal(path);
  expect(journal.pending().map((entry) => entry.change)).toEqual([ADDRESS]);
  journal.begin(ROUTE);
  expect(new Journal(path).pending().map((entry) => entry.change)).toEqual([ROUTE, ADDRESS]);
});

it('keeps what settings were, and tables', () => {
  const setting: Change = { kind: 'setting', device: 'net/ipv4/conf/sp0/forwarding', value: '0' };
  const table: Change = { kind: 'table', device: 'inet', value: 'sallyport_sp0' };
  const journal = new Journal(path);
  for (const change of [table, setting]) journal.begin(change);
  expect(new Journal(path).pending().map((entry) => entry.change)).toEqual([setting, table]);
});

it('gives new changes new numbers', () => {
  const first = new Journal(path).begin(ADDRESS);
  expect(new Journal(path).begin(ROUTE)).toBeGreaterThan(first);
});
