/**
 * Answers kept for as long as they say. "No such name" holds for every type of the name (RFC 2308 §5, RFC 8020); when the cache is full
 * the answer that was used longest ago goes.
 *
 *   name · type · DO · CD  →  answer           name · * · DO · CD  →  NXDOMAIN
 */
import { elapsed, type Instant } from '../../base/time.js';
import type { DnsAnswer } from './answer.js';
import { RCODE } from './message.js';

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

export class DnsCache {
  readonly #limit: number;
  readonly #entries = new Map<string, DnsAnswer>();
  #bytes = 0;

  constructor(limit = CACHE_ENTRIES) {
    this.#limit = limit;
  }

  get size(): number {
    return this.#entries.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(now: Instant, key: DnsKey): DnsAnswer | undefined {
    return this.#use(now, keyText(key)) ?? this.#use(now, keyText(key, '*'));
  }

  put(key: DnsKey, answer: DnsAnswer): void {
    if (answer.ttl <= 0) return;
    const text = keyText(key, answer.wholeName ? '*' : key.type);
    this.#remove(text);
    this.#entries.set(text, answer);
    this.#bytes += sizeOf(answer);
    while (this.#entries.size > this.#limit || this.#bytes > CACHE_BYTES) {
      this.#remove(this.#entries.keys().next().value!);
    }
  }

  /** On another network names that did not exist may, and servers that failed may answer. */
  dropNegative(): void {
    for (const [text, answer] of this.#entries) {
      if (answer.negative || answer.rcode !== RCODE.NOERROR) this.#remove(text);
    }
  }

  #use(now: Instant, text: string): DnsAnswer | undefined {
    const answer = this.#entries.get(text);
    if (answer === undefined) return undefined;
    if (elapsed(answer.receivedAt, now) >= answer.ttl) {
      this.#remove(text);
      return undefined;
    }
    this.#entries.delete(text);
    this.#entries.set(text, answer);
    return answer;
  }

  #remove(text: string): void {
    const old = this.#entries.get(text);
    if (old === undefined) return;
    this.#bytes -= sizeOf(old);
    this.#entries.delete(text);
  }
}

function sizeOf(answer: DnsAnswer): number {
  return answer.bytes?.length ?? 0;
}
