/**
 * What `npm run demo`, `npm test` and `npm run bench` need before they start: dependencies, the native crate, the build.
 * Uses nothing but Node, so that it runs in a fresh clone.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { root } from './native.mjs';

export { root };

/** Exit status of a gate that has something to say but cannot fail on its own account. */
export const ADVISORY = 3;

/** Runs a command in the project's folder with our own output; ends this process with its status when it fails. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (result.error !== undefined) {
    console.error(`${command}: ${result.error.message}`);
    process.exit(1);
  }
  if (result.status !== 0) process.exit(result.status ?? 1);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  console.error(`Sallyport needs Node.js 20.19 or newer; this is ${process.versions.node}.`);
  process.exit(1);
}

/** Installs the locked dependencies unless exactly those are installed already, and builds the crate if it is stale. */
export function ensureInstalled() {
  checkNode();
  const hash = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
  const stamp = join(root, 'node_modules', '.cache', 'sallyport-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) {
    run(process.execPath, ['scripts/build-native.mjs']);
    return;
  }
  console.log(
    'Installing dependencies; where the prebuilt native module does not fit, cargo builds it (two minutes) …',
  );
  run('npm', ['ci', '--no-audit', '--no-fund']);
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, hash);
}

/** Compiles `src` to `dist`, fast when nothing changed, and makes `program` of it, in a second. */
export function ensureBuilt() {
  run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-b']);
  run(process.execPath, [join(root, 'scripts', 'bundle.mjs')]);
}
