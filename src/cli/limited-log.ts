/**
 * The log of a role that others talk to: as the role's own, but nobody can fill the disk with it. Lines are limited by kind and peer
 * (`base/line-limits`), texts in them by length; what is left out is counted, and told in one line a minute per kind.
 *
 *   {"level":40, …, "kind":"link-refused","suppressed":1204,"mostOf":"mallory","msg":"lines suppressed"}
 */
import { LineLimits } from '../base/line-limits.js';
import type { Log } from '../base/log.js';
import { type Instant, Minutes, toMillis } from '../base/time.js';

/** How long after the first line left out they are told. */
const REPORT_AFTER = Minutes(1);
/** Characters of one text in a line: reasons and paths come from others. */
export const MAX_TEXT = 1000;
/** Fields that say who a line is about, in this order. */
const WHO = ['source', 'node', 'agent', 'connector', 'relay', 'service'] as const;

type Fields = Readonly<Record<string, unknown>>;

export class LimitedLog implements Log {
  readonly #log: Log;
  readonly #now: () => Instant;
  readonly #limits = new LineLimits();
  #timer: NodeJS.Timeout | undefined;

  constructor(log: Log, now: () => Instant) {
    this.#log = log;
    this.#now = now;
  }

  /** A role's status with `log.suppressed` among its counters; one without counters is left as it is. */
  addTo(status: { readonly counters?: Readonly<Record<string, number>> }): object {
    if (status.counters === undefined) return status;
    return { ...status, counters: { ...status.counters, 'log.suppressed': this.#limits.suppressed } };
  }

  /** Not limited: whoever asks for this level wants every line, and looks on. */
  debug(fields: object, message: string): void {
    this.#log.debug(fields, message);
  }

  info(fields: object, message: string): void {
    if (this.#take(fields, message)) this.#log.info(cut(fields), message);
  }

  warn(fields: object, message: string): void {
    if (this.#take(fields, message)) this.#log.warn(cut(fields), message);
  }

  error(fields: object, message: string): void {
    if (this.#take(fields, message)) this.#log.error(cut(fields), message);
  }

  /** Tells what was left out until now. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const { kind, lines, mostOf } of this.#limits.report()) {
      this.#log.warn({ kind, suppressed: lines, mostOf }, 'lines suppressed');
    }
  }

  #take(fields: object, message: string): boolean {
    const { code } = fields as Fields;
    // Texts of errors may name what a peer has sent; their codes are ours.
    const kind = typeof code === 'string' ? code : message;
    if (this.#limits.take(this.#now(), kind, whoIn(fields as Fields))) return true;
    this.#timer ??= setTimeout(() => this.close(), toMillis(REPORT_AFTER)).unref();
    return false;
  }
}

function whoIn(fields: Fields): string {
  for (const name of WHO) {
    const who = fields[name];
    if (typeof who === 'string') return who;
  }
  return '';
}

function cut(fields: object): object {
  const isLong = (value: unknown): value is string => typeof value === 'string' && value.length > MAX_TEXT;
  const entries = Object.entries(fields);
  if (!entries.some(([, value]) => isLong(value))) return fields;
  return Object.fromEntries(
    entries.map(([name, value]) => [name, isLong(value) ? `${value.slice(0, MAX_TEXT)}…` : value]),
  );
}
