/**
 * `npm test`: installs what is missing, then runs every test this machine can run and says what it skipped and why.
 * The native module comes in two ways, prebuilt and built here: everything runs with the one in place, the tests of QUIC with
 * the other one too. The last line is `N passed, N failed, N skipped`.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { installed } from './native.mjs';
import { ensureBuilt, ensureInstalled, root, run } from './prepare.mjs';

ensureInstalled();
ensureBuilt();

const skippedSuites = [];
const canUseNamespaces = prepareHost();
const results = mkdtempSync(join(tmpdir(), 'sallyport-test-'));
let totals;
try {
  const counts = [vitest('unit', []), cargo(), otherModule()];
  if (canUseNamespaces) counts.push(vitest('lab and end-to-end', ['--config', 'vitest.e2e.config.ts']));
  totals = counts.reduce((sum, one) => ({
    passed: sum.passed + one.passed,
    failed: sum.failed + one.failed,
    skipped: sum.skipped + one.skipped,
  }));
} finally {
  rmSync(results, { recursive: true, force: true });
}
for (const line of skippedSuites) console.log(`skipped: ${line}`);
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exit(totals.failed === 0 && totals.passed > 0 ? 0 : 1);

/** Whether tests with namespaces and real programs can run here; installs their Debian packages as root. */
function prepareHost() {
  if (process.getuid?.() !== 0) {
    skippedSuites.push('lab and end-to-end tests: they make network namespaces, which needs root');
    return false;
  }
  if (!existsSync('/dev/net/tun')) {
    skippedSuites.push('lab and end-to-end tests: this machine has no /dev/net/tun');
    return false;
  }
  const missing = debianPackages().filter((name) => !isInstalled(name));
  if (missing.length === 0) return true;
  if (spawnSync('apt-get', ['--version']).status !== 0) {
    skippedSuites.push(`lab and end-to-end tests: they need the programs of ${missing.join(', ')}`);
    return false;
  }
  console.log(`Installing test programs: ${missing.join(' ')} …`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  run('apt-get', ['-qq', 'update'], { env });
  const install = ['-qq', '-y', 'install', '--no-install-recommends', ...missing];
  run('apt-get', install, { env, stdio: ['ignore', 'ignore', 'inherit'] });
  return true;
}

function debianPackages() {
  return readFileSync(join(root, 'test', 'lab', 'packages.txt'), 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'));
}

function isInstalled(name) {
  const status = spawnSync('dpkg-query', ['-W', `-f=$\{db:Status-Status}`, name], { encoding: 'utf8' });
  return status.status === 0 && status.stdout === 'installed';
}

function vitest(name, args) {
  console.log(`\n── ${name} tests`);
  const output = join(results, `${name}.json`);
  const result = spawnSync(
    process.execPath,
    [
      join(root, 'node_modules', 'vitest', 'vitest.mjs'),
      'run',
      ...args,
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${output}`,
    ],
    { cwd: root, stdio: 'inherit' },
  );
  if (!existsSync(output)) return { passed: 0, failed: 1, skipped: 0 };
  const report = JSON.parse(readFileSync(output, 'utf8'));
  const failed = report.numFailedTests + (result.status !== 0 && report.numFailedTests === 0 ? 1 : 0);
  return { passed: report.numPassedTests, failed, skipped: report.numPendingTests + report.numTodoTests };
}

/** The tests of QUIC with the module that is not in place: the prebuilt one, or one built from source. */
function otherModule() {
  const present = installed().origin;
  const [other, way, back] =
    present === 'source' ? ['prebuilt', '--prebuilt', '--from-source'] : ['source', '--from-source', '--prebuilt'];
  const make = (option) =>
    spawnSync(process.execPath, ['scripts/build-native.mjs', option], { cwd: root, encoding: 'utf8' });
  console.log(`\n── the native module from ${other}`);
  const made = make(way);
  if (made.status !== 0) {
    skippedSuites.push(`tests with the native module from ${other}: ${made.stderr.trim().split('\n').at(-1)}`);
    return { passed: 0, failed: 0, skipped: 1 };
  }
  try {
    return vitest(`QUIC, module from ${other}`, ['test/quic']);
  } finally {
    make(back);
  }
}

function cargo() {
  console.log('\n── native crate tests');
  if (spawnSync('cargo', ['--version']).status !== 0) {
    skippedSuites.push('tests of the native crate: cargo is not installed');
    return { passed: 0, failed: 0, skipped: 1 };
  }
  const result = spawnSync('cargo', ['test', '--locked', '--quiet'], {
    cwd: join(root, 'native', 'quic'),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  process.stdout.write(result.stdout);
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const match of result.stdout.matchAll(/test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/g)) {
    counts.passed += Number(match[1]);
    counts.failed += Number(match[2]);
    counts.skipped += Number(match[3]);
  }
  if (result.status !== 0 && counts.failed === 0) counts.failed = 1;
  return counts;
}
