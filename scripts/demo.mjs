/**
 * `npm run demo`: installs and builds what is missing, then starts a relay, a connector in front of a small web service, and a
 * rootless agent on this machine, fetches a page through the tunnel, and shows what happened. `-- --once` ends after that.
 * `-- --nat` (as root) shows two NATs instead: the relay first, then a direct link through both, the path cut and restored.
 */
import { ensureBuilt, ensureInstalled } from './prepare.mjs';

ensureInstalled();
ensureBuilt();
if (process.argv.includes('--nat')) {
  await import('../test/lab/typescript.mjs');
  const { runNatDemo } = await import('../bench/nat/demo.ts');
  process.exitCode = await runNatDemo();
} else {
  const { runDemo } = await import('../program/cli/demo.js');
  process.exitCode = await runDemo({ once: process.argv.includes('--once') });
}
