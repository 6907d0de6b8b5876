/**
 * `npm run soak`: installs and builds what is missing, then runs bench/soak/main.ts as it is, in this process; with `--nat`
 * bench/nat/main.ts, every pair of NATs.
 */
import { ensureBuilt, ensureInstalled } from './prepare.mjs';

ensureInstalled();
ensureBuilt();
await import('../test/lab/typescript.mjs');
await import(process.argv.includes('--nat') ? '../bench/nat/main.ts' : '../bench/soak/main.ts');
