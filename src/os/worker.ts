/**
 * The worker of a packet thread. A program that knows early that it will need one has its modules load while it still reads its
 * configuration, on another core:
 *
 *   startEarly(url) ─► modules load ─► takeWorker(url): the host sends `ThreadStart` ─► setup
 *          └─ nobody takes it (wrong configuration): dismissEarly() has it end by itself
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { NOT_NEEDED } from './thread-protocol.js';

/**
 * V8's memory for new objects in the thread, megabytes; two thirds of it are in use at a time. What lives there is one small view a
 * packet, dead at once, so a larger one collects no less; and the thread never rests in a way that lets V8 give it back.
 */
const YOUNG_GENERATION_MB = 6;

interface Early {
  readonly href: string;
  readonly worker: Worker;
  readonly forget: () => void;
}

let early: Early | undefined;

/** Starts the worker of this module, which `takeWorker` hands out once. */
export function startEarly(url: URL, name: string): void {
  const worker = makeWorker(url, name);
  // One that could not run is not handed out: the one made in its place says why, to a host that can tell it.
  const forget = (): void => {
    early = undefined;
    worker.off('error', forget);
    worker.off('exit', forget);
  };
  early = { href: url.href, worker, forget };
  worker.on('error', forget);
  worker.on('exit', forget);
}

/** The worker that was started early with this module, or a new one. */
export function takeWorker(url: URL, name: string): Worker {
  if (early?.href !== url.href) return makeWorker(url, name);
  const { worker, forget } = early;
  forget();
  return worker;
}

function makeWorker(url: URL, name: string): Worker {
  return new Worker(url, { name, resourceLimits: { maxYoungGenerationSizeMb: YOUNG_GENERATION_MB } });
}

/**
 * To be called before the process ends: has a worker that nobody has taken end when its modules are loaded. Node may abort when a
 * thread is torn down in the middle of that.
 */
export async function dismissEarly(): Promise<void> {
  if (early === undefined) return;
  const { worker } = early;
  const ended = once(worker, 'exit');
  worker.postMessage(NOT_NEEDED);
  // It failed: then it is as good as gone.
  await ended.catch(() => undefined);
}
