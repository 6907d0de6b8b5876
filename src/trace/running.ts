/**
 * A trace under way as the library gives it: a promise of the result that can be iterated for what happens meanwhile, and aborted.
 * Whoever starts iterating late gets everything from the beginning.
 */
import { runTrace, type TraceEnvironment, type TraceStep } from './orchestration.js';
import type { TraceRequest } from './request.js';
import type { TraceResult } from './result.js';

export interface RunningTrace extends Promise<TraceResult>, AsyncIterable<TraceStep> {
  /** Ends it; the promise and iterations reject with TIMEOUT unless it is over. */
  abort(): void;
}

export interface TraceCall extends TraceRequest {
  readonly signal?: AbortSignal;
}

/** @param onEnd called when the trace is over, however it ended. */
export function startTrace(
  target: string,
  { signal, ...request }: TraceCall,
  environment: TraceEnvironment,
  onEnd: () => void = () => undefined,
): RunningTrace {
  const controller = new AbortController();
  const either = signal === undefined ? controller.signal : AbortSignal.any([controller.signal, signal]);
  const steps = new Steps();
  const result = runTrace(target, request, environment, either, (step) => steps.add(step)).finally(() => {
    steps.end();
    onEnd();
  });
  // Who only iterates learns of the failure there: it must not end the process as unhandled.
  result.catch(() => undefined);
  async function* iterate(): AsyncGenerator<TraceStep> {
    yield* steps.read();
    await result;
  }
  return Object.assign(result, {
    [Symbol.asyncIterator]: iterate,
    abort: () => controller.abort(),
  });
}

/** A list that grows until it ends; as long as a trace's limits allow. */
class Steps {
  readonly #all: TraceStep[] = [];
  #ended = false;
  #waiting: (() => void)[] = [];

  add(step: TraceStep): void {
    this.#all.push(step);
    this.#wake();
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *read(): AsyncGenerator<TraceStep> {
    for (let i = 0; ; i++) {
      while (i >= this.#all.length) {
        if (this.#ended) return;
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      }
      yield this.#all[i]!;
    }
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resume of waiting) resume();
  }
}
