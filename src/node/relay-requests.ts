/**
 * Questions to a relay that wait for its answer, told apart by a number.
 *
 *   add ──► answer, refusal, no answer in 8 s, or the loss of the connection: `done`, exactly once
 */
import { type Duration, type Instant, later, Seconds } from '../base/time.js';
import type { FromRelay } from '../tunnel/messages.js';

/** A request without an answer is failed after this time. */
const TIMEOUT: Duration = Seconds(8);

/** What a request got: the answer, or the relay's refusal, or the loss of the connection. */
export type Answer =
  | { readonly ok: true; readonly message: FromRelay }
  | { readonly ok: false; readonly code: string; readonly message: string };

interface Request {
  readonly deadline: Instant;
  readonly done: (now: Instant, answer: Answer) => void;
}

export class RelayRequests {
  #next = 1;
  readonly #waiting = new Map<number, Request>();

  /** The number of the next request. */
  number(): number {
    return this.#next++;
  }

  add(now: Instant, id: number, done: Request['done']): void {
    this.#waiting.set(id, { deadline: later(now, TIMEOUT), done });
  }

  answered(now: Instant, id: number, message: FromRelay): void {
    const request = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (message.type === 'error') request?.done(now, { ok: false, code: message.code, message: message.message });
    else request?.done(now, { ok: true, message });
  }

  failAll(now: Instant, reason: string): void {
    const requests = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const request of requests) request.done(now, { ok: false, code: 'NO_RELAY', message: reason });
  }

  turn(now: Instant): void {
    for (const [id, request] of this.#waiting) {
      if (request.deadline > now) break;
      this.#waiting.delete(id);
      request.done(now, { ok: false, code: 'TIMEOUT', message: 'the relay did not answer' });
    }
  }

  nextTimeout(): Instant | undefined {
    return this.#waiting.values().next().value?.deadline;
  }
}
