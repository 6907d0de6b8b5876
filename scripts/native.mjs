/**
 * The native module's files, as the scripts that build, check and test it see them.
 *
 *   native/quic/sallyport-quic.linux-x64-gnu.node         the module in use, with a stamp: SOURCE-HASH prebuilt|source
 *   native/quic/prebuilt/linux-x64-gnu.{node,json}        the committed binary and its manifest
 *   native/quic/pgo/rustc-VERSION.profdata                which of its code runs how often, for that compiler (`npm run pgo`)
 *
 * The source hash covers everything the binary depends on, and nothing else: not the crate's tests, which are in `src/tests`.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
export const crate = join(root, 'native', 'quic');
export const prebuiltFolder = join(crate, 'prebuilt');
export const prebuilt = join(prebuiltFolder, 'linux-x64-gnu.node');
export const manifestFile = join(prebuiltFolder, 'linux-x64-gnu.json');
export const pgoFolder = join(crate, 'pgo');
export const TARGET = 'x86_64-unknown-linux-gnu';

const output = join(crate, 'sallyport-quic.linux-x64-gnu.node');
const stamp = `${output}.stamp`;

/** SHA-256 of the crate's sources, in hexadecimal. */
export function sourceHash() {
  const files = (folder) =>
    readdirSync(join(crate, folder), { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => `${folder}/${entry.name}`)
      .sort();
  const hash = createHash('sha256');
  for (const file of ['Cargo.toml', 'Cargo.lock', 'build.rs', '.cargo/config.toml', ...files('src'), ...files('pgo')]) {
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(crate, file)))
      .update('\0');
  }
  return hash.digest('hex');
}

export function sha256(file) {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

/** The manifest, or undefined where nothing is committed. */
export function readManifest() {
  return existsSync(manifestFile) ? JSON.parse(readFileSync(manifestFile, 'utf8')) : undefined;
}

/** Why the committed binary cannot be used for these sources on this machine; undefined when it can. */
export function prebuiltProblem(hash = sourceHash()) {
  const manifest = readManifest();
  if (manifest === undefined || !existsSync(prebuilt)) return 'there is no prebuilt module';
  if (manifest.source !== hash) return 'the prebuilt module is stale: it was built from other sources';
  if (manifest.sha256 !== sha256(prebuilt)) return 'the prebuilt module is damaged: its SHA-256 is not its manifest’s';
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    return `the prebuilt module is for Linux on x64, and this is ${process.platform} on ${process.arch}`;
  }
  const glibc = process.report.getReport().header.glibcVersionRuntime;
  if (glibc === undefined) return 'the prebuilt module needs glibc';
  if (compareVersions(glibc, manifest.glibc) < 0) {
    return `the prebuilt module needs glibc ${manifest.glibc} or newer, and this is ${glibc}`;
  }
  return undefined;
}

/** What is in use now: `{ hash, origin }`, origin `prebuilt` or `source`; undefined when there is nothing. */
export function installed() {
  if (!existsSync(output) || !existsSync(stamp)) return undefined;
  const [hash, origin = 'source'] = readFileSync(stamp, 'utf8').trim().split(' ');
  return { hash, origin };
}

/**
 * Puts a module into its place: by renaming, so that a process that has the old one open keeps it, and a crash leaves the old
 * one or the new one. @throws Error when Node cannot load it.
 */
export function install(file, hash, origin) {
  const fresh = `${output}.${process.pid}.new`;
  try {
    copyFileSync(file, fresh);
    const load = 'process.dlopen({ exports: {} }, process.argv[1])';
    const loaded = spawnSync(process.execPath, ['-e', load, fresh], { encoding: 'utf8' });
    if (loaded.status !== 0) {
      const why = /^Error: (.*)$/m.exec(loaded.stderr)?.[1] ?? loaded.signal ?? `status ${loaded.status}`;
      throw new Error(`Node cannot load the ${origin === 'source' ? 'built' : origin} module: ${why}`);
    }
    // Without a stamp the module counts as absent, so that no moment shows a new one with an old stamp.
    rmSync(stamp, { force: true });
    renameSync(fresh, output);
    writeFileSync(`${fresh}.stamp`, `${hash} ${origin}\n`);
    renameSync(`${fresh}.stamp`, stamp);
  } finally {
    rmSync(fresh, { force: true });
  }
}

/** What `COMMAND --version` says first; undefined when there is no such command. */
export function version(command) {
  const result = spawnSync(command, ['--version'], { encoding: 'utf8', cwd: crate });
  return result.status === 0 ? result.stdout.split('\n', 1)[0].trim() : undefined;
}

/** The file with the profile for the compiler of this version (`rustc 1.95.0 …`), whether it is there or not. */
export function pgoFile(rustc) {
  return join(pgoFolder, `rustc-${rustc.split(' ')[1]}.profdata`);
}

/** Flags for a compiler that knows the profile: another one names functions differently, or cannot read it. */
export function pgoFlags() {
  const rustc = version('rustc');
  return rustc !== undefined && existsSync(pgoFile(rustc)) ? [`-Cprofile-use=${pgoFile(rustc)}`] : [];
}

/**
 * Builds the crate. @param targetFolder where cargo keeps what it makes. @param flags the compiler's. @returns the built library's path.
 * @throws Error that says what to do.
 */
export function buildCrate(targetFolder, flags, environment = {}) {
  const result = spawnSync('cargo', ['build', '--release', '--locked', '--target-dir', targetFolder], {
    cwd: crate,
    env: { ...process.env, CARGO_ENCODED_RUSTFLAGS: flags.join('\x1f'), ...environment },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (result.error?.code === 'ENOENT') {
    throw new Error('cargo is not installed: install Rust (https://rustup.rs) and run: node scripts/build-native.mjs');
  }
  if (result.error !== undefined) throw new Error(`cargo could not be run: ${result.error.message}`);
  if (result.status !== 0) throw new Error(`cargo build failed in ${crate} (${result.signal ?? result.status})`);
  return join(targetFolder, 'release', 'libsallyport_quic.so');
}

/** Negative when `a` is the lower of two dotted versions. */
export function compareVersions(a, b) {
  const [x, y] = [a, b].map((text) => text.split('.').map(Number));
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    if ((x[i] ?? 0) !== (y[i] ?? 0)) return (x[i] ?? 0) - (y[i] ?? 0);
  }
  return 0;
}
