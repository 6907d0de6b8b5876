/**
 * How much one channel and one node may put through a relay: bytes and packets a second, each direction by itself. What exceeds
 * it is dropped and counted; the flows inside see loss and slow down.
 */
import { TokenBucket } from '../base/bucket.js';
import type { Instant } from '../base/time.js';

/** Per second; 0 = no limit. Bytes are those of the inner QUIC packets. */
export interface RateLimit {
  readonly bytes: number;
  readonly packets: number;
}

export interface RelayLimits {
  /** Each direction of one channel. */
  readonly channel: RateLimit;
  /** All that one agent sends, and all that is sent to it. */
  readonly agent: RateLimit;
  readonly connector: RateLimit;
}

const UNLIMITED: RateLimit = { bytes: 0, packets: 0 };
export const NO_LIMITS: RelayLimits = { channel: UNLIMITED, agent: UNLIMITED, connector: UNLIMITED };

/** What may pass at once, as a share of a second's: long enough for bursts of TCP, short enough that others' queues stay short. */
const BURST_SECONDS = 0.1;
/** The least that may pass at once: two of the largest runs the kernel coalesces (64 packets, 64 KiB). */
const LEAST_BURST_BYTES = 128 * 1024;
const LEAST_BURST_PACKETS = 128;

export class Meter {
  readonly #bytes: TokenBucket;
  readonly #packets: TokenBucket;

  /** A meter for this limit; undefined when it limits nothing. */
  static for(limit: RateLimit): Meter | undefined {
    return limit.bytes === 0 && limit.packets === 0 ? undefined : new Meter(limit);
  }

  private constructor(limit: RateLimit) {
    this.#bytes = bucket(limit.bytes, LEAST_BURST_BYTES);
    this.#packets = bucket(limit.packets, LEAST_BURST_PACKETS);
  }

  /** How many of `count` packets of `size` bytes may pass now. */
  room(now: Instant, count: number, size: number): number {
    return Math.max(
      0,
      Math.min(count, Math.floor(this.#packets.available(now)), Math.floor(this.#bytes.available(now) / size)),
    );
  }

  /** Counts packets that pass. */
  spend(now: Instant, packets: number, bytes: number): void {
    this.#packets.spend(now, packets);
    this.#bytes.spend(now, bytes);
  }
}

function bucket(rate: number, least: number): TokenBucket {
  if (rate === 0) return new TokenBucket(Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
  return new TokenBucket(rate, Math.max(rate * BURST_SECONDS, least));
}
