/**
 * What running any role has in common: the state folder's lock, the local socket, signals, and an orderly end.
 *
 *   start ─► running ──SIGTERM──► draining (relay: its own limit) ──► stopping (≤ 2 s) ─► exit 0
 *               ├─────────────────SIGINT, a second signal──────────────────▲
 *               └─ packet thread dead ──► exit 1
 */
import { describeError, type SallyportError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { StateLock } from '../identity/lock.js';
import { type LocalRequest, serveLocal } from '../os/local-control.js';

/** The whole process is gone this long after it was told to stop, or has drained, whatever hangs. */
const STOP_LIMIT_MS = 1900;

export interface RoleProcess {
  status(): Promise<unknown>;
  /** SIGHUP, or `sallyport reload`. */
  reload?(): Promise<void>;
  /** What SIGTERM waits for before `stop`, in a time that it bounds itself. Never rejects. */
  drain?(): Promise<void>;
  stop(): Promise<void>;
}

export interface RoleStart {
  readonly role: string;
  readonly dir: string;
  readonly log: Log;
  /** Starts the role; `onDeath` is to be called when it cannot go on. */
  start(onDeath: (error: SallyportError) => void): Promise<RoleProcess>;
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

async function runLocked({ role, dir, log, start }: RoleStart): Promise<number> {
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
  let stopServing: (() => void) | undefined;
  try {
    running = await start((error) => {
      log.error({ code: error.code, error: describeError(error) }, 'the packet thread has ended');
      hurry();
      finish(1);
    });
    const { status, reload } = running;
    stopServing = await serveLocal(dir, (request: LocalRequest) => answer(role, request, status));
    process.on('SIGHUP', () => {
      void reload?.().catch((error: unknown) => log.error({ error: describeError(error) }, 'reload failed'));
    });
    const code = await finished;
    await Promise.race([running.drain?.(), hurried]);
    setTimeout(() => process.exit(code === 0 ? 1 : code), STOP_LIMIT_MS).unref();
    return code;
  } finally {
    stopServing?.();
    await running?.stop();
  }
}

async function answer(role: string, request: LocalRequest, status: () => Promise<unknown>): Promise<unknown> {
  if (request.command !== 'status') throw new Error(`this role does not know the command ${request.command}`);
  return { role, ...((await status()) as object) };
}
