/**
 * All pairs of NATs, as a table: `nat-matrix-16`, named and shaped like the one iroh's patchbay tests run, so that the two compare.
 */
import { NAT_KINDS, type PairKind, type PairResult, runPair } from './pair.js';

/** Pairs that iroh 1.0.3 leaves out of its required runs: the rest, 13 of 16, it has to pass. */
const IROH_LEFT_OUT: ReadonlySet<string> = new Set(['moderate strict', 'strict moderate', 'strict strict']);

export type Matrix = Readonly<Record<string, PairResult>>;

export const pairName = (user: PairKind, service: PairKind): string => `${user} ${service}`;

export async function runMatrix(say: (line: string) => void): Promise<Matrix> {
  const results: Record<string, PairResult> = {};
  for (const user of NAT_KINDS) {
    for (const service of NAT_KINDS) {
      const result = await runPair(user, service);
      results[pairName(user, service)] = result;
      say(`${user} × ${service}: ${cell(result)} (${result.reason}; ${result.punches} punches)`);
    }
  }
  return results;
}

/** The table for docs/nat.md; rows are the agent's side. */
export function matrixMarkdown(matrix: Matrix): string {
  const names = Object.keys(matrix);
  const direct = names.filter((name) => matrix[name]!.path === 'direct').length;
  const rows = NAT_KINDS.map((user) => {
    const cells = NAT_KINDS.map((service) => {
      const name = pairName(user, service);
      return `${cell(matrix[name]!)}${IROH_LEFT_OUT.has(name) ? ' †' : ''}`;
    });
    return `| **${user}** | ${cells.join(' | ')} |`;
  });
  return [
    `| agent \\ connector | ${NAT_KINDS.join(' | ')} |`,
    `|---|${NAT_KINDS.map(() => '---').join('|')}|`,
    ...rows,
    '',
    `Direct: ${direct} of ${names.length}.`,
  ].join('\n');
}

function cell({ path, direct }: PairResult): string {
  return path === 'direct' ? `direct, ${Math.round(direct!)} ms` : 'relay';
}
