/**
 * Lines for the host's log: nothing below the level it asked for, a few a second of each message, and never a throw.
 *
 *   error   a bug of ours            warn    a hook that threw, settings that are surely not meant
 *   info    started, stopped, path   debug   flows       trace   every call between engine and host about connections
 */
import { TokenBucket } from '../base/bucket.js';
import { describeError } from '../base/error.js';
import type { Instant } from '../base/time.js';

export const ENGINE_LOG_LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const;
export type EngineLogLevel = (typeof ENGINE_LOG_LEVELS)[number];
export type LogFields = Readonly<Record<string, string | number>>;
/** The host's: `fields` never hold payload. */
export type EngineLog = (level: EngineLogLevel, message: string, fields: LogFields) => void;

/** Lines of one message a second, and at once. */
const RATE = 5;
const BURST = 50;

interface Limit {
  readonly bucket: TokenBucket;
  suppressed: number;
}

export class LogSink {
  readonly #log: EngineLog | undefined;
  readonly #rank: number;
  readonly #now: () => Instant;
  readonly #onError: () => void;
  /** By message: those are literals of ours, so there are few. */
  readonly #limits = new Map<string, Limit>();

  /** @param onError the host's log has thrown. */
  constructor(log: EngineLog | undefined, level: EngineLogLevel, now: () => Instant, onError: () => void) {
    this.#log = log;
    this.#rank = ENGINE_LOG_LEVELS.indexOf(level);
    this.#now = now;
    this.#onError = onError;
  }

  /** Whether lines of this level go anywhere: those that cost something to make are not made otherwise. */
  takes(level: EngineLogLevel): boolean {
    return this.#log !== undefined && ENGINE_LOG_LEVELS.indexOf(level) <= this.#rank;
  }

  write(level: EngineLogLevel, message: string, fields: LogFields = {}): void {
    if (!this.takes(level)) return;
    let limit = this.#limits.get(message);
    if (limit === undefined) {
      limit = { bucket: new TokenBucket(RATE, BURST), suppressed: 0 };
      this.#limits.set(message, limit);
    }
    if (!limit.bucket.take(this.#now())) {
      limit.suppressed++;
      return;
    }
    const { suppressed } = limit;
    limit.suppressed = 0;
    try {
      this.#log!(level, message, suppressed === 0 ? fields : { ...fields, suppressed });
    } catch {
      this.#onError();
    }
  }

  /** A hook, device or dialer of the host's has thrown. */
  threw(hook: string, error: unknown): void {
    this.write('warn', 'a hook has thrown', { hook, error: describeError(error) });
  }
}
