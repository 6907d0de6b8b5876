/**
 * `npm run soak`: installs and builds what is missing, then runs bench/soak/main.ts as it is, in this process.
 */
import { ensureBuilt, ensureInstalled } from './prepare.mjs';

ensureInstalled();
ensureBuilt();
await import('../test/lab/typescript.mjs');
await import('../bench/soak/main.ts');
