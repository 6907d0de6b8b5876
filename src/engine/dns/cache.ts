/**
 * Answers kept for as long as they say, and data for some time longer where that is wanted (stale.ts). "No such name" holds for every type of the name (RFC 2308 §5, RFC 8020); when the cache is full
 * the answer that was used longest ago goes.
 *
 *   name · type · DO · CD  →  answer           name · * · DO · CD  →  NXDOMAIN
 */
import { type Duration, elapsed, type Instant, instantAt, later, Seconds } from '../../base/time.js';
import type { DnsAnswer } from './answer.js';
import { RCODE } from './message.js';
import { isData, overdue, RECHECK_TIME, staleCopy } from './stale.js';

/** Answers kept at once. */
export const CACHE_ENTRIES = 4096;
/** Bytes kept at once: answers full of signatures must not take more than small ones would. */
export const CACHE_BYTES = 4 * 1024 * 1024;

/** What is asked, as far as it makes a difference for the answer. */
export interface DnsKey {
  readonly name: string;
  readonly type: number;
  readonly dnssec: boolean;
  readonly checkingDisabled: boolean;
}

export function keyText(key: DnsKey, type: number | '*' = key.type): string {
  return `${key.name} ${type} ${key.dnssec ? 1 : 0}${key.checkingDisabled ? 1 : 0}`;
}

interface Entry {
  readonly answer: DnsAnswer;
  /** Until then nobody is asked again, although its time is over. */
  pausedUntil: Instant;
}

const NEVER = instantAt(Number.NEGATIVE_INFINITY);

export class DnsCache {
  readonly #limit: number;
  readonly #staleTime: Duration;
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  /** @param staleTime how long data is kept after its time */
  constructor(limit = CACHE_ENTRIES, staleTime = Seconds(0)) {
    this.#limit = limit;
    this.#staleTime = staleTime;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** What may be answered without asking anybody. */
  get(now: Instant, key: DnsKey): DnsAnswer | undefined {
    return this.#use(now, keyText(key)) ?? this.#use(now, keyText(key, '*')) ?? this.#paused(now, key);
  }

  /** What may be answered because nobody else answers. From now on nobody is asked for a while. */
  stale(now: Instant, key: DnsKey): DnsAnswer | undefined {
    const entry = this.#staleEntry(now, key);
    if (entry === undefined) return undefined;
    entry.pausedUntil = later(now, RECHECK_TIME);
    return staleCopy(now, entry.answer);
  }

  hasStale(now: Instant, key: DnsKey): boolean {
    return this.#staleEntry(now, key) !== undefined;
  }

  put(key: DnsKey, answer: DnsAnswer): void {
    const text = keyText(key, answer.wholeName ? '*' : key.type);
    this.#remove(text);
    // What has been there before is not given again.
    if (answer.wholeName) this.#remove(keyText(key));
    if (answer.ttl <= 0) return;
    this.#entries.set(text, { answer, pausedUntil: NEVER });
    this.#bytes += sizeOf(answer);
    while (this.#entries.size > this.#limit || this.#bytes > CACHE_BYTES) {
      this.#remove(this.#entries.keys().next().value!);
    }
  }

  /** On another network names that did not exist may, and servers that failed may answer; what was true on the old one may not be. */
  onPathChange(now: Instant): void {
    for (const [text, { answer }] of this.#entries) {
      if (answer.negative || answer.rcode !== RCODE.NOERROR || overdue(now, answer) >= 0) this.#remove(text);
    }
  }

  #use(now: Instant, text: string): DnsAnswer | undefined {
    const entry = this.#entries.get(text);
    if (entry === undefined) return undefined;
    const { answer } = entry;
    const over = overdue(now, answer);
    if (over >= 0) {
      // A denial stands as long as what it denies might be given.
      if (over >= this.#staleTime || !(isData(answer) || answer.wholeName)) this.#remove(text);
      return undefined;
    }
    this.#entries.delete(text);
    this.#entries.set(text, entry);
    return answer;
  }

  #paused(now: Instant, key: DnsKey): DnsAnswer | undefined {
    const entry = this.#staleEntry(now, key);
    return entry !== undefined && now < entry.pausedUntil ? staleCopy(now, entry.answer) : undefined;
  }

  /** Data whose time is over, but not by too long, unless the name has been said not to exist since. */
  #staleEntry(now: Instant, key: DnsKey): Entry | undefined {
    const entry = this.#entries.get(keyText(key));
    if (entry === undefined || !isData(entry.answer) || overdue(now, entry.answer) >= this.#staleTime) return undefined;
    const denial = this.#entries.get(keyText(key, '*'));
    const isDenied = denial !== undefined && elapsed(entry.answer.receivedAt, denial.answer.receivedAt) >= 0;
    return isDenied ? undefined : entry;
  }

  #remove(text: string): void {
    const old = this.#entries.get(text);
    if (old === undefined) return;
    this.#bytes -= sizeOf(old.answer);
    this.#entries.delete(text);
  }
}

function sizeOf(answer: DnsAnswer): number {
  return answer.bytes?.length ?? 0;
}
