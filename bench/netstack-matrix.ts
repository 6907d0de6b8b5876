/**
 * Prints the matrix and the fairness table; see netstack-matrix.mjs. Ends with 1 when a cell is below smoltcp's or flows share unfairly.
 */

import { BUFFERS, cell, LOSSES, SMOLTCP, share } from '../test/netstack/matrix/matrix.js';
import { describeMachine } from './machine.js';

const quick = process.argv.includes('--quick');
const at = process.argv.indexOf('--congestion');
const named = process.argv[at + 1];
const congestion = at >= 0 && (named === 'newreno' || named === 'cubic') ? named : 'bbr';
/** Jain's index asked of any number of flows. */
const FAIRNESS = 0.97;
const BYTES = quick ? 1024 * 1024 : 10 * 1024 * 1024;

const row = (...cells: readonly string[]): void => console.log(`| ${cells.join(' | ')} |`);

row('buffer', ...LOSSES.map((loss) => `${loss * 100} %`));
row('---', ...LOSSES.map(() => '---:'));
const missed: string[] = [];
BUFFERS.forEach((buffer, i) => {
  const cells = LOSSES.map((loss, j) => {
    const rate = cell(buffer, loss, BYTES, 1 + i * LOSSES.length + j, { congestion });
    const ratio = rate / SMOLTCP[i]![j]!;
    if (ratio < 1) missed.push(`buffer ${buffer} at ${loss * 100} %: ×${ratio.toFixed(4)} of smoltcp's`);
    return `${rate.toFixed(rate < 1000 ? 1 : 0)} (×${ratio.toFixed(2)})`;
  });
  row(String(buffer), ...cells);
});
console.log(`\n${missed.length} of ${BUFFERS.length * LOSSES.length} cells below smoltcp's\n`);

row('flows', 'fairness', 'bottleneck used', 'slowest, B/s', 'fastest, B/s', 'drops');
row('---:', '---:', '---:', '---:', '---:', '---:');
for (const flows of [1, 2, 4, 8, 16, 32, 64]) {
  const r = share(flows, 7, { congestion });
  if (r.fairness < FAIRNESS) missed.push(`${flows} flows: fairness ${r.fairness.toFixed(4)}`);
  row(
    String(flows),
    r.fairness.toFixed(4),
    `${(100 * r.used).toFixed(1)} %`,
    r.least.toFixed(0),
    r.most.toFixed(0),
    String(r.dropped),
  );
}

const { commit, modified } = describeMachine();
console.log(`\nCommit ${commit}${modified ? ' (modified)' : ''}, ${congestion}, ${BYTES / 1024 / 1024} MiB a cell.`);
for (const one of missed) console.error(`below what is asked: ${one}`);
if (missed.length > 0) process.exitCode = 1;
