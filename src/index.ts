/**
 * The library: `import { Engine, nodePlatform, trace } from 'sallyport'`. Its parts that need no Node are entries of their own:
 * 'sallyport/engine' (all of it is here too) and 'sallyport/netstack'.
 *
 *   const engine = new Engine({ device, dialers: { direct }, platform: nodePlatform() });     docs/engine.md
 *   engine.start();
 *
 *   const running = trace('example.com', { protocol: 'tcp', port: 443 });
 *   for await (const step of running) if (step.kind === 'hop') console.log(step.hop.ttl);
 *   const result = await running;
 */
import { SystemEntropy } from './os/entropy.js';
import { systemEnvironment } from './trace/environment.js';
import { openEngine } from './trace/open-engine.js';
import type { TraceEnvironment } from './trace/orchestration.js';
import { type RunningTrace, startTrace, type TraceCall } from './trace/running.js';

export * from './engine/index.js';
export { nodePlatform } from './os/engine-platform.js';
export { type NodeTlsOptions, nodeTls } from './os/tls-client.js';
export type { CompatibleResult } from './trace/compatible.js';
export { encodeJson, toCompatible } from './trace/compatible.js';
export type { TraceErrorCode } from './trace/error.js';
export type { TraceStep } from './trace/orchestration.js';
export type { TraceRequest } from './trace/request.js';
export type { NetworkInfo, TraceResult } from './trace/result.js';
export type { RunningTrace, TraceCall } from './trace/running.js';
export type { Hop, HopReply, TraceRun } from './trace/types.js';

/** Any number of traces over one capture, with one cache of names. */
export interface Tracer {
  /** As the function `trace`. */
  trace(target: string, call?: TraceCall): RunningTrace;
  /** Ends every trace under way; the process is no longer kept alive. */
  close(): void;
}

export function createTracer(): Tracer {
  const environment = open();
  return {
    trace: (target, call = {}) => startTrace(target, call, environment),
    close: () => environment.engine.close(),
  };
}

/**
 * Traces the path to `target`: a name, an address, `host:port` or `[v6]:port`. The result is a promise, and can be iterated for
 * what happens meanwhile; `abort()` or `call.signal` ends it.
 *
 * Rejects with a `SallyportError` whose `code` is a `TraceErrorCode`: INVALID_REQUEST, DNS, TIMEOUT, CONNREFUSED, HOSTUNREACH,
 * NETUNREACH, DENIED or UNKNOWN. Loss, and a destination that does not answer, are results.
 */
export function trace(target: string, call: TraceCall = {}): RunningTrace {
  const environment = open();
  return startTrace(target, call, environment, () => environment.engine.close());
}

function open(): TraceEnvironment {
  return systemEnvironment(openEngine(new SystemEntropy()));
}
