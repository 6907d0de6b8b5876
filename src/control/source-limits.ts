/**
 * A token bucket per source address, in bounded memory: an IPv6 source is its /64, and when the table is full the source
 * heard longest ago is forgotten.
 */
import { IpAddress, Prefix } from '../base/address.js';
import { TokenBucket } from '../base/bucket.js';
import type { Instant } from '../base/time.js';

/** Requests per second and at once: a site of nodes behind one NAT may start together, a guesser gets nowhere. */
const RATE = 2;
const BURST = 20;
const MAX_SOURCES = 4096;

export class SourceLimits {
  /** In order of last use. */
  readonly #buckets = new Map<string, TokenBucket>();

  take(now: Instant, source: string): boolean {
    const key = keyOf(source);
    const bucket = this.#buckets.get(key) ?? new TokenBucket(RATE, BURST);
    this.#buckets.delete(key);
    this.#buckets.set(key, bucket);
    if (this.#buckets.size > MAX_SOURCES) {
      const oldest = this.#buckets.keys().next();
      if (oldest.done !== true) this.#buckets.delete(oldest.value);
    }
    return bucket.take(now);
  }
}

/** Who asks, as text; IPv4 in its own form also where one socket takes both families. */
export function sourceOf({ socket }: { readonly socket: { readonly remoteAddress?: string | undefined } }): string {
  return (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
}

/** One subscriber has a whole /64 (RFC 6177 §2). */
function keyOf(source: string): string {
  const ip = IpAddress.parse(source.split('%', 1)[0]!);
  if (ip === undefined || ip.isV4) return ip?.toString() ?? source;
  return `${Prefix.of(ip, 64)}`;
}
