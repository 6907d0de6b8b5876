/**
 * NewReno congestion control: slow start by bytes acknowledged (at most two segments an acknowledgement beyond what a
 * batch covers), then one segment a round trip.
 *
 * RFC 5681 §3.1, RFC 3465, RFC 6582 (recovery is in recovery.ts).
 */
import type { Duration, Instant } from '../../base/time.js';
import { type CongestionControl, initialWindow } from './congestion.js';
import { HyStart } from './hystart.js';

export class NewReno implements CongestionControl {
  window: number;
  threshold = Number.MAX_SAFE_INTEGER;
  readonly #slowStart = new HyStart();
  #credit = 0;
  #priorWindow = 0;
  #priorThreshold = 0;

  constructor(public segment: number) {
    this.window = initialWindow(segment);
  }

  acknowledged(_now: Instant, acked: number, _rtt: Duration): void {
    let left = acked;
    if (this.window < this.threshold) {
      const grow = Math.min(this.#slowStart.growth(left), this.threshold - this.window);
      this.window += grow;
      left = this.window < this.threshold ? 0 : left - grow;
    }
    if (left <= 0) return;
    this.#credit += left;
    if (this.#credit >= this.window) {
      this.#credit -= this.window;
      this.window += this.segment;
    }
  }

  lost(_now: Instant, flight: number): void {
    this.#remember();
    this.#slowStart.finish();
    this.threshold = Math.max(flight / 2, 2 * this.segment);
    this.#credit = 0;
  }

  timedOut(now: Instant, flight: number): void {
    this.lost(now, flight);
    this.window = this.segment;
  }

  measured(rtt: number, una: number, nxt: number): void {
    const slow = this.#slowStart;
    if (slow.isOver) return;
    slow.measured(rtt, una, nxt);
    // Read again: that may have ended it.
    if (this.#slowStart.isOver && this.window < this.threshold) this.threshold = this.window;
  }

  undo(): void {
    if (this.#priorWindow === 0) return;
    this.window = Math.max(this.window, this.#priorWindow);
    this.threshold = Math.max(this.threshold, this.#priorThreshold);
    this.#priorWindow = 0;
  }

  restart(): void {
    this.window = Math.min(this.window, initialWindow(this.segment));
  }

  #remember(): void {
    this.#priorWindow = this.window;
    this.#priorThreshold = this.threshold;
  }
}
