/**
 * Builds the Rust crate `native/quic` when its sources differ from those of the last build, and puts the module where
 * `src/quic/native.ts` loads it. Runs after installation. The stamp beside the module holds the hash of the sources.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const crate = join(dirname(dirname(fileURLToPath(import.meta.url))), 'native', 'quic');
const output = join(crate, 'sallyport-quic.linux-x64-gnu.node');
const stamp = `${output}.stamp`;
const built = join(crate, 'target', 'release', 'libsallyport_quic.so');

function sourceHash() {
  const files = [
    'Cargo.toml',
    'Cargo.lock',
    'build.rs',
    ...readdirSync(join(crate, 'src'))
      .sort()
      .map((f) => `src/${f}`),
  ];
  const hash = createHash('sha256');
  for (const file of files)
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(crate, file)))
      .update('\0');
  return hash.digest('hex');
}

function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

const hash = sourceHash();
if (existsSync(output) && existsSync(stamp) && readFileSync(stamp, 'utf8').trim() === hash) process.exit(0);

const cargo = spawnSync('cargo', ['build', '--release', '--locked'], {
  cwd: crate,
  stdio: ['ignore', 'inherit', 'inherit'],
});
if (cargo.error?.code === 'ENOENT') {
  fail(
    'native/quic must be built, and cargo is not installed: install Rust (https://rustup.rs) and run: node scripts/build-native.mjs',
  );
}
if (cargo.error !== undefined) fail(`cargo could not be run: ${cargo.error.message}`);
if (cargo.status !== 0) fail(`cargo build failed in ${crate} (status ${cargo.status ?? cargo.signal})`);

// By renaming, so that a process that has the old module open keeps it.
rmSync(stamp, { force: true });
copyFileSync(built, `${output}.new`);
renameSync(`${output}.new`, output);
writeFileSync(stamp, `${hash}\n`);
