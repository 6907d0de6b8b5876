/**
 * `npm run test:newest [-- FILTER…]`: the unit tests and the demo with the newest Node.js, which npm brings as a package into a
 * folder that is gone afterwards. Whatever is given is passed on to the test runner.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureBuilt, ensureInstalled, root } from './prepare.mjs';

ensureInstalled();
ensureBuilt();
const filters = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'sallyport-node-'));
try {
  // The package of one platform, because it needs no install script.
  const name = `node-${process.platform}-${process.arch}`;
  const options = ['--no-save', '--no-audit', '--no-fund', '--prefix', folder];
  if (!did('npm', ['install', ...options, `${name}@latest`])) throw new Error(`npm cannot install ${name}`);
  const node = join(folder, 'node_modules', name, 'bin', 'node');
  if (!did(node, ['--version'])) throw new Error('the newest Node.js does not run here');
  const passed = did(node, ['node_modules/vitest/vitest.mjs', 'run', ...filters]);
  const demonstrated = filters.length > 0 || did(node, ['scripts/demo.mjs', '--once']);
  process.exitCode = passed && demonstrated ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

function did(command, args) {
  return spawnSync(command, args, { cwd: root, stdio: 'inherit' }).status === 0;
}
