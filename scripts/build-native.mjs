/**
 * Makes the native module that `src/quic/native.ts` loads, unless the one in place is of these sources. Runs after
 * installation. The committed binary is taken when it was built from these very sources and runs here, so that a machine
 * without Rust works; else cargo builds it (about two minutes).
 *
 *   node scripts/build-native.mjs [--from-source | --prebuilt]     one of the two and not the other
 */
import { join } from 'node:path';
import { buildCrate, crate, install, installed, pgoFlags, prebuilt, prebuiltProblem, sourceHash } from './native.mjs';

const [option] = process.argv.slice(2);
if (option !== undefined && option !== '--from-source' && option !== '--prebuilt') {
  process.stderr.write(`build-native: ${option} is neither --from-source nor --prebuilt\n`);
  process.exit(2);
}
const wanted = option === undefined ? undefined : option === '--prebuilt' ? 'prebuilt' : 'source';
try {
  const hash = sourceHash();
  const present = installed();
  const isThere = present?.hash === hash && (wanted === undefined || present.origin === wanted);
  if (!isThere) make(hash);
} catch (error) {
  process.stderr.write(`native/quic: ${error.message}\n`);
  process.exit(1);
}

function make(hash) {
  const problem = wanted === 'source' ? undefined : takePrebuilt(hash);
  if (wanted !== 'source' && problem === undefined) return;
  if (wanted === 'prebuilt') throw new Error(problem);
  let built;
  try {
    built = buildCrate(join(crate, 'target'), pgoFlags());
  } catch (error) {
    throw new Error(problem === undefined ? error.message : `${problem}, and ${error.message}`);
  }
  install(built, hash, 'source');
}

/** Installs the committed module; why it cannot be used, or undefined when it is in place. */
function takePrebuilt(hash) {
  const problem = prebuiltProblem(hash);
  if (problem !== undefined) return problem;
  try {
    install(prebuilt, hash, 'prebuilt');
    return undefined;
  } catch (error) {
    return error.message;
  }
}
