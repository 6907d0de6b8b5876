/**
 * Events between a run and who reads them. A hop's newer event takes the place of one that was not read yet, so that a slow
 * reader costs at most one entry per TTL.
 *
 *   push … push ─► [start, hop 1, hop 2, …] ─► next();     end() or fail() ─► what is left, then the end or the error
 */
import type { TraceEvent } from '../types.js';

export class EventQueue {
  #events: TraceEvent[] = [];
  #ended = false;
  #error: unknown;
  #wake: (() => void) | undefined;

  push(event: TraceEvent): void {
    if (this.#ended) return;
    const { hop } = event.kind === 'hop' ? event : {};
    const at = hop === undefined ? -1 : this.#events.findIndex((one) => one.kind === 'hop' && one.hop.ttl === hop.ttl);
    if (at >= 0) this.#events[at] = event;
    else this.#events.push(event);
    this.#wake?.();
  }

  end(): void {
    this.#ended = true;
    this.#wake?.();
  }

  fail(error: unknown): void {
    if (this.#ended) return;
    this.#error = error;
    this.end();
  }

  /** Everything pushed, as it comes; throws what `fail` was given. For one reader. */
  async *read(): AsyncGenerator<TraceEvent> {
    for (;;) {
      const ready = this.#events;
      this.#events = [];
      yield* ready;
      if (this.#events.length > 0) continue;
      if (this.#ended) {
        if (this.#error !== undefined) throw this.#error;
        return;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
  }
}
