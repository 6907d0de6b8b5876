/**
 * `npm run prebuilt`: builds the native module that is committed, and its manifest. It holds no path of this machine and
 * depends on nothing but the sources, Rust's and the C compiler's version, which the manifest names.
 *
 *   node scripts/build-prebuilt.mjs            builds and replaces it, unless it is current
 *   node scripts/build-prebuilt.mjs --check    only says whether it is current; status 3 when it is not
 *   node scripts/build-prebuilt.mjs --verify   builds it again and compares every byte; status 1 when they differ
 */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import {
  buildCrate,
  compareVersions,
  crate,
  manifestFile,
  pgoFlags,
  prebuilt,
  prebuiltFolder,
  prebuiltProblem,
  readManifest,
  root,
  sha256,
  sourceHash,
  TARGET,
  version,
} from './native.mjs';
import { ADVISORY } from './prepare.mjs';

const [option] = process.argv.slice(2);
const cargoHome = process.env.CARGO_HOME ?? join(homedir(), '.cargo');
const targetFolder = join(crate, 'target', 'prebuilt');

try {
  if (option === '--check') process.exitCode = check() ? 0 : ADVISORY;
  else if (option === '--verify') verify();
  else if (option === undefined) refresh();
  else throw new Error(`${option} is neither --check nor --verify`);
} catch (error) {
  process.stderr.write(`prebuilt: ${error.message}\n`);
  process.exit(1);
}

/** Whether it is current; says so when it is not. */
function check() {
  const problem = prebuiltProblem();
  if (problem !== undefined) console.error(`${problem}; npm run prebuilt makes a new one`);
  return problem === undefined;
}

function refresh() {
  const hash = sourceHash();
  if (prebuiltProblem(hash) === undefined) {
    console.log('the prebuilt module is current');
    return;
  }
  const built = build();
  if (sourceHash() !== hash) throw new Error('the sources have changed while they were built');
  mkdirSync(prebuiltFolder, { recursive: true });
  const fresh = `${prebuilt}.${process.pid}.new`;
  try {
    copyFileSync(built, fresh);
    renameSync(fresh, prebuilt);
  } finally {
    rmSync(fresh, { force: true });
  }
  const manifest = {
    source: hash,
    sha256: sha256(prebuilt),
    bytes: statSync(prebuilt).size,
    target: TARGET,
    toolchain: version('rustc'),
    compiler: version('cc'),
    glibc: glibcFloor(readFileSync(prebuilt, 'latin1')),
  };
  writeFileSync(manifestFile, `${JSON.stringify(manifest, undefined, 2)}\n`);
  console.log(manifest);
}

function verify() {
  if (!check()) process.exit(1);
  const { toolchain, compiler, sha256: expected } = readManifest();
  const differing = [version('rustc') === toolchain || toolchain, version('cc') === compiler || compiler].filter(
    (one) => one !== true,
  );
  if (differing.length > 0) throw new Error(`it can be verified with the tools it was built with only: ${differing}`);
  const found = sha256(build());
  if (found !== expected) throw new Error(`these sources build another module: ${found}, and not ${expected}`);
  console.log(`the prebuilt module is what these sources build: ${expected}`);
}

/** Builds without paths of this machine, in Rust's panic messages and in C's assertions alike. */
function build() {
  const fetched = spawnSync('cargo', ['fetch', '--locked'], { cwd: crate, stdio: ['ignore', 'inherit', 'inherit'] });
  if (fetched.status !== 0) throw new Error('cargo fetch failed');
  const sources = join(cargoHome, 'registry', 'src');
  // Of several that match, the compilers take the last.
  const paths = [
    [cargoHome, '/cargo'],
    ...readdirSync(sources).map((registry) => [join(sources, registry), '/cargo']),
    [root, '/sallyport'],
  ];
  const flags = [...paths.map(([from, to]) => `--remap-path-prefix=${from}=${to}`), ...pgoFlags()];
  const built = buildCrate(targetFolder, flags, {
    CFLAGS: paths.map(([from, to]) => `-ffile-prefix-map=${from}=${to}`).join(' '),
    SOURCE_DATE_EPOCH: '0',
  });
  const text = readFileSync(built, 'latin1');
  const leaked = [root, homedir(), cargoHome].filter((path) => path !== '/' && text.includes(`${path}/`));
  if (leaked.length > 0) throw new Error(`the module names paths of this machine: ${leaked.join(', ')}`);
  return built;
}

/** The newest version of glibc's symbols that the module asks for. */
function glibcFloor(text) {
  const versions = [...text.matchAll(/GLIBC_(\d+(?:\.\d+)+)/g)].map((match) => match[1]);
  return versions.sort(compareVersions).at(-1) ?? '2.17';
}
