/**
 * One traceroute: which TTL is probed when, and when enough is known.
 *
 *   sending:  round 0: minTtl … maxTtl, round 1: the same … , one probe per `interval`
 *             not beyond the end of the path · at most `window` unanswered TTLs · at most `gapLimit` TTLs beyond the last answer
 *   waiting:  each probe for `timeout`; once the destination has answered only for `GRACE` times the slowest answer
 *   over:     everything sent and nothing outstanding ─► onEnd(reason)
 *
 * `window` = all TTLs is the parallel engine, 1 the serial one. A late answer to an earlier probe is taken for that probe and
 * ends nobody else's wait. Driven by `answer` and by one timer, which first hands over what the kernel already has.
 */
import { SallyportError } from '../../base/error.js';
import { type Duration, type Instant, instantAt, later, Millis } from '../../base/time.js';
import { EAGAIN, EMSGSIZE, ENOBUFS } from '../../os/io.js';
import { type Answer, Probe, type ProbeTransport, type TransportEvents } from '../net/probe.js';
import type { EndReason, HopReply, TraceOptions } from '../types.js';
import { HopTable } from './hops.js';
import { sendFailure } from './send-failure.js';

/** How long answers of nearer hops may still take once the destination has answered, in slowest answers so far. */
const GRACE = 1;
/** Routers answer in software and at leisure: never less than this. */
const GRACE_MIN: Duration = Millis(100);
/** Timers fire late by a millisecond or more; as much as this is made good by sending faster. */
const CATCH_UP: Duration = Millis(20);
const MICROS_PER_SECOND = 1_000_000;

export interface RunEvents {
  /** An answer to a probe that had none. */
  hop(ttl: number, reply: HopReply): void;
  end(reason: EndReason, lastTtl: number): void;
  fail(error: SallyportError): void;
}

export interface RunTimers {
  now(): Instant;
  at(at: Instant, handler: () => void): () => void;
}

export class Run implements TransportEvents {
  readonly hops: HopTable;
  readonly #options: TraceOptions;
  readonly #timers: RunTimers;
  readonly #events: RunEvents;
  readonly #window: number;
  readonly #interval: Duration;
  #transport: ProbeTransport | undefined;
  #round = 0;
  #nextTtl: number;
  #nextSend: Instant;
  #lastSend: Instant;
  /** When the end of the path became known. */
  #endKnown: Instant | undefined;
  #cancelTimer: (() => void) | undefined;
  #over = false;

  /** @param window TTLs that may be unanswered at one time, ≥ 1 */
  constructor(options: TraceOptions, window: number, timers: RunTimers, events: RunEvents) {
    this.hops = new HopTable(options);
    this.#options = options;
    this.#window = window;
    this.#timers = timers;
    this.#events = events;
    const fastest = options.rate > 0 ? MICROS_PER_SECOND / options.rate : 0;
    this.#interval = Math.max(options.sendDelay, fastest) as Duration;
    this.#nextTtl = options.minTtl;
    this.#nextSend = timers.now();
    this.#lastSend = this.#nextSend;
  }

  start(transport: ProbeTransport): void {
    this.#transport = transport;
    this.#nextSend = this.#timers.now();
    this.#step();
  }

  answer(answer: Answer): void {
    if (this.#over) return;
    const reply = this.hops.take(answer);
    if (reply === undefined) return;
    this.#events.hop(answer.probe.ttl, reply);
    if (this.#endKnown === undefined && this.hops.end() !== undefined) this.#endKnown = this.#timers.now();
    this.#arm(this.#timers.now());
  }

  fail(error: SallyportError): void {
    if (this.#over) return;
    this.stop();
    this.#events.fail(error);
  }

  /** No further event comes. */
  stop(): void {
    this.#over = true;
    this.#cancelTimer?.();
  }

  #arm(at: Instant): void {
    this.#cancelTimer?.();
    this.#cancelTimer = this.#timers.at(at, () => this.#step());
  }

  #step(): void {
    this.#transport!.drain();
    if (this.#over) return;
    const now = this.#timers.now();
    const blocked = this.#send(now);
    if (this.#over) return;
    if (blocked === 'pace') {
      this.#arm(this.#nextSend);
      return;
    }
    const deadline = this.#deadline(now);
    if (deadline === undefined || deadline <= now) this.#finish(blocked === 'gap');
    else this.#arm(deadline);
  }

  /** Sends what may be sent; returns what keeps the next probe back. */
  #send(now: Instant): 'pace' | 'window' | 'gap' | 'done' {
    this.#nextSend = instantAt(Math.max(this.#nextSend, now - CATCH_UP));
    for (;;) {
      const end = this.hops.end()?.ttl ?? this.#options.maxTtl;
      if (this.#nextTtl > end) {
        this.#round++;
        this.#nextTtl = this.#options.minTtl;
      }
      if (this.#round >= this.#options.repeats) return 'done';
      const { gapLimit } = this.#options;
      if (gapLimit > 0 && this.#nextTtl > this.hops.highestAnswered + gapLimit) return 'gap';
      if (this.#unanswered(now) >= this.#window) return 'window';
      if (now < this.#nextSend) return 'pace';
      const probe = new Probe(this.#nextTtl, this.hops.sent(this.#nextTtl), 0, this.#options.packetSize ?? 0);
      if (!this.#sendOne(probe, now)) return 'done';
      this.#nextTtl++;
    }
  }

  /** False when the run has ended by it. */
  #sendOne(probe: Probe, now: Instant): boolean {
    this.hops.add(probe);
    let sent: number;
    try {
      sent = this.#transport!.send(probe);
    } catch (error) {
      // Only opening what a probe needs can throw.
      if (!(error instanceof SallyportError)) throw error;
      this.fail(error);
      return false;
    }
    this.#lastSend = now;
    this.#nextSend = later(this.#nextSend, this.#interval);
    // A full queue is a lost probe; so is one that another probe's error is reported for.
    if (sent >= 0 || sent === -EAGAIN || sent === -ENOBUFS) return true;
    this.fail(sendFailure(-sent, this.#options, sent === -EMSGSIZE));
    return false;
  }

  /** TTLs with a probe that may still be answered. */
  #unanswered(now: Instant): number {
    if (this.#window >= this.#options.maxTtl) return 0;
    let count = 0;
    for (let ttl = this.#options.minTtl; ttl <= this.#options.maxTtl; ttl++) {
      if (this.hops.probes(ttl).some((probe) => this.#isOpen(probe, now))) count++;
    }
    return count;
  }

  #isOpen(probe: Probe, now: Instant): boolean {
    return !probe.answered && now < later(probe.sentAt, this.#options.timeout);
  }

  /** When to look again; undefined when no probe up to the end of the path is open. */
  #deadline(now: Instant): Instant | undefined {
    const end = this.hops.end()?.ttl ?? this.#options.maxTtl;
    let first = Number.POSITIVE_INFINITY;
    let last = Number.NEGATIVE_INFINITY;
    for (let ttl = this.#options.minTtl; ttl <= end; ttl++) {
      for (const probe of this.hops.probes(ttl)) {
        if (!this.#isOpen(probe, now)) continue;
        const expiry = later(probe.sentAt, this.#options.timeout);
        first = Math.min(first, expiry);
        last = Math.max(last, expiry);
      }
    }
    if (last < 0) return undefined;
    if (this.#endKnown === undefined) return instantAt(first);
    const patience = Math.max(GRACE_MIN, Millis(GRACE * this.hops.slowest));
    return instantAt(Math.min(last, Math.max(this.#endKnown, this.#lastSend) + patience));
  }

  #finish(gap: boolean): void {
    this.stop();
    const end = this.hops.end() ?? this.hops.likelyEnd();
    if (end !== undefined) this.#events.end(end.reason, end.ttl);
    else if (gap) this.#events.end('gap_limit', this.#highestSent());
    else this.#events.end('max_ttl', this.#options.maxTtl);
  }

  #highestSent(): number {
    let ttl = this.#options.maxTtl;
    while (ttl > this.#options.minTtl && this.hops.sent(ttl) === 0) ttl--;
    return ttl;
  }
}
