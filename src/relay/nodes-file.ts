/**
 * The addresses of a relay's nodes on disk, for the case that the relay is killed: `nodes.json` in its folder.
 *
 *   [{"address": "192.0.2.7:50123", "local": "198.51.100.1:4433"}, …]
 *
 * It is only a hint (see `FormerNodes`): a file that is missing, old or broken costs the nodes some seconds.
 */
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { describeError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { type Duration, Seconds, toMillis } from '../base/time.js';
import { readJson, writeFile } from '../identity/files.js';
import { type FormerNode, MAX_FORMER_NODES } from './former-nodes.js';

/** Changes are written at most this often: a write is a few milliseconds of the main thread. */
const WRITE_INTERVAL: Duration = Seconds(2);
const NODES_FILE = 'nodes.json';

const address = v.pipe(v.string(), v.maxLength(60));
const NodesFile = v.pipe(v.array(v.object({ address, local: address })), v.maxLength(MAX_FORMER_NODES));

export class NodesFileWriter {
  readonly #path: string;
  readonly #log: Log;
  readonly #list: () => Promise<readonly FormerNode[]>;
  #timer: NodeJS.Timeout | undefined;
  #hasFailed = false;
  #isOver = false;

  /** @param list the nodes that are connected now. */
  constructor(dir: string, log: Log, list: () => Promise<readonly FormerNode[]>) {
    this.#path = join(dir, NODES_FILE);
    this.#log = log;
    this.#list = list;
  }

  /** Nodes have come, gone or moved. */
  changed(): void {
    if (this.#isOver) return;
    this.#timer ??= setTimeout(() => void this.#write(), toMillis(WRITE_INTERVAL)).unref();
  }

  /** Every node has been told that the relay stops: there is nothing to remember. */
  end(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
    rmSync(this.#path, { force: true });
  }

  async #write(): Promise<void> {
    this.#timer = undefined;
    try {
      const nodes = await this.#list();
      if (this.#isOver) return;
      writeFile(this.#path, JSON.stringify(nodes));
      this.#hasFailed = false;
    } catch (error) {
      if (!this.#hasFailed) this.#log.warn({ error: describeError(error) }, 'the nodes’ addresses could not be kept');
      this.#hasFailed = true;
    }
  }
}

/** The nodes of the process before this one; none when it said goodbye to all of them. */
export function readFormerNodes(dir: string, log: Log): FormerNode[] {
  const path = join(dir, NODES_FILE);
  if (!existsSync(path)) return [];
  try {
    return readJson(path, NodesFile);
  } catch (error) {
    log.warn({ error: describeError(error) }, 'nodes of the relay’s last run are not told that it is back');
    return [];
  }
}
