/**
 * `npm run check`: every gate that is not a test: types, pure floors, lint, import floors, unused code, the crate's lints, shell
 * scripts, and that the prebuilt native module is current. `npm run check -- NAME` runs those whose name holds NAME.
 *
 * What a machine cannot judge, and a prebuilt module that is stale while the crate is being changed, is a warning here and a
 * failure with `--strict`, which CI gives.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ADVISORY, ensureInstalled, root } from './prepare.mjs';

ensureInstalled();
const bin = (name) => join(root, 'node_modules', '.bin', name);
const manifest = ['--manifest-path', 'native/quic/Cargo.toml'];
const gates = [
  ['types', bin('tsc'), ['-b']],
  ['types of tests', bin('tsc'), ['-p', 'tsconfig.test.json']],
  ['pure floors', bin('tsc'), ['-p', 'tsconfig.pure.json']],
  ['format and lint', bin('biome'), ['check', '--error-on-warnings', '.']],
  ['import floors and cycles', bin('depcruise'), ['src', '--config', '.dependency-cruiser.cjs']],
  ['unused code and dependencies', bin('knip'), []],
  ['house rules', process.execPath, ['scripts/house-rules.mjs']],
  ['shell scripts', process.execPath, ['scripts/shell.mjs']],
  ['crate format', 'cargo', ['fmt', '--check', ...manifest]],
  ['crate lint', 'cargo', ['clippy', '--quiet', '--locked', '--all-targets', ...manifest, '--', '-D', 'warnings']],
  ['prebuilt module', process.execPath, ['scripts/build-prebuilt.mjs', '--check']],
];

const strict = process.argv.includes('--strict');
const only = process.argv.slice(2).find((argument) => !argument.startsWith('-'));
let failed = 0;
for (const [name, command, args] of gates) {
  if (only !== undefined && !name.includes(only)) continue;
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  const verdict = result.status === 0 ? 'ok  ' : result.status === ADVISORY && !strict ? 'warn' : 'FAIL';
  console.log(`${verdict} ${name}`);
  if (verdict === 'FAIL') failed++;
  if (verdict !== 'ok  ') {
    process.stdout.write(`${result.stdout ?? ''}${result.stderr ?? ''}${result.error?.message ?? ''}\n`);
  }
}
process.exit(failed === 0 ? 0 : 1);
