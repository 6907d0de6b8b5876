/** A list of single figures, as the small benchmarks make it: printed while it grows, and written as one JSON document. */
import { writeFileSync } from 'node:fs';
import { describeMachine, type Machine } from './machine.js';
import { significant } from './report.js';

export interface Figure {
  readonly id: string;
  readonly label: string;
  readonly unit: string;
  readonly value: number;
  /** What it has to reach, where something is asked of it. */
  readonly bar?: Bar;
}

export type Bar = { readonly least: number } | { readonly most: number };

export interface FiguresReport {
  readonly format: 1;
  readonly date: string;
  readonly command: string;
  readonly machine: Machine;
  readonly rows: readonly Figure[];
}

export interface FiguresOptions {
  readonly json: boolean;
  readonly out?: string | undefined;
}

export class Figures {
  readonly #options: FiguresOptions;
  readonly #rows: Figure[] = [];

  /** @param options `json`: the document goes to standard output, and nothing else does; `out`: a file for it. */
  constructor(options: FiguresOptions) {
    this.#options = options;
  }

  add(id: string, label: string, unit: string, value: number, bar?: Bar): void {
    this.#rows.push({ id, label, unit, value, ...(bar === undefined ? {} : { bar }) });
    if (this.#options.json) return;
    const asked = bar === undefined ? '' : `  (${barText(bar)}: ${reaches(value, bar) ? 'good' : 'BAD'})`;
    console.log(`${label}: ${significant(value)} ${unit}${asked}`);
  }

  /** Labels of the figures that do not reach what is asked of them. */
  get missed(): readonly string[] {
    return this.#rows.filter(({ value, bar }) => bar !== undefined && !reaches(value, bar)).map(({ label }) => label);
  }

  /** @param command what makes these figures anew. */
  finish(command: string): void {
    const date = new Date().toISOString();
    const report: FiguresReport = { format: 1, date, command, machine: describeMachine(), rows: this.#rows };
    const text = `${JSON.stringify(report, undefined, 1)}\n`;
    if (this.#options.out !== undefined) writeFileSync(this.#options.out, text);
    if (this.#options.json) process.stdout.write(text);
  }
}

export function barText(bar: Bar): string {
  return 'least' in bar ? `≥ ${significant(bar.least)}` : `≤ ${significant(bar.most)}`;
}

export function reaches(value: number, bar: Bar): boolean {
  return 'least' in bar ? value >= bar.least : value <= bar.most;
}
