/**
 * `npm run pgo`: measures which of the crate's code runs how often, for the compiler to lay it out by (profile-guided
 * optimization): builds the crate with counters, carries traffic of all kinds through it, and writes native/quic/pgo. Needs root,
 * the programs of the benchmark, and Rust's own llvm-profdata. Then `npm run prebuilt`.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildCrate, crate, install, pgoFile, pgoFolder, root } from './native.mjs';
import { ensureBuilt, ensureInstalled } from './prepare.mjs';

/** Both directions, one flow and eight, datagrams and pings: over the relay, direct, through the connector's kernel, and with loss. */
const TRAFFIC = [
  ['--subject', 'sallyport', '--subject', 'sallyport-direct', '--subject', 'sallyport-kernel', '--link', 'clean'],
  ['--subject', 'sallyport', '--link', 'loss1-rtt20-bbr'],
];

function output(command, args) {
  const result = spawnSync(command, args, { encoding: 'utf8', cwd: crate });
  if (result.status !== 0) throw new Error(`${command} is not installed`);
  return result.stdout.trim();
}

function execute(command, args, environment = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...environment } });
  if (result.status !== 0) throw new Error(`${command} ${args[0]} failed (${result.signal ?? result.status})`);
}

/** Of the same LLVM as the compiler: another one cannot read its counters. */
function merger() {
  const target = /^host: (.*)$/m.exec(output('rustc', ['-vV']))[1];
  const tool = join(output('rustc', ['--print', 'sysroot']), 'lib', 'rustlib', target, 'bin', 'llvm-profdata');
  if (!existsSync(tool)) throw new Error(`there is no ${tool}: rustup component add llvm-tools`);
  return tool;
}

ensureInstalled();
ensureBuilt();
// What is built for the build counts too, and so does the module when it is only looked at.
process.env.LLVM_PROFILE_FILE = '/dev/null';
const folder = mkdtempSync(join(tmpdir(), 'sallyport-pgo-'));
try {
  const tool = merger();
  const file = pgoFile(output('rustc', ['--version']));
  // The hash is none of a module in use: whatever happens here, the next build replaces it.
  install(buildCrate(join(crate, 'target', 'pgo'), ['-Cprofile-generate']), 'counting', 'source');
  for (const options of TRAFFIC) {
    const bench = ['--import', './test/lab/typescript.mjs', 'bench/main.ts', '--quick', ...options, '--rounds', '1'];
    const counters = { LLVM_PROFILE_FILE: join(folder, '%p-%m.profraw') };
    execute(process.execPath, [...bench, '--out', join(folder, 'bench.json')], counters);
  }
  const counted = readdirSync(folder).filter((name) => name.endsWith('.profraw'));
  if (counted.length === 0) throw new Error('nothing was counted');
  rmSync(pgoFolder, { recursive: true, force: true });
  mkdirSync(pgoFolder);
  execute(tool, ['merge', '-sparse', '-o', file, ...counted.map((name) => join(folder, name))]);
  console.log(`${file}: from ${counted.length} processes`);
} catch (error) {
  process.stderr.write(`pgo: ${error.message}\n`);
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
  execute(process.execPath, ['scripts/build-native.mjs']);
}
