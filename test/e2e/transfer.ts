/**
 * A download that is under way while something happens: started slow enough to last, known to have begun, and waited for with
 * a limit that only a hang can reach.
 */
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Duration, Seconds } from '../../src/base/time.js';
import { type LabProcess, pollUntil } from '../lab/process.js';
import { contentHash } from '../lab/programs/content.mjs';
import { type Network, runCommand } from './network.js';

/** Exit codes of curl (curl(1), EXIT CODES). */
export const CURL = {
  done: 0,
  unresolved: 6,
  cannotConnect: 7,
  partialFile: 18,
  timedOut: 28,
  emptyReply: 52,
  receiveFailed: 56,
  proxyFailed: 97,
} as const;

const SEED = 11;
/** So much has arrived when a download counts as under way. */
const UNDER_WAY_BYTES = 2_000_000;
let serial = 0;

export type Outcome = 'complete' | 'broken';

export class Download {
  readonly #process: LabProcess;
  readonly #file: string;
  readonly #bytes: number;

  private constructor(network: Network, url: string, bytes: number, rate: string, client: readonly string[]) {
    this.#bytes = bytes;
    this.#file = join(network.folder, `download-${serial++}`);
    const argv = [
      'curl',
      '-sS',
      '--limit-rate',
      rate,
      ...client,
      '-o',
      this.#file,
      `${url}/bytes/${bytes}?seed=${SEED}`,
    ];
    this.#process = network.topology.user.spawn(argv);
  }

  /**
   * Starts a download on the user's machine from a server of `programs/http-server.mjs` at `url`.
   * @param rate bytes a second as curl wants them; resolves when some of it has arrived.
   */
  static async start(
    network: Network,
    url: string,
    bytes: number,
    rate: string,
    client: readonly string[] = [],
  ): Promise<Download> {
    const download = new Download(network, url, bytes, rate, client);
    await pollUntil('the download to be under way', () => {
      // First whether it runs: a process may write its last bytes and end between two looks.
      const { running } = download;
      if (download.arrived >= UNDER_WAY_BYTES) return true;
      if (!running) throw new Error(`the download ended at once: ${download.#process.stderr}`);
      return false;
    });
    return download;
  }

  get running(): boolean {
    return this.#process.running;
  }

  /** Bytes in the file now. */
  get arrived(): number {
    return existsSync(this.#file) ? statSync(this.#file).size : 0;
  }

  /** Resolves when more has arrived than now, or when it has ended: `outcome` tells how. */
  async progress(limit: Duration = Seconds(30)): Promise<void> {
    const before = this.arrived;
    await pollUntil('more of the download', () => this.arrived > before || !this.running, limit);
  }

  /**
   * How it ended: with every byte, or with an error of the connection. Rejects when it has not ended within `limit` (it hangs),
   * when curl says it is done and the bytes are others, and for any other error of curl.
   */
  async outcome(limit: Duration = Seconds(45)): Promise<Outcome> {
    await pollUntil('the download to end', () => !this.#process.running, limit);
    const { code } = await this.#process.exited;
    if (code === CURL.done) {
      const sum = await runCommand(['sha256sum', this.#file]);
      if (sum.stdout.slice(0, 64) !== contentHash(SEED, this.#bytes)) throw new Error('the download was altered');
      return 'complete';
    }
    if (code === CURL.receiveFailed || code === CURL.partialFile) return 'broken';
    throw new Error(`curl: exit code ${code}: ${this.#process.stderr}`);
  }

  /** Ends it; whoever started it wants no more. */
  async cancel(): Promise<void> {
    await this.#process.stop('SIGKILL');
  }
}
