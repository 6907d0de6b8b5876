/**
 * Gives the events of flows to whoever listens, at the end of a turn:
 *
 *   stream ─ at most 256 a turn ─► hook (a batch; one that throws is counted)
 *                              └─► log, level debug (a few lines a second; how many were held back goes out with the next line)
 */
import { TokenBucket } from '../../base/bucket.js';
import type { Instant } from '../../base/time.js';
import type { EventStream, FlowEvent } from './events.js';

/** Events told in one turn: making lines of more would hold packets up. */
const EVENTS_PER_TURN = 256;
/** Lines a second, and at once: enough to follow one program by, too few to cost a busy host anything. */
const LOG_RATE = 5;
const LOG_BURST = 50;

export interface EventListener {
  readonly onEvents?: ((events: readonly FlowEvent[], dropped: number) => void) | undefined;
  readonly log?: ((message: string, fields: Readonly<Record<string, string | number>>) => void) | undefined;
  /** The hook has thrown. */
  readonly onError: (error: unknown) => void;
}

export class EventTeller {
  readonly #stream: EventStream;
  readonly #listener: EventListener;
  readonly #lines = new TokenBucket(LOG_RATE, LOG_BURST);
  #suppressed = 0;

  constructor(stream: EventStream, listener: EventListener) {
    this.#stream = stream;
    this.#listener = listener;
  }

  /** Tells what waits, as much as is a turn's share; false: more waits. */
  tell(now: Instant): boolean {
    if (this.#stream.length === 0) return true;
    const { events, dropped } = this.#stream.take(EVENTS_PER_TURN);
    try {
      this.#listener.onEvents?.(events, dropped);
    } catch (error) {
      this.#listener.onError(error);
    }
    if (this.#listener.log !== undefined) for (const event of events) this.#line(now, event);
    this.#suppressed += dropped;
    return this.#stream.length === 0;
  }

  #line(now: Instant, { at: _at, kind, ...fields }: FlowEvent): void {
    if (!this.#lines.take(now)) {
      this.#suppressed++;
      return;
    }
    const told = Object.entries(fields).filter(([, value]) => value !== '' && value !== undefined);
    if (this.#suppressed > 0) told.push(['suppressed', this.#suppressed]);
    this.#suppressed = 0;
    this.#listener.log?.(`flow ${kind}`, Object.fromEntries(told));
  }
}
