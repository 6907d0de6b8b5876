/**
 * Tail loss probe: when nothing has been acknowledged for two round trips, one segment goes out again (or a new one), so
 * that a loss at the end of a flight is found by SACK instead of the retransmission timer.
 *
 *   idle ──probe timer──► out until its end is acknowledged:
 *     new data ─► nothing more · DSACK, or a bare duplicate ─► needless · acknowledged beyond its end ─► it repaired a loss
 *
 * RFC 8985 §7.
 */
import { type Duration, Micros, Millis } from '../../base/time.js';
import { seqAfter, seqAtOrAfter } from './sequence.js';

/** How long a receiver may hold back the acknowledgement of a single segment (RFC 8985 §7.2's WCDelAckT). */
const LONGEST_ACK_DELAY = Millis(200);
/** A probe sooner than this would outrun the peer's timers. */
const SOONEST = Millis(10);

export class TailProbe {
  isOut = false;
  #end = 0;
  #copied = false;

  /** The probe has left; `end`: the number after it. `copied`: it was sent before. */
  sent(end: number, copied: boolean): void {
    this.isOut = true;
    this.#end = end;
    this.#copied = copied;
  }

  cancel(): void {
    this.isOut = false;
  }

  /** An acknowledgement up to `una`. True when the probe repaired a loss, to which congestion control has to react. */
  acknowledged(una: number, duplicateReported: boolean, bareDuplicate: boolean): boolean {
    if (!this.isOut || !seqAtOrAfter(una, this.#end)) return false;
    const repaired = this.#copied && !duplicateReported && seqAfter(una, this.#end);
    if (!this.#copied || duplicateReported || repaired || bareDuplicate) this.isOut = false;
    return repaired;
  }
}

/** How long after the last transmission a probe is due. `single`: one segment is outstanding, whose acknowledgement may be delayed. */
export function probeTimeout(smoothed: Duration, single: boolean): Duration {
  return Micros(Math.max(2 * smoothed + (single ? LONGEST_ACK_DELAY : 0), SOONEST));
}
