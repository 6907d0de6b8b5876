/** The program of `reconnect-nodes.ts` on the user's host, and its orders. */
import { join } from 'node:path';
import { Seconds } from '../../src/base/time.js';
import { enrolCrowd } from '../../test/lab/enrolled.js';
import type { Host } from '../../test/lab/host.js';
import type { LabProcess } from '../../test/lab/process.js';
import { REPOSITORY } from '../../test/lab/services.js';
import type { ReconnectInput, ReconnectReport } from './reconnect-nodes.js';

/** Enough that no agent opens more channels than a relay allows one (ten a second). */
const AGENTS = 32;
/** For one order: what a machine needs that is busy with other things. */
const ORDER_LIMIT = Seconds(600);

export interface ReconnectPlaces {
  readonly host: Host;
  readonly group: string;
  readonly operatorFolder: string;
  readonly relayFolder: string;
}

export class Reconnects {
  readonly #process: LabProcess;
  #orders = 0;

  private constructor(started: LabProcess) {
    this.#process = started;
  }

  static async start(places: ReconnectPlaces, target: Omit<ReconnectInput, 'crowd' | 'overlay'>): Promise<Reconnects> {
    const { host, ...folders } = places;
    const { policyKey: _unused, ...crowd } = await enrolCrowd({ count: AGENTS, sharedKey: true, ...folders });
    const overlay = crowd.agents.map(({ overlay4 }) => overlay4);
    const loader = join(REPOSITORY, 'test', 'lab', 'typescript.mjs');
    const file = join(REPOSITORY, 'bench', 'soak', 'reconnect-nodes.ts');
    const started = host.spawn([process.execPath, '--import', loader, file], { interactive: true });
    const input: ReconnectInput = { crowd, overlay, ...target };
    started.write(`${JSON.stringify(input)}\n`);
    return new Reconnects(started);
  }

  /** So many agents come and go. */
  async run(count: number): Promise<ReconnectReport> {
    const index = this.#orders++;
    this.#process.write(`${count}\n`);
    const line = await this.#process.waitFor(`the end of ${count} reconnects`, { timeout: ORDER_LIMIT }, () =>
      this.#process.stdout.split('\n').slice(0, -1).at(index),
    );
    return JSON.parse(line) as ReconnectReport;
  }

  async stop(): Promise<void> {
    this.#process.write('end\n');
    await this.#process.exited;
  }
}
