/**
 * A series of end-to-end probes: sent one after the other at an interval, waited for together.
 *
 *   probe i:  pending ──answer──► RTT
 *                └──timeout, or long after what the others needed──► 0 (lost)
 *
 * Two things end it before the last timeout. Once the destination has answered, a probe is lost when it has been out much longer
 * than the slowest answer took. And where answers are ICMP errors (UDP), which hosts send at about one a second (RFC 1812 §4.3.2.8,
 * RFC 4443 §2.4 (f)), a series that falls silent after answers is given up, because what it would show is not loss.
 */
import { type Clock, type Duration, elapsed, type Instant, instantAt, later, Millis, toMillis } from '../base/time.js';

/** Answers that a probe's patience is measured by. */
const ENOUGH_ANSWERS = 3;
/** A probe is given this, and this many times the slowest RTT, before it is lost. */
const PATIENCE = Millis(500);
const PATIENCE_RTTS = 4;
/** The same for the suspicion that answers are limited: it costs a new series at worst. */
const SUSPICION = Millis(100);
/** Probes that are overdue at once, and their share of all sent, before answers count as limited. */
const OVERDUE_PROBES = 8;
const OVERDUE_SHARE = 0.2;
/** Timers fire late by a millisecond or more; as much as this is made good by sending faster. */
const CATCH_UP = Millis(20);

export interface EndSeriesOptions {
  readonly count: number;
  readonly interval: Duration;
  /** One probe: RTT in milliseconds, or 0. */
  readonly probe: (signal: AbortSignal) => Promise<number>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Answers are errors that the destination may limit. */
  readonly answersAreErrors: boolean;
  /** Every outcome as it is known; 0: lost. */
  readonly onProbe: (rtt: number) => void;
}

export interface EndSeriesResult {
  readonly rtts: readonly number[];
  /** The destination answers, but not at this rate: the series says nothing about loss. */
  readonly limited: boolean;
}

export class EndSeries {
  readonly #options: EndSeriesOptions;
  readonly #rtts: number[] = [];
  readonly #pending = new Map<AbortController, Instant>();
  #sent = 0;
  /** When the next probe leaves. */
  #due: Instant;
  #received = 0;
  #slowest = 0;
  #limited = false;
  #noted = false;
  #timer: NodeJS.Timeout | undefined;
  #finish: () => void = () => undefined;

  constructor(options: EndSeriesOptions) {
    this.#options = options;
    this.#due = options.clock.now();
  }

  /** Resolves when every probe has an outcome, or the series was given up or aborted. */
  async run(): Promise<EndSeriesResult> {
    const { signal, count } = this.#options;
    if (count > 0 && !signal.aborted) {
      await new Promise<void>((resolve) => {
        this.#finish = () => resolve();
        signal.addEventListener('abort', this.#finish, { once: true });
        this.#due = this.#options.clock.now();
        this.#tick();
      });
      signal.removeEventListener('abort', this.#finish);
    }
    this.#stop();
    return { rtts: this.#rtts, limited: this.#limited };
  }

  /** Somebody else has seen the destination answer after so many milliseconds. */
  noteAnswer(rtt: number): void {
    this.#slowest = Math.max(this.#slowest, rtt);
    this.#noted = true;
  }

  #tick(): void {
    const { count, interval, clock } = this.#options;
    const now = clock.now();
    this.#due = instantAt(Math.max(this.#due, now - CATCH_UP));
    for (; this.#sent < count && this.#due <= now; this.#due = later(this.#due, interval)) this.#send();
    this.#judge();
    if (this.#pending.size === 0 && this.#sent === count) this.#finish();
    else {
      const wait = this.#sent < count ? elapsed(now, this.#due) : interval;
      this.#timer = setTimeout(() => this.#tick(), toMillis(wait));
    }
  }

  #send(): void {
    const { clock, probe } = this.#options;
    const controller = new AbortController();
    this.#sent++;
    this.#pending.set(controller, clock.now());
    probe(controller.signal)
      .catch(() => 0)
      .then((rtt) => this.#settle(controller, rtt));
  }

  /** Nothing when the probe has been given up already. */
  #settle(controller: AbortController, rtt: number): void {
    if (!this.#pending.delete(controller)) return;
    if (rtt > 0) {
      this.#received++;
      this.#slowest = Math.max(this.#slowest, rtt);
    }
    this.#rtts.push(rtt);
    this.#options.onProbe(rtt);
    if (this.#pending.size === 0 && this.#sent === this.#options.count) this.#finish();
  }

  #judge(): void {
    const { answersAreErrors } = this.#options;
    if (answersAreErrors && this.#slowest > 0) {
      const overdue = this.#olderThan(SUSPICION).length;
      if (overdue >= OVERDUE_PROBES && overdue >= OVERDUE_SHARE * this.#sent) {
        this.#limited = true;
        this.#finish();
        return;
      }
    }
    if (this.#received < ENOUGH_ANSWERS && !this.#noted) return;
    for (const controller of this.#olderThan(PATIENCE)) {
      this.#settle(controller, 0);
      controller.abort();
    }
  }

  #olderThan(patience: Duration): AbortController[] {
    const now = this.#options.clock.now();
    const limit = patience + Millis(PATIENCE_RTTS * this.#slowest);
    return [...this.#pending].filter(([, sent]) => elapsed(sent, now) > limit).map(([controller]) => controller);
  }

  #stop(): void {
    clearTimeout(this.#timer);
    for (const controller of this.#pending.keys()) controller.abort();
    this.#pending.clear();
  }
}
