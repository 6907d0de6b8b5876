/**
 * CUBIC congestion control: after a loss the window follows a cubic curve around the size at which the loss happened.
 *
 *   W_cubic(t) = C (t − K)³ + W_max        K = ∛((W_max − cwnd_epoch) / C)        in segments and seconds
 *   W_est grows like Reno's; the window is the larger of both; a loss multiplies it by β
 *
 * RFC 9438 §4.1–4.9.
 */
import { type Duration, type Instant, toSeconds } from '../../base/time.js';
import { type CongestionControl, initialWindow } from './congestion.js';
import { HyStart } from './hystart.js';

/** Segments per second cubed, RFC 9438 §5.1. */
const C = 0.4;
/** Multiplicative decrease, RFC 9438 §4.6. */
const BETA = 0.7;
/** Reno-friendly additive increase factor, RFC 9438 §4.3. */
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);

export class Cubic implements CongestionControl {
  window: number;
  threshold = Number.MAX_SAFE_INTEGER;
  readonly #slowStart = new HyStart();
  /** Window before the last reduction, segments; 0 before the first. */
  #wMax = 0;
  #k = 0;
  /** Start of the current congestion-avoidance stage, µs; −1 when a new one has to begin. */
  #epoch = -1;
  #wEst = 0;
  #cwndPrior = 0;
  // For undo.
  #undoWindow = 0;
  #undoThreshold = 0;
  #undoMax = 0;

  constructor(public segment: number) {
    this.window = initialWindow(segment);
  }

  acknowledged(now: Instant, acked: number, rtt: Duration): void {
    let left = acked;
    if (this.window < this.threshold) {
      const grow = Math.min(this.#slowStart.growth(left), this.threshold - this.window);
      this.window += grow;
      left = this.window < this.threshold ? 0 : left - grow;
    }
    if (left > 0) this.#avoid(now, left / this.segment, rtt);
  }

  lost(_now: Instant, flight: number): void {
    this.#reduce(flight);
  }

  timedOut(_now: Instant, flight: number): void {
    this.#reduce(flight);
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
    if (this.#undoWindow === 0) return;
    this.window = Math.max(this.window, this.#undoWindow);
    this.threshold = Math.max(this.threshold, this.#undoThreshold);
    this.#wMax = this.#undoMax;
    this.#epoch = -1;
    this.#undoWindow = 0;
  }

  restart(): void {
    this.window = Math.min(this.window, initialWindow(this.segment));
    this.#epoch = -1;
  }

  #avoid(now: Instant, ackedSegments: number, rtt: Duration): void {
    const cwnd = this.window / this.segment;
    if (this.#epoch < 0) {
      this.#epoch = now;
      this.#wEst = cwnd;
      if (this.#wMax < cwnd) {
        this.#wMax = cwnd;
        this.#k = 0;
      } else this.#k = Math.cbrt((this.#wMax - cwnd) / C);
    }
    const t = toSeconds((now - this.#epoch) as Duration);
    // α becomes 1 once the Reno estimate has regained the window before the reduction (RFC 9438 §4.3).
    this.#wEst += ((this.#wEst >= this.#cwndPrior ? 1 : ALPHA) * ackedSegments) / cwnd;
    const d = t - this.#k;
    if (C * d * d * d + this.#wMax < this.#wEst) {
      this.window = Math.max(this.window, this.#wEst * this.segment);
      return;
    }
    const ahead = d + toSeconds(rtt);
    const target = Math.min(Math.max(C * ahead * ahead * ahead + this.#wMax, cwnd), 1.5 * cwnd);
    this.window += ((target - cwnd) / cwnd) * ackedSegments * this.segment;
  }

  #reduce(flight: number): void {
    const cwnd = this.window / this.segment;
    this.#slowStart.finish();
    this.#undoWindow = this.window;
    this.#undoThreshold = this.threshold;
    this.#undoMax = this.#wMax;
    // Fast convergence: a flow that lost before regaining its old size leaves room for others (RFC 9438 §4.7).
    this.#wMax = cwnd < this.#wMax ? (cwnd * (1 + BETA)) / 2 : cwnd;
    this.#cwndPrior = cwnd;
    this.threshold = Math.max(flight * BETA, 2 * this.segment);
    this.#epoch = -1;
  }
}
