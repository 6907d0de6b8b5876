/**
 * The command line of `npm run soak -- --acceptance SUITE [--only TEXT] [--runs N]`: the cases of one suite with the real programs, and the table
 * that docs/acceptance.md shows.
 */
import { parseArgs } from 'node:util';
import { SallyportError } from '../../src/base/error.js';
import { Lab } from '../../test/lab/lab.js';
import { ADDRESS_CASES } from './addresses.js';
import { connectCases } from './connect.js';
import { DEGRADE_CASES } from './degrade.js';
import { failoverCases } from './failover.js';
import { idleCases } from './idle.js';
import { RELAY_CASES } from './relay.js';
import { runSuite, type Suite, suiteMarkdown } from './suite.js';
import { SWITCH_CASES } from './switch.js';
import { UPLINK_CASES } from './uplink.js';

const { values } = parseArgs({
  options: {
    acceptance: { type: 'string' },
    only: { type: 'string', default: '' },
    runs: { type: 'string' },
  },
});
const runs = values.runs === undefined ? undefined : Math.max(1, Math.trunc(Number(values.runs)) || 1);

const SUITES: readonly Suite[] = [
  { name: 'relay', figures: 'what happened', cases: RELAY_CASES },
  { name: 'uplink', figures: 'what happened', cases: UPLINK_CASES },
  { name: 'degrade', figures: 'what happened', cases: DEGRADE_CASES },
  { name: 'addresses', figures: 'what happened', cases: ADDRESS_CASES },
  { name: 'failover', figures: 'what happened', cases: failoverCases(runs) },
  { name: 'switch', figures: 'what happened', cases: SWITCH_CASES },
  { name: 'connect', figures: 'what happened', cases: connectCases(runs) },
  { name: 'idle', figures: 'what happened', cases: idleCases(runs) },
];

const names = SUITES.map(({ name }) => name).join(', ');
const suite = SUITES.find(({ name }) => name === values.acceptance);
if (suite === undefined) {
  process.stderr.write(`--acceptance ${values.acceptance}: one of ${names}\n`);
  process.exitCode = 2;
} else {
  const reason = Lab.unavailable();
  if (reason !== undefined) throw new SallyportError('environment', 'LAB_NOT_AVAILABLE', reason);
  Lab.cleanStale();
  const results = await runSuite(suite, values.only, (line) => process.stderr.write(`${line}\n`));
  process.stdout.write(`${suiteMarkdown(suite, results)}\n`);
  process.exitCode = results.every(({ passed }) => passed) ? 0 : 1;
}
