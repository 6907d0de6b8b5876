/**
 * Prints the matrix and the fairness table, or some of their rows; see netstack-matrix.mjs. Ends with 1 when a cell is below
 * smoltcp's or flows share unfairly.
 */
import { parseArgs } from 'node:util';
import { BUFFERS, cell, LOSSES, SMOLTCP, share } from '../test/netstack/matrix/matrix.js';
import { describeMachine } from './machine.js';

const FLOWS = [1, 2, 4, 8, 16, 32, 64];
/** Jain's index asked of any number of flows. */
const FAIRNESS = 0.97;
const MIB = 1024 * 1024;

const { values } = parseArgs({
  options: {
    matrix: { type: 'boolean' },
    quick: { type: 'boolean', default: false },
    congestion: { type: 'string', default: 'bbr' },
    buffer: { type: 'string', multiple: true },
    flows: { type: 'string', multiple: true },
  },
});
const bytes = values.quick ? MIB : 10 * MIB;
const congestion = values.congestion === 'newreno' || values.congestion === 'cubic' ? values.congestion : 'bbr';
const isWhole = values.buffer === undefined && values.flows === undefined;
const missed: string[] = [];

const row = (...cells: readonly string[]): void => console.log(`| ${cells.join(' | ')} |`);

/** Transfers that are averaged, per buffer size: large segments are so few that the losses of a single transfer are a matter of luck. */
const TRANSFERS: readonly number[] = [1, 1, 2, 4, 4, 4, 4, 4, 4];
const CELLS = BUFFERS.length * LOSSES.length;

/** Bytes per second of row `i` and column `j`: `TRANSFERS` transfers one after another, each with a seed of its own. */
function meanCell(i: number, j: number): number {
  const transfers = TRANSFERS[i]!;
  let seconds = 0;
  for (let k = 0; k < transfers; k++) {
    seconds += bytes / cell(BUFFERS[i]!, LOSSES[j]!, bytes, 1 + i * LOSSES.length + j + k * CELLS, { congestion });
  }
  return (transfers * bytes) / seconds;
}

function matrix(isWanted: (buffer: number) => boolean): void {
  row('buffer', ...LOSSES.map((loss) => `${loss * 100} %`));
  row('---', ...LOSSES.map(() => '---:'));
  let below = 0;
  BUFFERS.forEach((buffer, i) => {
    if (!isWanted(buffer)) return;
    const cells = LOSSES.map((loss, j) => {
      const rate = meanCell(i, j);
      const ratio = rate / SMOLTCP[i]![j]!;
      if (ratio < 1) {
        below++;
        missed.push(`buffer ${buffer} at ${loss * 100} %: ×${ratio.toFixed(4)} of smoltcp's`);
      }
      return `${rate.toFixed(rate < 1000 ? 1 : 0)} (×${ratio.toFixed(2)})`;
    });
    row(String(buffer), ...cells);
  });
  console.log(`\n${below} of these cells below smoltcp's\n`);
}

function fairness(flowCounts: readonly number[]): void {
  row('flows', 'fairness', 'bottleneck used', 'slowest, B/s', 'fastest, B/s', 'drops');
  row('---:', '---:', '---:', '---:', '---:', '---:');
  for (const flows of flowCounts) {
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
}

if (isWhole || values.buffer !== undefined) matrix((buffer) => values.buffer?.includes(String(buffer)) ?? true);
if (isWhole || values.flows !== undefined) fairness(values.flows?.map(Number) ?? FLOWS);

const { commit, modified } = describeMachine();
console.log(`\nCommit ${commit}${modified ? ' (modified)' : ''}, ${congestion}, ${bytes / MIB} MiB a transfer.`);
for (const one of missed) console.error(`below what is asked: ${one}`);
if (missed.length > 0) process.exitCode = 1;
