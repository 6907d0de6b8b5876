/** What tun2socks.ts writes, and its table: every row, those where another wins too. */
import type { Machine } from './machine.js';
import { summarize } from './statistics.js';

/** What one run of a subject found: row → value. */
export interface RunFigures {
  readonly [row: string]: number;
}

export interface Tun2socksReport {
  readonly date: string;
  readonly command: string;
  readonly machine: Machine;
  /** Cores that were busy with other things before it began. */
  readonly busy: number;
  readonly seconds: number;
  readonly parts: readonly string[];
  /** Subject → its version, or why it is left out. */
  readonly versions: Readonly<Record<string, string>>;
  readonly results: Readonly<Record<string, readonly RunFigures[]>>;
}

/** The table with medians and ranges, and what each subject is. */
export function tun2socksTable({ results, versions }: Tun2socksReport): string {
  const names = Object.keys(results);
  const rows = [...new Set(names.flatMap((name) => results[name]!.flatMap((one) => Object.keys(one))))];
  const lines = [`| | ${names.join(' | ')} |`, `|---|${names.map(() => '---:|').join('')}`];
  for (const row of rows) {
    const cells = names.map((name) => {
      const found = summarize(results[name]!.map((one) => one[row]).filter((value) => value !== undefined));
      if (found === undefined) return '–';
      const [median, least, most] = [found.median, found.min, found.max].map(Math.round);
      return least === most ? `${median}` : `${median} (${least}–${most})`;
    });
    lines.push(`| ${row} | ${cells.join(' | ')} |`);
  }
  return [...lines, '', ...Object.entries(versions).map(([name, version]) => `- ${name}: ${version}`)].join('\n');
}

export function tun2socksMarkdown(report: Tun2socksReport): string {
  const { machine, date, command, busy, seconds } = report;
  const state = machine.modified ? ' (modified)' : '';
  return [
    `Commit ${machine.commit}${state}, ${date.slice(0, 10)}, \`${command}\`: ${machine.cpu}, ${machine.cores} cores, kernel ${machine.kernel} (its TCP: ${machine.congestion}), Node ${machine.node}. ` +
      `Medians (all runs), ${seconds} s each of TCP; before it began ${busy.toFixed(2)} cores were busy with other things.`,
    '',
    tun2socksTable(report),
  ].join('\n');
}
