/**
 * One run from its options to its result: opens a transport, lets the engine go over it, then what was asked on top.
 *
 *   open ─► start ─► hops … ─► [path MTU] ─► [multipath] ─► done
 *     ▲        └ sessions turn out impossible, and SYNs are allowed ─┐
 *     └──────────────────────────────────────────────────────────────┘
 */
import { SallyportError } from '../../base/error.js';
import type { Duration } from '../../base/time.js';
import { EMSGSIZE } from '../../os/io.js';
import { traceError, traceErrorCode } from '../error.js';
import type { ProbeTransport, TransportEvents } from '../net/probe.js';
import { SackFailure } from '../net/sack-session.js';
import type { EndReason, MultipathGraph, TraceEvent, TraceOptions, TraceRun } from '../types.js';
import { Asker } from './ask.js';
import { MultipathSearch } from './multipath.js';
import { isSackFailure, type OpenedTransport, openTransport, pathOf, type Surroundings } from './open.js';
import { measurePathMtu, patience } from './path-mtu.js';
import { Run } from './run.js';

const MICROS_PER_SECOND = 1_000_000;
/** Probe indices from here on belong to multipath discovery: above the repeats and the sizes of path-MTU discovery. */
const MULTIPATH_INDEX = 64;

export class TraceJob {
  readonly #around: Surroundings;
  readonly #options: TraceOptions;
  readonly #report: (event: TraceEvent) => void;
  #handler: TransportEvents | undefined;
  #transport: ProbeTransport | undefined;
  #abort: ((error: SallyportError) => void) | undefined;
  #aborted: SallyportError | undefined;

  constructor(around: Surroundings, options: TraceOptions, report: (event: TraceEvent) => void) {
    this.#around = around;
    this.#options = options;
    this.#report = report;
  }

  /** @throws SallyportError with a trace code or the system's */
  async execute(): Promise<TraceRun> {
    const { protocol, tcpMethod } = this.#options;
    const hasSynSockets = this.#around.io.rawTcp === false;
    if (protocol === 'tcp' && tcpMethod === 'syn_socket' && !hasSynSockets) {
      // The words of the tool that the command line is compatible with: connection attempts are Windows' way only.
      throw traceError('UNKNOWN', 'syn_socket: not implemented or supported on unix');
    }
    if (protocol !== 'tcp' || tcpMethod === 'syn' || tcpMethod === 'syn_socket') return await this.#attempt('syn');
    try {
      return await this.#attempt('sack');
    } catch (error) {
      if (!isSackFailure(error)) throw this.#notFallingBack(error);
      if (tcpMethod === 'prefer_sack') return await this.#attempt('syn');
      const prefix =
        error instanceof SackFailure && error.supported ? '' : 'SACK not supported for this target/source: ';
      throw traceError('UNKNOWN', `${prefix}${error.message}`, error);
    }
  }

  /** Ends the run; `execute` then throws `error`. */
  abort(error: SallyportError): void {
    this.#aborted ??= error;
    this.#abort?.(error);
  }

  /** SYNs take the place of sessions only where the target cannot do those: another failure would be theirs too. */
  #notFallingBack(error: unknown): unknown {
    const isOurs = error === this.#aborted || !(error instanceof SallyportError);
    if (isOurs || this.#options.tcpMethod !== 'prefer_sack') return error;
    const message = `SACK traceroute failed fatally, not falling back: ${error.message}`;
    return traceError(traceErrorCode(error), message, error);
  }

  async #attempt(method: 'syn' | 'sack'): Promise<TraceRun> {
    const aborted = new Promise<never>((_, reject) => {
      this.#abort = reject;
    });
    // Whoever waits below sees it; nobody else has to.
    aborted.catch(() => undefined);
    if (this.#aborted !== undefined) throw this.#aborted;
    const events: TransportEvents = {
      answer: (answer) => this.#handler?.answer(answer),
      fail: (error) => this.#handler?.fail(error),
    };
    const opening = openTransport(this.#around, this.#options, events, method);
    // An abort while a session is being opened: what it opened is closed when it comes.
    opening.then(
      ({ transport }) => {
        if (this.#aborted !== undefined) transport.close();
      },
      () => undefined,
    );
    const opened = await Promise.race([opening, aborted]);
    this.#transport = opened.transport;
    try {
      return await Promise.race([this.#over(opened), aborted]);
    } finally {
      this.#handler = undefined;
      this.#transport.close();
    }
  }

  async #over(opened: OpenedTransport): Promise<TraceRun> {
    const { transport, privilege, window, tcpMethod } = opened;
    const { source, destination } = transport;
    this.#report({ kind: 'start', source, destination, privilege });
    const { run, reason, last } = await this.#trace(transport, window);
    const asker = new Asker(transport, this.#around.io, this.#interval(), EMSGSIZE);
    this.#handler = asker;
    if (this.#options.pmtu && tcpMethod !== 'sack') {
      const deviceMtu = this.#around.io.deviceMtu(this.#options.destination, pathOf(this.#options));
      await measurePathMtu(asker, run.hops, this.#options, last, deviceMtu);
    }
    let multipath: MultipathGraph | undefined;
    if (this.#options.multipath !== undefined && tcpMethod !== 'sack') {
      const wait = patience(run.hops, this.#options.timeout);
      const first = Math.max(MULTIPATH_INDEX, this.#options.repeats + MULTIPATH_INDEX);
      multipath = await new MultipathSearch(asker, this.#options, wait, first).search();
    }
    return {
      source,
      destination,
      ...(tcpMethod === undefined ? {} : { tcpMethod }),
      hops: run.hops.hops(last),
      reached: reason === 'destination',
      reason,
      privilege,
      ...(multipath === undefined ? {} : { multipath }),
    };
  }

  #trace(transport: ProbeTransport, window: number): Promise<{ run: Run; reason: EndReason; last: number }> {
    return new Promise((resolve, reject) => {
      const run = new Run(this.#options, window, this.#around.io, {
        hop: (ttl) => this.#report({ kind: 'hop', hop: run.hops.hop(ttl) }),
        end: (reason, last) => resolve({ run, reason, last }),
        fail: reject,
      });
      this.#handler = run;
      const { abort } = { abort: this.#abort };
      this.#abort = (error) => {
        run.stop();
        abort?.(error);
      };
      run.start(transport);
    });
  }

  #interval(): Duration {
    const { rate, sendDelay } = this.#options;
    return Math.max(sendDelay, rate > 0 ? MICROS_PER_SECOND / rate : 0) as Duration;
  }
}
