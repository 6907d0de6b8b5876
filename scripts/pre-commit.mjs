/**
 * The pre-commit hook (opt in: `git config core.hooksPath .githooks`): format and lint of what is staged, types of everything by
 * what changed since last time, shell scripts and Rust's format when some are staged. Some seconds; `npm run check` is the whole.
 * It looks at the files as they are in the working tree.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { ADVISORY, root } from './prepare.mjs';

const bin = (name) => join(root, 'node_modules', '.bin', name);
const listed = execFileSync('git', ['diff', '--cached', '--name-only', '--diff-filter=ACMR', '-z'], { cwd: root });
const staged = listed
  .toString()
  .split('\0')
  .filter((name) => name !== '');
const some = (pattern) => staged.some((name) => pattern.test(name));

const formatted = staged.filter((name) => /\.(ts|mts|js|mjs|cjs|jsonc?)$/.test(name));
const types = [
  ...['-p', 'tsconfig.test.json', '--incremental'],
  ...['--tsBuildInfoFile', 'node_modules/.cache/sallyport-pre-commit.tsbuildinfo'],
];
const steps = [
  [formatted.length > 0, bin('biome'), ['check', '--error-on-warnings', '--no-errors-on-unmatched', ...formatted]],
  [some(/\.ts$/), bin('tsc'), types],
  [some(/\.rs$/), 'cargo', ['fmt', '--check', '--manifest-path', 'native/quic/Cargo.toml']],
  [some(/\.sh$|^\.githooks\/|^\.ci\//), process.execPath, ['scripts/shell.mjs']],
];
for (const [isNeeded, command, args] of steps) {
  if (!isNeeded) continue;
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error !== undefined) console.error(`pre-commit: ${command}: ${error.message}`);
  if (status !== 0 && status !== ADVISORY) process.exit(1);
}
