/**
 * What a running node writes to its state folder: now, or as soon as that is possible again.
 *
 *   save ──done──► on disk        save ──failed (full disk)──► in use from memory ──every 5 s──► on disk
 */
import { describeError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { type Duration, Seconds, toMillis } from '../base/time.js';

/** What could not be written is tried again this often. */
const SAVE_RETRY: Duration = Seconds(5);

export class StateWriter {
  readonly #log: Log;
  /** By what it is: a newer value replaces one that could not be written. */
  readonly #unsaved = new Map<string, () => void>();
  #timer: NodeJS.Timeout | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Runs `save`, now or later. */
  save(what: string, save: () => void): void {
    try {
      save();
      this.#unsaved.delete(what);
    } catch (error) {
      this.failed(what, save, error);
    }
  }

  /** `save` has been tried and failed. */
  failed(what: string, save: () => void, error: unknown): void {
    const isNew = !this.#unsaved.has(what);
    this.#unsaved.set(what, save);
    if (isNew) this.#log.error({ error: describeError(error) }, `the new ${what} is in use but not on disk`);
    this.#timer ??= setInterval(() => this.#retry(), toMillis(SAVE_RETRY)).unref();
  }

  #retry(): void {
    for (const [what, save] of this.#unsaved) {
      try {
        save();
      } catch {
        continue;
      }
      this.#unsaved.delete(what);
      this.#log.info({}, `the new ${what} is on disk now`);
    }
    if (this.#unsaved.size === 0) this.stop();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
