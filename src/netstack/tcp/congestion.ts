/**
 * What a congestion controller is to a sender: a window in bytes and a slow-start threshold, told about acknowledgements
 * and losses. Recovery itself (what to resend, how fast) is the sender's: see recovery.ts.
 *
 * RFC 5681, RFC 6928 (initial window), RFC 3465 (byte counting). A controller that models the path (BBR) is told of every delivery.
 */
import type { Duration, Instant } from '../../base/time.js';
import type { DeliveryRate } from './delivery-rate.js';

export type CongestionAlgorithm = 'cubic' | 'newreno' | 'bbr';

export interface CongestionControl {
  /** Congestion window, bytes. During recovery the sender sets it (PRR). */
  window: number;
  /** Slow-start threshold, bytes. */
  threshold: number;
  /** Bytes of one full segment. */
  segment: number;
  /** `acked` new bytes were acknowledged outside recovery while the window was the limit. */
  acknowledged(now: Instant, acked: number, rtt: Duration): void;
  /** A round trip was measured, µs, by an acknowledgement up to `una` while numbers up to `nxt` were out. Comes before `acknowledged`. */
  measured(rtt: number, una: number, nxt: number): void;
  /** It models the path: it sets the window in recovery too, and wants `sampled`. */
  readonly isModel?: boolean;
  /** Bytes per µs at which to send; 0 or absent = as the window allows. */
  readonly pacing?: number;
  /** An acknowledgement delivered `bytes`, showed `lost` more to be lost and left `pipe` in flight; `rtt` µs, −1 = not measured. */
  sampled?(now: Instant, sample: DeliveryRate, bytes: number, lost: number, pipe: number, rtt: number): void;
  /** The network marked packets with `bytes` in all instead of dropping them. Only for models: others are told `lost`. */
  marked?(bytes: number): void;
  /** A recovery is over. */
  recovered?(): void;
  /** A loss was detected with `flight` bytes outstanding: sets the threshold (not the window). */
  lost(now: Instant, flight: number): void;
  /** The retransmission timer expired: sets threshold and window (one segment). */
  timedOut(now: Instant, flight: number): void;
  /** Takes back the last reduction: the timeout was spurious. */
  undo(): void;
  /** The connection was idle longer than its timeout: the window falls back to the initial one (RFC 5681 §4.1). */
  restart(): void;
}

/** min(10 · SMSS, max(2 · SMSS, 14600)), RFC 6928 §2. */
export const initialWindow = (segment: number): number => Math.min(10 * segment, Math.max(2 * segment, 14_600));
