/** The resolver's file: changed, put back as it was (file, link, nothing), also after a crash, and left alone when it is not ours. */
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ResolverFile } from '../../../src/os/linux/resolver-file.js';

let folder: string;
const file = (): string => join(folder, 'resolv.conf');
const saved = (): string => join(folder, 'saved');
const open = (): ResolverFile => new ResolverFile(saved(), file());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'resolver-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const BEFORE = 'nameserver 192.0.2.53\nsearch example\n';

test('a file is changed and put back', () => {
  writeFileSync(file(), BEFORE);
  const resolver = open();
  resolver.use(['10.83.0.2', 'fd53::2']);
  expect(readFileSync(file(), 'utf8')).toMatch(/nameserver 10\.83\.0\.2\nnameserver fd53::2\n$/);
  resolver.undo();
  resolver.undo();
  expect(readFileSync(file(), 'utf8')).toBe(BEFORE);
  expect(existsSync(saved())).toBe(false);
});

test('the next start puts back what a crash left', () => {
  writeFileSync(file(), BEFORE);
  open().use(['10.83.0.2']);
  open();
  expect(readFileSync(file(), 'utf8')).toBe(BEFORE);
});

test('a link comes back as a link, and nothing as nothing', () => {
  writeFileSync(join(folder, 'stub'), BEFORE);
  symlinkSync('stub', file());
  const resolver = open();
  resolver.use(['10.83.0.2']);
  expect(lstatSync(file()).isSymbolicLink()).toBe(false);
  expect(readFileSync(join(folder, 'stub'), 'utf8')).toBe(BEFORE);
  resolver.undo();
  expect(readlinkSync(file())).toBe('stub');
  rmSync(file());
  resolver.use(['10.83.0.2']);
  resolver.undo();
  expect(existsSync(file())).toBe(false);
});

test('what somebody else has written since stays', () => {
  writeFileSync(file(), BEFORE);
  const resolver = open();
  resolver.use(['10.83.0.2']);
  writeFileSync(file(), 'nameserver 9.9.9.9\n');
  resolver.undo();
  expect(readFileSync(file(), 'utf8')).toBe('nameserver 9.9.9.9\n');
  expect(existsSync(saved())).toBe(false);
});

test.each(['', '{', '[]', '{"content":5}', 'null'])(
  'a saved file that is %j is no reason to touch anything',
  (text) => {
    writeFileSync(file(), BEFORE);
    writeFileSync(saved(), text);
    open();
    expect(readFileSync(file(), 'utf8')).toBe(BEFORE);
    expect(existsSync(saved())).toBe(false);
  },
);

test('where it cannot be written it says so', () => {
  rmSync(folder, { recursive: true });
  expect(() => open().use(['10.83.0.2'])).toThrow(expect.objectContaining({ code: 'DNS_NOT_SET' }));
});
