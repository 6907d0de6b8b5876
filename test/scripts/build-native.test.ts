/** How the native module gets into its place on a machine without Rust: the committed binary, or one clear line. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const MODULE = 'native/quic/sallyport-quic.linux-x64-gnu.node';
const PREBUILT = 'native/quic/prebuilt/linux-x64-gnu.node';
const MANIFEST = 'native/quic/prebuilt/linux-x64-gnu.json';

let tree: string;
let path: string;

const at = (name: string): string => join(tree, name);
const sha256 = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

/** Runs a script of the tree with nothing but Node in the path. */
function script(name: string, ...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [at(`scripts/${name}`), ...args], {
    cwd: tree,
    encoding: 'utf8',
    env: { PATH: path, HOME: tree },
  });
  return { status, output: `${stdout}${stderr}` };
}

/** Commits this file as the prebuilt module of the tree's sources; `change` falsifies the manifest. */
function commit(file: string, change: Record<string, string> = {}): void {
  const source = spawnSync(
    process.execPath,
    ['--input-type=module', '-e', `console.log((await import('${at('scripts/native.mjs')}')).sourceHash())`],
    { encoding: 'utf8' },
  ).stdout.trim();
  mkdirSync(at('native/quic/prebuilt'), { recursive: true });
  copyFileSync(file, at(PREBUILT));
  writeFileSync(at(MANIFEST), JSON.stringify({ source, sha256: sha256(at(PREBUILT)), glibc: '2.17', ...change }));
}

const inUse = (): string =>
  readFileSync(at(`${MODULE}.stamp`), 'utf8')
    .trim()
    .split(' ')[1]!;

beforeEach(() => {
  tree = mkdtempSync(join(tmpdir(), 'sallyport-build-'));
  path = at('bin');
  mkdirSync(path);
  symlinkSync(process.execPath, join(path, 'node'));
  cpSync(join(REPOSITORY, 'scripts'), at('scripts'), { recursive: true });
  mkdirSync(at('native/quic'), { recursive: true });
  for (const name of ['Cargo.toml', 'Cargo.lock', 'build.rs', '.cargo', 'pgo', 'src']) {
    cpSync(join(REPOSITORY, 'native/quic', name), at(`native/quic/${name}`), { recursive: true });
  }
});
afterEach(() => rmSync(tree, { recursive: true, force: true }));

describe('build-native without Rust', () => {
  it('takes the prebuilt module of these sources, once', () => {
    commit(join(REPOSITORY, MODULE));
    expect(script('build-native.mjs')).toEqual({ status: 0, output: '' });
    expect(sha256(at(MODULE))).toBe(sha256(at(PREBUILT)));
    expect(inUse()).toBe('prebuilt');
    rmSync(at(PREBUILT));
    expect(script('build-native.mjs').status).toBe(0);
    expect(script('build-prebuilt.mjs', '--check').status).toBe(3);
  });

  it.each([
    ['there is none', () => undefined, /no prebuilt module, and cargo is not installed: install Rust/],
    [
      'it is stale',
      () => commit(join(REPOSITORY, MODULE), { source: 'ab'.repeat(32) }),
      /stale.*cargo is not installed/,
    ],
    ['it is damaged', () => commit(join(REPOSITORY, MODULE), { sha256: 'cd'.repeat(32) }), /damaged.*SHA-256/],
    ['it needs a newer glibc', () => commit(join(REPOSITORY, MODULE), { glibc: '9.1' }), /needs glibc 9\.1 or newer/],
    ['Node cannot load it', () => commit(join(REPOSITORY, 'README.md')), /Node cannot load the prebuilt module/],
  ])('says so when %s, and leaves nothing half made', (_what, prepare, message) => {
    prepare();
    const { status, output } = script('build-native.mjs');
    expect(status).toBe(1);
    expect(output).toMatch(message);
    expect(output.trim().split('\n')).toHaveLength(1);
    expect(existsSync(at(MODULE))).toBe(false);
    expect(readdirSync(at('native/quic')).filter((name) => name.includes('.new'))).toEqual([]);
  });

  it('does not go back to another module when a new one cannot be had', () => {
    commit(join(REPOSITORY, MODULE));
    script('build-native.mjs');
    appendFileSync(at('native/quic/src/lib.rs'), '\n// changed\n');
    expect(script('build-native.mjs')).toMatchObject({ status: 1 });
    expect(existsSync(at(MODULE))).toBe(true);
    expect(script('build-prebuilt.mjs', '--check')).toMatchObject({ status: 3 });
  });

  it('does not count the crate’s tests as sources of the module', () => {
    commit(join(REPOSITORY, MODULE));
    appendFileSync(at('native/quic/src/tests/mod.rs'), '\n// changed\n');
    expect(script('build-prebuilt.mjs', '--check')).toEqual({ status: 0, output: '' });
  });

  it('builds from source when told, or says why it cannot', () => {
    commit(join(REPOSITORY, MODULE));
    const { status, output } = script('build-native.mjs', '--from-source');
    expect([status, output]).toEqual([1, expect.stringMatching(/^native\/quic: cargo is not installed/)]);
    expect(script('build-native.mjs', '--from').status).toBe(2);
  });
});
