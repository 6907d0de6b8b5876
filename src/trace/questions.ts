/**
 * Questions to name servers, asked once each: answers are kept, equal questions under way share one answer, only so many are out at
 * a time, and each has a time limit. Failures are no answers and are not kept.
 */
import { type Clock, type Duration, Hours, Seconds, toMillis } from '../base/time.js';
import { ExpiringCache } from './cache.js';

/** As datadog-traceroute waits and keeps. */
const TIME_LIMIT = Seconds(5);
const LIFETIME = Hours(1);
/** Answers kept: a hundred bytes or so each. */
const CAPACITY = 4096;
/** Questions out at once: name servers of small networks drop bursts. */
const CONCURRENT = 32;
/** Questions that wait for their turn; more get no answer. */
const WAITING = 4096;

export interface QuestionsOptions<T> {
  /** Rejects when there is no answer. */
  readonly ask: (question: string) => Promise<T>;
  readonly clock: Clock;
  readonly timeLimit?: Duration;
  readonly concurrent?: number;
}

export class Questions<T> {
  readonly #ask: (question: string) => Promise<T>;
  readonly #cache: ExpiringCache<string, T>;
  readonly #timeLimit: Duration;
  readonly #concurrent: number;
  readonly #out = new Map<string, Promise<T | undefined>>();
  readonly #waiting: (() => void)[] = [];
  #asking = 0;

  constructor(options: QuestionsOptions<T>) {
    this.#ask = options.ask;
    this.#cache = new ExpiringCache(LIFETIME, CAPACITY, options.clock);
    this.#timeLimit = options.timeLimit ?? TIME_LIMIT;
    this.#concurrent = options.concurrent ?? CONCURRENT;
  }

  /** Undefined when there is no answer; never rejects. */
  answer(question: string): Promise<T | undefined> {
    const known = this.#cache.get(question);
    if (known !== undefined) return Promise.resolve(known);
    const shared = this.#out.get(question);
    if (shared !== undefined) return shared;
    if (this.#waiting.length >= WAITING) return Promise.resolve(undefined);
    const asked = this.#inTurn(question).finally(() => this.#out.delete(question));
    this.#out.set(question, asked);
    return asked;
  }

  async #inTurn(question: string): Promise<T | undefined> {
    if (this.#asking >= this.#concurrent) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#asking++;
    try {
      const answer = await within(this.#ask(question), this.#timeLimit);
      if (answer !== undefined) this.#cache.set(question, answer);
      return answer;
    } catch {
      return undefined;
    } finally {
      // The turn goes to the next one waiting, if there is one.
      const next = this.#waiting.shift();
      if (next === undefined) this.#asking--;
      else next();
    }
  }
}

/** Undefined when the promise takes longer. */
function within<T>(promise: Promise<T>, limit: Duration): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve(undefined), toMillis(limit));
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
