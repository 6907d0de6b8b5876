/** shellcheck over every shell script of the repository, by name or by first line. Status 3 where shellcheck is not installed. */
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { ADVISORY, root } from './prepare.mjs';

const SHEBANG_BYTES = 64;

const tracked = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { cwd: root, encoding: 'utf8' });
const scripts = tracked.split('\n').filter((name) => name !== '' && existsSync(join(root, name)) && isShell(name));
const result = spawnSync('shellcheck', scripts, { cwd: root, encoding: 'utf8' });
if (result.error !== undefined) {
  console.error('shellcheck is not installed: apt-get install shellcheck');
  process.exit(ADVISORY);
}
process.stdout.write(`${result.stdout}${result.stderr}`);
process.exit(result.status);

function isShell(name) {
  if (/\.(ba)?sh$/.test(name)) return true;
  if (/\.[a-z0-9]+$/i.test(name)) return false;
  const descriptor = openSync(join(root, name), 'r');
  try {
    const head = Buffer.alloc(SHEBANG_BYTES);
    const length = readSync(descriptor, head);
    return /^#!.*\b(ba|da)?sh\b/.test(head.toString('latin1', 0, length));
  } finally {
    closeSync(descriptor);
  }
}
