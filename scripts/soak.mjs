/**
 * `npm run soak`: installs and builds what is missing, then runs bench/soak/main.ts as it is, in this process; with `--nat`
 * bench/nat/main.ts, every pair of NATs, with `--acceptance SUITE` bench/acceptance/main.ts,
 * and with `--engine` bench/soak/engine-main.ts.
 */
import { ensureBuilt, ensureInstalled } from './prepare.mjs';

ensureInstalled();
ensureBuilt();
await import('../test/lab/typescript.mjs');
const has = (option) => process.argv.some((text) => text === option || text.startsWith(`${option}=`));
if (has('--acceptance')) await import('../bench/acceptance/main.ts');
else if (has('--engine')) await import('../bench/soak/engine-main.ts');
else await import(has('--nat') ? '../bench/nat/main.ts' : '../bench/soak/main.ts');
