/**
 * Whether QUIC has lately lost enough packets of a link to suspect it: at least two in a second and one in a hundred, on a
 * path that is not merely full. What gets lost while the round trip has grown is congestion, and copies would double it.
 *
 *   second   │ 100 ms │ 100 ms │ … ten buckets of [sent, lost]
 */
import { type Duration, type Instant, Millis, scale } from '../../base/time.js';

/** What a connection tells about itself; `ConnectionStats` of the QUIC floor is one. */
export interface LinkFigures {
  readonly rtt: Duration;
  readonly minRtt: Duration;
  readonly packetsSent: number;
  readonly packetsLost: number;
}

const BUCKETS = 10;
const BUCKET: Duration = Millis(100);
/** Losses in a second that are no accident any more. */
const MIN_LOSSES = 2;
/** Below this share a flow that probes for bandwidth is the likely cause (RFC 5681 §3: a loss per window). */
const MIN_SHARE = 0.01;
/** A round trip above this many of the least one, and some, is a queue. */
const QUEUE_FACTOR = 2;
const QUEUE_SLACK: Duration = Millis(20);

/** Packets of a second from which a share can be told. */
const MIN_PACKETS = 16;

export class LossAlarm {
  readonly #sent = new Float64Array(BUCKETS);
  readonly #lost = new Float64Array(BUCKETS);
  #bucket = 0;
  #totalSent = 0;
  #totalLost = 0;
  #isFirst = true;
  #isCongested = false;

  /** The link is in use from now on: what it lost before tells nothing. */
  reset(): void {
    this.#isFirst = true;
    this.#sent.fill(0);
    this.#lost.fill(0);
  }

  /** Takes the figures of now; to be called every few tens of milliseconds while the link is in use. */
  note(now: Instant, figures: LinkFigures): void {
    this.#advance(Math.floor(now / BUCKET));
    if (!this.#isFirst) {
      const slot = this.#bucket % BUCKETS;
      this.#sent[slot]! += figures.packetsSent - this.#totalSent;
      this.#lost[slot]! += figures.packetsLost - this.#totalLost;
    }
    this.#isFirst = false;
    this.#totalSent = figures.packetsSent;
    this.#totalLost = figures.packetsLost;
    this.#isCongested = figures.rtt > scale(figures.minRtt, QUEUE_FACTOR) + QUEUE_SLACK;
  }

  isRinging(now: Instant): boolean {
    if (this.#isFirst || this.#isCongested) return false;
    this.#advance(Math.floor(now / BUCKET));
    const lost = sum(this.#lost);
    return lost >= MIN_LOSSES && lost >= sum(this.#sent) * MIN_SHARE;
  }

  /** Share of the last second's packets that was lost while the path was not full; 0 when there were few. */
  share(now: Instant): number {
    if (this.#isFirst || this.#isCongested) return 0;
    this.#advance(Math.floor(now / BUCKET));
    const sent = sum(this.#sent);
    return sent < MIN_PACKETS ? 0 : sum(this.#lost) / sent;
  }

  #advance(bucket: number): void {
    if (bucket <= this.#bucket) return;
    const stale = Math.min(BUCKETS, bucket - this.#bucket);
    for (let i = 1; i <= stale; i++) {
      const slot = (this.#bucket + i) % BUCKETS;
      this.#sent[slot] = 0;
      this.#lost[slot] = 0;
    }
    if (stale === BUCKETS) {
      this.#sent.fill(0);
      this.#lost.fill(0);
    }
    this.#bucket = bucket;
  }
}

function sum(buckets: Float64Array): number {
  let total = 0;
  for (let i = 0; i < BUCKETS; i++) total += buckets[i]!;
  return total;
}
