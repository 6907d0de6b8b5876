/**
 * `npm run soak`: installs and builds what is missing, then runs one of the long suites:
 *
 *   (nothing)           bench/soak/main.ts, in this process: packets and restarts for hours
 *   --nat               bench/nat/main.ts: every pair of NATs
 *   --acceptance SUITE  bench/acceptance/main.ts
 *   --engine            bench/soak/engine-main.ts
 *   --matrix            bench/netstack-matrix.ts: the TCP stack over 9 buffers × 8 loss rates and the fairness table; takes its options
 *   --kernel [N]        the TCP stack against Linux's over N impaired paths (200), as root: test/privileged/netstack
 */
import { ensureBuilt, ensureInstalled, run } from './prepare.mjs';

const KERNEL_RUNS = 200;

/** Runs the privileged tests of the stack with so many seeds. */
function kernel(runs) {
  if (!/^[1-9]\d{0,5}$/.test(runs)) {
    console.error(`--kernel: ${runs} is no number of runs, 1 to 999999`);
    process.exit(2);
  }
  if (process.getuid?.() !== 0) {
    console.error('--kernel needs root: it makes network namespaces and TUN devices');
    process.exit(1);
  }
  run(
    process.execPath,
    ['node_modules/vitest/vitest.mjs', 'run', '--config', 'vitest.e2e.config.ts', 'test/privileged/netstack'],
    { env: { ...process.env, RUNS: runs } },
  );
}

ensureInstalled();
ensureBuilt();
await import('../test/lab/typescript.mjs');
const has = (option) => process.argv.some((text) => text === option || text.startsWith(`${option}=`));
if (has('--kernel')) kernel(process.argv[process.argv.indexOf('--kernel') + 1] ?? String(KERNEL_RUNS));
else if (has('--matrix')) await import('../bench/netstack-matrix.ts');
else if (has('--acceptance')) await import('../bench/acceptance/main.ts');
else if (has('--engine')) await import('../bench/soak/engine-main.ts');
else await import(has('--nat') ? '../bench/nat/main.ts' : '../bench/soak/main.ts');
