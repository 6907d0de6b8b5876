/**
 * Who may trace now: so many at once, so many more wait their turn, the others are turned away.
 *
 *   enter ──room──► running ──leave──► the next one waiting
 *     ├── queue has room ──► waiting ──aborted──► gone
 *     └── full ──► refused
 */
export class Admission {
  readonly #concurrency: number;
  readonly #queue: number;
  readonly #waiting = new Set<() => void>();
  #running = 0;

  /** @param queue requests that may wait, ≥ 0 */
  constructor(concurrency: number, queue: number) {
    this.#concurrency = concurrency;
    this.#queue = queue;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** False: there is no room, or `signal` was aborted before it was this one's turn. True: to be followed by `leave`. */
  async enter(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return false;
    if (this.#running < this.#concurrency) {
      this.#running++;
      return true;
    }
    if (this.#waiting.size >= this.#queue) return false;
    return await new Promise<boolean>((resolve) => {
      const turn = (): void => {
        signal.removeEventListener('abort', gone);
        resolve(true);
      };
      const gone = (): void => {
        this.#waiting.delete(turn);
        resolve(false);
      };
      this.#waiting.add(turn);
      signal.addEventListener('abort', gone, { once: true });
    });
  }

  /** The place goes straight to who has waited longest. */
  leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#running--;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
