/** One download after the other until it is enough; each has to be whole. */
import type { Network } from '../../test/e2e/network.js';
import { Download } from '../../test/e2e/transfer.js';
import { webUrl } from './scene.js';

const BYTES = 20_000_000;
/** In curl's units. */
const RATE = '2M';

export class Downloads {
  readonly #network: Network;
  readonly #url: string;
  readonly #done: Promise<number>;
  #isOver = false;

  private constructor(network: Network, url: string, first: Download) {
    this.#network = network;
    this.#url = url;
    this.#done = this.#run(first);
    // Told by `stop`.
    this.#done.catch(() => undefined);
  }

  /** Resolves when the first is under way. */
  static async start(network: Network): Promise<Downloads> {
    const url = await webUrl(network);
    return new Downloads(network, url, await Download.start(network, url, BYTES, RATE));
  }

  /** Resolves with how many were whole, when the last is; rejects when one was not. */
  stop(): Promise<number> {
    this.#isOver = true;
    return this.#done;
  }

  async #run(first: Download): Promise<number> {
    let download = first;
    for (let whole = 1; ; whole++) {
      const outcome = await download.outcome();
      if (outcome !== 'complete') throw new Error(`download ${whole} is ${outcome}`);
      if (this.#isOver) return whole;
      download = await Download.start(this.#network, this.#url, BYTES, RATE);
    }
  }
}
