/** The package as a user gets it: packed, installed into an empty folder without Rust or install scripts, and run. */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
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
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const PREBUILT = 'native/quic/prebuilt/linux-x64-gnu.node';
const MODULE = 'native/quic/sallyport-quic.linux-x64-gnu.node';

const folder = mkdtempSync(join(tmpdir(), 'sallyport-package-'));
const installed = join(folder, 'app/node_modules/sallyport');
const path = join(folder, 'bin');

function run(command: string, args: readonly string[], cwd: string, PATH: string) {
  // npm's own settings for this run of the tests are none of the user's.
  const mine = Object.entries(process.env).filter(([name]) => !name.startsWith('npm_'));
  const result = spawnSync(command, args, { cwd, encoding: 'utf8', env: { ...Object.fromEntries(mine), PATH } });
  return { status: result.status, stdout: result.stdout, stderr: `${result.stderr}${result.error?.message ?? ''}` };
}

const sallyport = (...args: string[]) => run(join(folder, 'app/node_modules/.bin/sallyport'), args, folder, path);

beforeAll(() => {
  const must = (command: string, args: readonly string[], cwd: string, PATH = process.env['PATH']!): void => {
    const { status, stdout, stderr } = run(command, args, cwd, PATH);
    if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stdout}${stderr}`);
  };
  must('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], REPOSITORY);
  mkdirSync(path);
  symlinkSync(process.execPath, join(path, 'node'));
  for (const name of ['sh', 'env', 'npm']) symlinkSync(which(name), join(path, name));
  const { version } = JSON.parse(readFileSync(join(REPOSITORY, 'package.json'), 'utf8')) as { version: string };
  mkdirSync(join(folder, 'app'));
  writeFileSync(join(folder, 'app/package.json'), '{"private":true}\n');
  const options = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund'];
  must('npm', ['install', ...options, `../sallyport-${version}.tgz`], join(folder, 'app'), path);
  // While the crate is being changed the committed module is stale, which is a gate's to refuse: the one in use stands in.
  const check = run(process.execPath, ['scripts/build-prebuilt.mjs', '--check'], REPOSITORY, process.env['PATH']!);
  if (check.status !== 0) {
    mkdirSync(dirname(join(installed, PREBUILT)), { recursive: true });
    copyFileSync(join(REPOSITORY, MODULE), join(installed, PREBUILT));
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function which(name: string): string {
  const found = (process.env['PATH'] ?? '').split(':').find((one) => existsSync(join(one, name)));
  return resolve(found ?? '/', name);
}

describe('the installed package', () => {
  it('holds what it needs and nothing of the tests', () => {
    for (const name of [
      'program/cli/main.js',
      'program/LICENSES.txt',
      'dist/index.js',
      'native/quic/Cargo.lock',
      'README.md',
      'LICENSE',
      'docs/cli.md',
    ]) {
      expect(existsSync(join(installed, name)), name).toBe(true);
    }
    for (const name of [
      'test',
      'src',
      'bench',
      'dist/.tsbuildinfo',
      'dist/cli',
      'dist/agent',
      'native/quic/src/tests',
      MODULE,
    ]) {
      expect(existsSync(join(installed, name)), name).toBe(false);
    }
  });

  it('knows its commands and its version', () => {
    const { version } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as { version: string };
    expect(sallyport('version')).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
    expect(JSON.parse(sallyport('version', '--json').stdout)).toEqual({ version });
    const help = sallyport('--help');
    expect(help.status).toBe(0);
    for (const command of ['init', 'invite', 'relay', 'connector', 'agent', 'status', 'policy', 'revoke', 'version']) {
      expect(help.stdout).toMatch(new RegExp(`^  ${command}\\b`, 'm'));
      expect(sallyport(command, '--help').stdout).toContain(`Usage: sallyport ${command}`);
    }
  });

  it.each(['relay', 'connector', 'agent', 'tun2socks'])('has the packet thread of %s in one file', (role) => {
    const thread = readFileSync(join(installed, `program/${role}/packet-thread.js`), 'utf8');
    const imports = [...thread.matchAll(/\b(?:from|import)\(?\s*["']([^"']+)["']/g)].map(([, name]) => name!);
    expect(imports).toContain('koffi');
    expect(imports.filter((name) => !name.startsWith('node:') && name !== 'koffi')).toEqual([]);
  });

  it('has no character that would make Node hold the text of a file with two bytes a character', () => {
    const files = readdirSync(join(installed, 'program'), { encoding: 'utf8', recursive: true });
    const scripts = files.filter((name) => name.endsWith('.js'));
    expect(scripts.length).toBeGreaterThan(5);
    const wide = scripts.filter((name) => /[^\0-\x7f]/.test(readFileSync(join(installed, 'program', name), 'utf8')));
    expect(wide).toEqual([]);
  });

  it('says what it does not know', () => {
    expect(sallyport('statsu')).toMatchObject({ status: 2, stderr: expect.stringContaining('Did you mean status?') });
    expect(sallyport('status', '--dir', join(folder, 'none'))).toMatchObject({ status: 1, stdout: '' });
  });

  it('is imported by itself: the engine and the stack are entries of their own', () => {
    const program = `
      const [all, engine, netstack] = await Promise.all(['', '/engine', '/netstack'].map((one) => import('sallyport' + one)));
      console.log(JSON.stringify([typeof all.trace, all.Engine === engine.Engine, typeof engine.Capture, typeof netstack.Stack]));`;
    const app = join(folder, 'app');
    const { status, stdout, stderr } = run('node', ['--input-type=module', '-e', program], app, path);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual(['function', true, 'function', 'function']);
    for (const name of ['engine', 'netstack'])
      expect(existsSync(join(installed, `dist/${name}/index.d.ts`))).toBe(true);
  });

  it('runs a relay, a connector and an agent without Rust and without its install script', () => {
    const demo = join(installed, 'program/cli/demo.js');
    const program = `process.exitCode = await (await import('${demo}')).runDemo({ once: true })`;
    const { status, stdout, stderr } = run('node', ['--input-type=module', '-e', program], folder, path);
    expect(stderr).toBe('');
    expect(stdout).toContain('<h1>It works</h1>');
    expect(status).toBe(0);
    expect(existsSync(join(installed, 'native/quic/target'))).toBe(false);
  });
});
