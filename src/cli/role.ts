/**
 * What running any role has in common: the state folder's lock, the local socket, signals, and an orderly end.
 *
 *   start ─► running ──SIGTERM, --exit-after──► draining (relay: its own limit) ──► stopping (≤ 2 s) ─► exit 0
 *             │  ▲ ├───SIGINT, a second signal─────────────────────────────────────────▲
 *             │  │ └─ packet thread dead ──► exit 1
 *             └──┘ SIGHUP, `sallyport reload`: one at a time; a refused one changes nothing
 */
import type { Crypto } from '../base/crypto.js';
import { describeError, SallyportError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { toMillis } from '../base/time.js';
import { StateLock } from '../identity/lock.js';
import { SystemClock } from '../os/clock.js';
import { type LocalRequest, serveLocal } from '../os/local-control.js';
import { LimitedLog } from './limited-log.js';
import { parseSpan } from './span.js';
import type { RoleStatus } from './status-types.js';
import { openPathTracer, RoleTraces } from './trace/role-traces.js';

/** The whole process is gone this long after it was told to stop, or has drained, whatever hangs. */
const STOP_LIMIT_MS = 1900;

export interface RoleProcess {
  /** What `log.suppressed` is put beside, where the role has `counters`. */
  status(): Promise<object>;
  /** Certificates, policy, services and configuration anew. Rejects when something is refused, and then nothing has changed. */
  reload(): Promise<void>;
  /** What SIGTERM waits for before `stop`, in a time that it bounds itself. Never rejects. */
  drain?(): Promise<void>;
  stop(): Promise<void>;
}

export interface RoleStart {
  readonly role: string;
  readonly dir: string;
  readonly log: Log;
  readonly crypto: Crypto;
  /** Ends after this time, as `parseSpan` reads it; checked before. */
  readonly exitAfter: string | undefined;
  /** Starts the role; `onDeath` is to be called when it cannot go on, and `limited` takes what peers can cause. */
  start(onDeath: (error: SallyportError) => void, limited: LimitedLog): Promise<RoleProcess>;
}

/** Runs a role until a signal ends it. Resolves with the exit status. @throws what `start` throws, the lock released. */
export async function runRole(options: RoleStart): Promise<number> {
  const { dir, log } = options;
  const lock = StateLock.acquire(dir);
  try {
    return await runLocked(options);
  } finally {
    lock.release();
    log.debug({}, 'stopped');
  }
}

async function runLocked({ role, dir, log, crypto, exitAfter, start }: RoleStart): Promise<number> {
  let finish: (status: number) => void = () => undefined;
  const finished = new Promise<number>((resolve) => {
    finish = resolve;
  });
  let hurry: () => void = () => undefined;
  const hurried = new Promise<void>((resolve) => {
    hurry = resolve;
  });
  let isStopping = false;
  const onSignal = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'stopping');
    if (isStopping || signal === 'SIGINT') hurry();
    isStopping = true;
    finish(0);
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  let running: RoleProcess | undefined;
  const clock = new SystemClock();
  const limited = new LimitedLog(log, () => clock.now());
  let stopServing: (() => void) | undefined;
  let timer: NodeJS.Timeout | undefined;
  let reloading: Promise<void> = Promise.resolve();
  const reload = (): Promise<void> => {
    const next = reloading.then(() => running?.reload());
    reloading = next.catch((error: unknown) =>
      log.error({ error: describeError(error) }, 'reload refused; what was in force goes on'),
    );
    return next;
  };
  // From the first moment on: without a handler the signal would end the process.
  const onHangup = (): void => void reload().catch(() => undefined);
  process.on('SIGHUP', onHangup);
  try {
    running = await start((error) => {
      log.error({ code: error.code, error: describeError(error) }, 'the packet thread has ended');
      hurry();
      finish(1);
    }, limited);
    const { status: ask } = running;
    const status = async (): Promise<RoleStatus> => ({ role, ...limited.addTo(await ask()) }) as RoleStatus;
    const traces = new RoleTraces(status, () => openPathTracer(crypto));
    stopServing = await serveLocal(dir, (request, gone) => answer(request, gone, { status, reload, traces }));
    if (exitAfter !== undefined) {
      timer = setTimeout(
        () => {
          log.info({ exitAfter }, 'stopping');
          finish(0);
        },
        toMillis(parseSpan(exitAfter)),
      );
    }
    const code = await finished;
    await Promise.race([running.drain?.(), hurried]);
    setTimeout(() => process.exit(code === 0 ? 1 : code), STOP_LIMIT_MS).unref();
    return code;
  } finally {
    clearTimeout(timer);
    stopServing?.();
    await running?.stop();
    limited.close();
  }
}

interface Answering {
  status(): Promise<RoleStatus>;
  reload(): Promise<void>;
  readonly traces: RoleTraces;
}

async function answer(request: LocalRequest, gone: AbortSignal, process: Answering): Promise<unknown> {
  switch (request.command) {
    case 'status':
      return { ...(await process.status()), traces: process.traces.latest };
    case 'reload':
      await process.reload();
      return {};
    case 'trace':
      return await process.traces.trace(request, gone);
    case 'traces':
      return process.traces.history;
    default:
      throw new SallyportError('caller', 'UNKNOWN_COMMAND', `this role does not know the command ${request.command}`);
  }
}
