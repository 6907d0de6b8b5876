/**
 * Probes in batches, for what comes after the plain traceroute: each batch is sent at the run's pace and is over when all are
 * answered, or some time after the last one was sent.
 */
import type { SallyportError } from '../../base/error.js';
import { type Duration, type Instant, later } from '../../base/time.js';
import { EAGAIN, ENOBUFS } from '../../os/io.js';
import type { Answer, Probe, ProbeTransport, TransportEvents } from '../net/probe.js';
import type { RunTimers } from './run.js';

/** The outcome of a probe that the host itself found too large for the device. */
export const TOO_LARGE = 'too large';

export type Outcome = Answer | typeof TOO_LARGE;

export class Asker implements TransportEvents {
  readonly #transport: ProbeTransport;
  readonly #timers: RunTimers;
  readonly #interval: Duration;
  readonly #tooLarge: number;
  #waiting: { open: Set<Probe>; outcomes: Map<Probe, Outcome>; settle: (error?: SallyportError) => void } | undefined;
  #failed: SallyportError | undefined;

  /** @param interval between two probes; @param tooLarge the errno that says so */
  constructor(transport: ProbeTransport, timers: RunTimers, interval: Duration, tooLarge: number) {
    this.#transport = transport;
    this.#timers = timers;
    this.#interval = interval;
    this.#tooLarge = tooLarge;
  }

  /** Sends the probes and resolves with what came of those that something came of. One batch at a time. */
  ask(probes: readonly Probe[], patience: Duration): Promise<Map<Probe, Outcome>> {
    return new Promise((resolve, reject) => {
      const outcomes = new Map<Probe, Outcome>();
      const open = new Set(probes);
      let cancel = (): void => undefined;
      const settle = (error?: SallyportError): void => {
        if (this.#waiting === undefined) return;
        this.#waiting = undefined;
        cancel();
        if (error === undefined) resolve(outcomes);
        else reject(error);
      };
      this.#waiting = { open, outcomes, settle };
      let next = 0;
      let due = this.#timers.now();
      const step = (): void => {
        if (this.#failed !== undefined) {
          settle(this.#failed);
          return;
        }
        this.#transport.drain();
        for (let now = this.#timers.now(); next < probes.length && due <= now; next++) {
          this.#send(probes[next]!);
          due = later(due, this.#interval);
        }
        if (this.#waiting === undefined) return;
        if (next < probes.length) wait(due);
        else if (!this.#settleIfDone()) wait(later(this.#timers.now(), patience), true);
      };
      const wait = (at: Instant, isLast = false): void => {
        cancel = this.#timers.at(at, () => {
          if (!isLast) step();
          else {
            this.#transport.drain();
            settle();
          }
        });
      };
      step();
    });
  }

  answer(answer: Answer): void {
    const { probe } = answer;
    if (probe.answered || this.#waiting?.open.delete(probe) !== true) return;
    probe.answered = true;
    this.#waiting.outcomes.set(probe, answer);
    if (this.#waiting.open.size === 0) this.#settleIfDone();
  }

  fail(error: SallyportError): void {
    this.#failed = error;
    this.#waiting?.settle(error);
  }

  #send(probe: Probe): void {
    const sent = this.#transport.send(probe);
    if (sent >= 0 || sent === -EAGAIN || sent === -ENOBUFS) return;
    if (this.#waiting?.open.delete(probe) === true && sent === -this.#tooLarge) {
      this.#waiting.outcomes.set(probe, TOO_LARGE);
    }
  }

  #settleIfDone(): boolean {
    if (this.#waiting === undefined || this.#waiting.open.size > 0) return false;
    this.#waiting.settle();
    return true;
  }
}
