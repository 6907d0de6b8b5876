/** A question to the service's echo server every few milliseconds while something happens (programs/steady-ping.mjs). */
import { join } from 'node:path';
import type { Network, VirtualAddresses } from '../../test/e2e/network.js';
import type { LabProcess } from '../../test/lab/process.js';
import { REPOSITORY } from '../../test/lab/services.js';

export interface PingReport {
  readonly sent: number;
  readonly received: number;
  readonly lost: number;
  /** Milliseconds. */
  readonly longestGapMs: number;
  /** Wall time in milliseconds; undefined: no answer yet. */
  readonly firstAnswerAt: number | undefined;
  /** Questions without an answer, by the second since the reset in which they were asked. */
  readonly lostBySecond: readonly number[];
}

export class SteadyPing {
  readonly #process: LabProcess;
  #resets = 0;

  /** @param gap milliseconds between two questions. */
  constructor(network: Network, { v4 }: Pick<VirtualAddresses, 'v4'>, gap = 10) {
    const program = join(REPOSITORY, 'bench', 'programs', 'steady-ping.mjs');
    const argv = [process.execPath, program, v4, '7', '--gap', String(gap)];
    this.#process = network.topology.user.spawn(argv, { interactive: true });
  }

  /** Begins a window; resolves when it has begun. */
  async reset(): Promise<void> {
    this.#process.write('reset\n');
    await this.#process.waitForLine(new RegExp(`^reset ${++this.#resets}$`));
  }

  /** What the window has brought so far. */
  async report(): Promise<PingReport> {
    const before = this.#reports().length;
    this.#process.write('report\n');
    return this.#process.waitFor('a report', {}, () => {
      const line = this.#reports()[before];
      return line === undefined ? undefined : (JSON.parse(line) as PingReport);
    });
  }

  async stop(): Promise<void> {
    await this.#process.stop('SIGKILL');
  }

  #reports(): string[] {
    return this.#process.stdout
      .split('\n')
      .slice(0, -1)
      .filter((line) => line.startsWith('{'));
  }
}
