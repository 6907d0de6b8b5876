/**
 * BBR: sends at the rate at which the path was seen to deliver and keeps little more in flight than the path holds, whatever
 * is lost at random on the way.
 *
 *   Startup ──rate no longer grows by ¼ in 3 rounds──► Drain ──flight ≤ path──► ProbeBW: ¼ more, ¼ less, six rounds as it is
 *      any ──least round trip not seen for 10 s──► ProbeRTT: half the path for 200 ms ──► ProbeBW, or Startup
 *
 *   path = greatest rate of 10 rounds · least round trip of 10 s        pacing = gain · rate        window = gain · path + bursts
 *
 * draft-ietf-ccwg-bbr §4–5; the cycle of ProbeBW and the lack of a reaction to single losses are those of its first version
 * (draft-cardwell-iccrg-bbr-congestion-control-00 §4.3), which deployed kernels have.
 */
import type { Instant } from '../../base/time.js';
import { type CongestionControl, initialWindow } from './congestion.js';
import type { DeliveryRate } from './delivery-rate.js';
import { MaxFilter } from './max-filter.js';
import { Pacer } from './pacer.js';

/** 4 ln 2, and its inverse: the least gain that doubles the rate each round (draft-ietf-ccwg-bbr §5.3.1). */
const STARTUP_GAIN = 2.77;
const DRAIN_GAIN = 0.35;
const WINDOW_GAIN = 2;
const CYCLE = [1.25, 0.75, 1, 1, 1, 1, 1, 1] as const;
/** A little below the rate, so that a queue never builds from rounding (§2.5). */
const MARGIN = 0.99;
const RATE_ROUNDS = 10;
/** How long the least round trip counts, and how long the flight is held low to see it again, µs. */
const LEAST_SPAN = 10_000_000;
const PROBE_SPAN = 200_000;
/** So close to the least round trip there is no queue to be waited out: it has been seen again. */
const SAME = 1.01;
const PROBE_GAIN = 0.5;
const LEAST_SEGMENTS = 4;
/** Bursts that acknowledgements in clumps may hold back. §5.6.4.2 adds three send quanta; of many flows in a small queue they fill it. */
const BURSTS = 2;
/** Startup ends after so many rounds without growth by this factor. */
const FULL_ROUNDS = 3;
const GROWTH = 1.25;
/** Startup also ends when so much of a round is lost: far more than a lossy path loses by itself, less than an overflow. */
const STARTUP_LOSS = 0.2;
/** … and so many segments at least: three of a first window of ten are bad luck, not an overflow (§5.3.1.3 asks for six losses). */
const STARTUP_LOSSES = 16;
/** What a round with marks leaves of the window until the next time more is tried (the 0.85 of RFC 8511 for CUBIC). */
const MARK_FACTOR = 0.85;

const Mode = { startup: 0, drain: 1, probeBw: 2, probeRtt: 3 } as const;

export class Bbr implements CongestionControl {
  readonly isModel = true;
  window: number;
  threshold = Number.MAX_SAFE_INTEGER;
  pacing = 0;
  #mode: number = Mode.startup;
  #gain = STARTUP_GAIN;
  #windowGain = STARTUP_GAIN;
  readonly #rates = new MaxFilter(RATE_ROUNDS);
  /** How much more than the rate tells came at once. */
  readonly #clumps = new MaxFilter(RATE_ROUNDS);
  #clumpSince = -1;
  #clumpBytes = 0;
  #round = 0;
  #roundLost = 0;
  #roundDelivered = 0;
  #roundEnd = 0;
  #fullRate = 0;
  #fullRounds = 0;
  #isFull = false;
  #phase = 0;
  #phaseAt = 0;
  #least = Number.POSITIVE_INFINITY;
  #leastAt = 0;
  #probeUntil = -1;
  #probeRound = 0;
  #idle = false;
  #lostInPhase = false;
  #before = 0;
  /** The window's bound since the network marked packets, and the round of the last mark. */
  #ceiling = Number.POSITIVE_INFINITY;
  #markedRound = -1;

  constructor(public segment: number) {
    this.window = initialWindow(segment);
  }

  sampled(now: Instant, sample: DeliveryRate, bytes: number, lost: number, pipe: number, rtt: number): void {
    const newRound = sample.prior >= this.#roundEnd;
    this.#roundLost += lost;
    this.#roundDelivered += bytes;
    if (newRound) {
      this.#roundEnd = sample.delivered;
      this.#round++;
    }
    if (sample.rate > 0 && (!sample.limited || sample.rate >= this.#rates.value)) {
      this.#rates.update(this.#round, sample.rate);
    }
    if (rtt >= 0) this.#leastRoundTrip(now, rtt, sample, pipe);
    this.#clump(now, bytes);
    if (newRound) {
      if (!this.#isFull) this.#checkFull(sample.limited);
      this.#roundLost = 0;
      this.#roundDelivered = 0;
    }
    this.#advance(now, pipe);
    this.#probeRoundTrip(now, sample, pipe);
    this.#idle = false;
    this.#pace(rtt);
    this.#size(bytes, sample.delivered);
  }

  acknowledged(): void {}

  measured(): void {}

  lost(_now: Instant, _flight: number): void {
    this.#lostInPhase = true;
    this.#before = Math.max(this.#before, this.window);
  }

  /** A queue builds up: no more is tried in this phase, less is in flight. In start-up marks count as losses do. */
  marked(bytes: number): void {
    this.#lostInPhase = true;
    this.#roundLost += bytes;
    if (!this.#isFull || this.#markedRound === this.#round) return;
    this.#markedRound = this.#round;
    this.#ceiling = Math.min(this.#ceiling, this.window) * MARK_FACTOR;
  }

  timedOut(_now: Instant, _flight: number): void {
    this.#before = Math.max(this.#before, this.window);
    this.window = this.segment;
  }

  recovered(): void {
    this.window = Math.max(this.window, this.#before);
    this.#before = 0;
  }

  undo(): void {
    this.recovered();
  }

  restart(): void {
    this.#idle = true;
    if (this.#mode === Mode.probeBw) this.pacing = MARGIN * this.#rates.value;
  }

  /** What the path holds, times `gain`, in bytes. */
  #path(gain: number): number {
    if (this.#least === Number.POSITIVE_INFINITY) return gain * initialWindow(this.segment);
    return gain * this.#rates.value * this.#least;
  }

  #target(gain: number): number {
    const burst = Pacer.burst(this.pacing, this.segment);
    return Math.max(this.#path(gain) + BURSTS * burst, LEAST_SEGMENTS * this.segment);
  }

  /** Acknowledgements in clumps: what came beyond rate · time may come again, and must not stop the sender (§5.6.4.2). */
  #clump(now: Instant, bytes: number): void {
    const expected = this.#clumpSince < 0 ? 0 : (now - this.#clumpSince) * this.#rates.value;
    if (this.#clumpSince < 0 || this.#clumpBytes <= expected) {
      this.#clumpSince = now;
      this.#clumpBytes = 0;
    }
    this.#clumpBytes += bytes;
    const passed = (now - this.#clumpSince) * this.#rates.value;
    this.#clumps.update(this.#round, Math.min(Math.max(this.#clumpBytes - passed, 0), this.window));
  }

  #checkFull(limited: boolean): void {
    const most = Math.max(STARTUP_LOSS * (this.#roundLost + this.#roundDelivered), STARTUP_LOSSES * this.segment);
    if (this.#roundLost > most) this.#isFull = true;
    if (limited) return;
    if (this.#rates.value >= this.#fullRate * GROWTH) {
      this.#fullRate = this.#rates.value;
      this.#fullRounds = 0;
      return;
    }
    if (++this.#fullRounds >= FULL_ROUNDS) this.#isFull = true;
  }

  #advance(now: Instant, pipe: number): void {
    if (this.#mode === Mode.startup && this.#isFull) {
      this.#mode = Mode.drain;
      this.#gain = DRAIN_GAIN;
    }
    if (this.#mode === Mode.drain && pipe <= this.#path(1)) this.#enterProbeBw(now);
    if (this.#mode !== Mode.probeBw) return;
    const whole = now - this.#phaseAt > this.#least;
    let over = whole;
    if (this.#gain > 1) over = whole && (this.#lostInPhase || pipe >= this.#path(this.#gain));
    else if (this.#gain < 1) over = whole || pipe <= this.#path(1);
    if (over) this.#enterPhase(now, (this.#phase + 1) % CYCLE.length);
  }

  #enterProbeBw(now: Instant): void {
    this.#mode = Mode.probeBw;
    this.#windowGain = WINDOW_GAIN;
    // Flows that begin together should not probe together; any phase but the draining one (§4.3.4.2 of the first version).
    const chosen = Math.floor(now / 64) % (CYCLE.length - 1);
    this.#enterPhase(now, chosen === 0 ? 0 : chosen + 1);
  }

  #enterPhase(now: Instant, phase: number): void {
    this.#phase = phase;
    this.#phaseAt = now;
    this.#gain = CYCLE[phase];
    this.#lostInPhase = false;
    if (this.#gain > 1) this.#ceiling = Number.POSITIVE_INFINITY;
  }

  #leastRoundTrip(now: Instant, rtt: number, sample: DeliveryRate, pipe: number): void {
    const expired = now - this.#leastAt > LEAST_SPAN && this.#leastAt > 0;
    if (rtt <= this.#least || expired) {
      this.#least = Math.max(rtt, 1);
      this.#leastAt = now;
    } else if (rtt <= this.#least * SAME) this.#leastAt = now;
    if (!expired || this.#idle || this.#mode === Mode.probeRtt) return;
    this.#mode = Mode.probeRtt;
    this.#gain = 1;
    this.#probeUntil = -1;
    this.#before = Math.max(this.#before, this.window);
    sample.limitedByOthers(pipe);
  }

  #probeRoundTrip(now: Instant, sample: DeliveryRate, pipe: number): void {
    if (this.#mode !== Mode.probeRtt) return;
    sample.limitedByOthers(pipe);
    if (this.#probeUntil < 0) {
      if (pipe > this.#probeWindow()) return;
      this.#probeUntil = now + PROBE_SPAN;
      this.#probeRound = this.#round;
      return;
    }
    if (now < this.#probeUntil || this.#round <= this.#probeRound) return;
    this.#leastAt = now;
    this.recovered();
    if (this.#isFull) this.#enterProbeBw(now);
    else {
      this.#mode = Mode.startup;
      this.#gain = STARTUP_GAIN;
      this.#windowGain = STARTUP_GAIN;
    }
  }

  #probeWindow(): number {
    return Math.max(this.#path(PROBE_GAIN), LEAST_SEGMENTS * this.segment);
  }

  #pace(rtt: number): void {
    if (this.#rates.value === 0) {
      if (rtt > 0) this.pacing = (STARTUP_GAIN * initialWindow(this.segment)) / Math.max(rtt, 1000);
      return;
    }
    const rate = this.#gain * this.#rates.value * MARGIN;
    if (this.#isFull || rate > this.pacing) this.pacing = rate;
  }

  #size(bytes: number, delivered: number): void {
    const target = this.#target(this.#windowGain) + (this.#isFull ? this.#clumps.value : 0);
    if (this.#isFull) this.window = Math.min(this.window + bytes, target);
    else if (this.window < target || delivered < initialWindow(this.segment)) this.window += bytes;
    this.window = Math.max(Math.min(this.window, this.#ceiling), LEAST_SEGMENTS * this.segment);
    if (this.#mode === Mode.probeRtt) this.window = Math.min(this.window, this.#probeWindow());
  }
}
