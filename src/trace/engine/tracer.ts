/**
 * The engine behind every trace of a process: any number of runs over one capture.
 *
 *   run(options, signal) ─► start · hop … · done          probeEnd(options, signal) ─► milliseconds, 0 = lost
 */
import type { Entropy } from '../../base/entropy.js';
import { SallyportError } from '../../base/error.js';
import type { PacketIo } from '../../os/packet-io.js';
import { Arena } from '../../wire/arena.js';
import { traceError, traceErrorCode } from '../error.js';
import { Capture } from '../net/capture.js';
import type { TraceEngine, TraceEvent, TraceOptions } from '../types.js';
import { EventQueue } from './event-queue.js';
import { TraceJob } from './job.js';
import type { Surroundings } from './open.js';
import { checkOptions } from './options.js';

/** The largest IP packet. */
const ARENA_BYTES = 65_536;

export class Tracer implements TraceEngine {
  readonly #around: Surroundings;
  readonly #jobs = new Set<TraceJob>();
  #identification: number;

  /** Owns `io` from now on. */
  constructor(io: PacketIo, entropy: Entropy) {
    this.#identification = entropy.uint32() & 0xffff;
    this.#around = {
      io,
      capture: new Capture(io),
      entropy,
      arena: new Arena(ARENA_BYTES),
      nextIdentification: () => {
        // 0 would make the kernel choose one.
        this.#identification = this.#identification >= 0xffff ? 1 : this.#identification + 1;
        return this.#identification;
      },
    };
  }

  async *run(options: TraceOptions, signal: AbortSignal): AsyncGenerator<TraceEvent> {
    const queue = new EventQueue();
    const { job, ending } = this.#start(options, signal, (event) => queue.push(event));
    ending.then(
      (run) => {
        queue.push({ kind: 'done', run });
        queue.end();
      },
      (error: unknown) => queue.fail(error),
    );
    try {
      yield* queue.read();
    } finally {
      // Whoever stops reading does not want the run any more.
      job.abort(stopped());
    }
  }

  async probeEnd(options: TraceOptions, signal: AbortSignal): Promise<number> {
    const one = { ...options, minTtl: options.maxTtl, repeats: 1, pmtu: false, gapLimit: 0 };
    delete (one as { multipath?: unknown }).multipath;
    const { ending } = this.#start(one, signal, () => undefined);
    const run = await ending;
    return run.hops.flatMap((hop) => hop.replies).find((reply) => reply.isDestination)?.rtt ?? 0;
  }

  close(): void {
    for (const job of this.#jobs) job.abort(stopped());
    this.#around.capture.close();
    this.#around.io.close();
  }

  #start(
    options: TraceOptions,
    signal: AbortSignal,
    report: (event: TraceEvent) => void,
  ): { job: TraceJob; ending: ReturnType<TraceJob['execute']> } {
    const job = new TraceJob(this.#around, options, report);
    const abort = (): void => job.abort(stopped());
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    this.#jobs.add(job);
    const ending = (async () => {
      try {
        checkOptions(options);
        return await job.execute();
      } catch (error) {
        throw asTraceError(error);
      } finally {
        this.#jobs.delete(job);
        signal.removeEventListener('abort', abort);
      }
    })();
    return { job, ending };
  }
}

const stopped = (): SallyportError => traceError('TIMEOUT', 'the trace was stopped');

/** The system's refusals in the codes of a trace; the reason stays the cause. */
function asTraceError(error: unknown): unknown {
  if (!(error instanceof SallyportError)) return error;
  switch (error.code) {
    case 'RAW_NOT_PERMITTED':
    case 'ICMP_NOT_PERMITTED':
      return traceError('DENIED', error.hint === undefined ? error.message : `${error.message} (${error.hint})`, error);
    case 'DEVICE_NOT_FOUND':
    case 'ADDRESS_NOT_AVAILABLE':
    case 'ADDRESS_IN_USE':
      return traceError('INVALID_REQUEST', error.message, error);
    default: {
      const code = traceErrorCode(error);
      return code === error.code ? error : traceError(code, error.message, error);
    }
  }
}
