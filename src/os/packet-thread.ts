/**
 * The inside of a packet thread: the module a `ThreadHost` starts calls `servePacketThread` once.
 *
 *   ThreadStart ─► setup(context) ─► ready ─► reactor runs; requests are answered between its turns ─► stop ─► close() ─► stopped
 */
import { isMainThread, type MessagePort, parentPort } from 'node:worker_threads';
import { SallyportError } from '../base/error.js';
import { type Instant, later } from '../base/time.js';
import { collectGarbage, REST_INTERVAL, RestWatch } from './heap.js';
import { createReactor } from './linux/linux.js';
import { releasePages } from './linux/memory.js';
import type { EpollReactor } from './linux/reactor.js';
import { WakePolicy } from './linux/wake-policy.js';
import {
  type EventName,
  type FromThread,
  type Input,
  NOT_NEEDED,
  type Output,
  type RequestName,
  type ThreadProtocol,
  type ThreadStart,
  type ToThread,
  toWire,
} from './thread-protocol.js';
import { optimizeEarly } from './tiering.js';

export interface PacketThreadContext<P extends ThreadProtocol, Data> {
  readonly reactor: EpollReactor;
  readonly data: Data;
  /** Shared with the host, which only reads it; for `Counters`. */
  readonly counters: SharedArrayBuffer;
  emit<K extends EventName<P>>(name: K, payload: P['events'][K]): void;
}

export interface PacketThreadHandlers<P extends ThreadProtocol> {
  /** One function per request; what it throws is the failure of that request. */
  readonly requests: { readonly [K in RequestName<P>]: (input: Input<P, K>) => Output<P, K> | Promise<Output<P, K>> };
  /**
   * Called between two turns, when there has been nothing to carry for a while: lets go of memory that is kept for reuse, and names
   * memory that stays and whose content nobody needs any more; it may be all zero afterwards.
   */
  rest?(): readonly Uint8Array[];
  /** Called once after the last turn: closes what setup opened. */
  close(): void;
}

/** @throws SallyportError NOT_A_THREAD (caller) on the main thread. */
export async function servePacketThread<P extends ThreadProtocol, Data>(
  setup: (context: PacketThreadContext<P, Data>) => PacketThreadHandlers<P> | Promise<PacketThreadHandlers<P>>,
): Promise<void> {
  if (isMainThread || parentPort === null) {
    throw new SallyportError('caller', 'NOT_A_THREAD', 'a packet thread is started by its host');
  }
  const port = parentPort;
  const start = await firstMessage(port);
  if (start === NOT_NEEDED) {
    port.close();
    return;
  }
  const post = (message: FromThread): void => port.postMessage(message);
  const wakePolicy = new WakePolicy();
  const reactor = createReactor({
    onPause: (now) => wakePolicy.look(now),
    wakeFd: start.wakeFd,
    control: new Int32Array(start.control),
    onError: (error, suppressed) => post({ type: 'bug', error: toWire(error), suppressed }),
  });
  try {
    optimizeEarly();
    const handlers = await setup({
      reactor,
      data: start.data as Data,
      counters: start.counters,
      emit: (name, payload) => post({ type: 'event', name, payload }),
    });
    port.on('message', (message: ToThread) => void answer(handlers, message, post));
    post({ type: 'ready' });
    restNowAndThen(reactor, () => {
      for (const bytes of handlers.rest?.() ?? []) releasePages(bytes);
      collectGarbage();
      post({ type: 'rests' });
    });
    await reactor.run();
    handlers.close();
    post({ type: 'stopped' });
  } catch (error) {
    post({ type: 'failed', error: toWire(error) });
  } finally {
    reactor.dispose();
    wakePolicy.close();
    // Nothing keeps the thread alive any more.
    port.close();
  }
}

/** A thread may be there before its host knows what to tell it. */
function firstMessage(port: MessagePort): Promise<ThreadStart | typeof NOT_NEEDED> {
  return new Promise((resolve) => {
    port.once('message', resolve);
  });
}

/** Calls back whenever the thread comes to rest; between two turns, because within one much is half done. */
function restNowAndThen(reactor: EpollReactor, onRest: () => void): void {
  const watch = new RestWatch();
  const look = (now: Instant): void => {
    reactor.at(later(now, REST_INTERVAL), look);
    if (watch.look(reactor.turns)) setImmediate(onRest);
  };
  reactor.at(later(reactor.now(), REST_INTERVAL), look);
}

async function answer<P extends ThreadProtocol>(
  handlers: PacketThreadHandlers<P>,
  { id, name, input }: ToThread,
  post: (message: FromThread) => void,
): Promise<void> {
  try {
    const handler = Object.hasOwn(handlers.requests, name) ? handlers.requests[name] : undefined;
    if (handler === undefined) throw new SallyportError('caller', 'UNKNOWN_REQUEST', `the thread knows no "${name}"`);
    post({ type: 'reply', id, output: await handler(input) });
  } catch (error) {
    post({ type: 'failure', id, error: toWire(error) });
  }
}
