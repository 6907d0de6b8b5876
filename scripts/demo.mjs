/**
 * `npm run demo`: installs and builds what is missing, then starts a relay, a connector in front of a small web service, and a
 * rootless agent on this machine, fetches a page through the tunnel, and shows what happened. `-- --once` ends after that.
 */
import { ensureBuilt, ensureInstalled } from './prepare.mjs';

ensureInstalled();
ensureBuilt();
const { runDemo } = await import('../dist/cli/demo.js');
process.exitCode = await runDemo({ once: process.argv.includes('--once') });
