/** `npm run check`: every gate that is not a test: types, pure floors, lint, import floors, unused code, the crate's lints. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ensureInstalled, root } from './prepare.mjs';

ensureInstalled();
const bin = (name) => join(root, 'node_modules', '.bin', name);
const gates = [
  ['types', bin('tsc'), ['-b']],
  ['types of tests', bin('tsc'), ['-p', 'tsconfig.test.json']],
  ['pure floors', bin('tsc'), ['-p', 'tsconfig.pure.json']],
  ['format and lint', bin('biome'), ['check', '--error-on-warnings', '.']],
  ['import floors and cycles', bin('depcruise'), ['src', '--config', '.dependency-cruiser.cjs']],
  ['unused code and dependencies', bin('knip'), []],
  ['house rules', process.execPath, ['scripts/house-rules.mjs']],
  ['crate format', 'cargo', ['fmt', '--check', '--manifest-path', 'native/quic/Cargo.toml']],
  [
    'crate lint',
    'cargo',
    [
      'clippy',
      '--quiet',
      '--locked',
      '--all-targets',
      '--manifest-path',
      'native/quic/Cargo.toml',
      '--',
      '-D',
      'warnings',
    ],
  ],
];

const only = process.argv[2];
let failed = 0;
for (const [name, command, args] of gates) {
  if (only !== undefined && !name.includes(only)) continue;
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8' });
  const ok = result.status === 0;
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${name}`);
  if (!ok) {
    failed++;
    process.stdout.write(`${result.stdout ?? ''}${result.stderr ?? ''}${result.error?.message ?? ''}\n`);
  }
}
process.exit(failed === 0 ? 0 : 1);
