/**
 * What running any role has in common: the state folder's lock, the local socket, signals, and an orderly end.
 *
 *   start ─► running ──SIGTERM, SIGINT──► stopping (≤ 2 s) ─► exit 0
 *               └─ packet thread dead ──► exit 1
 */
import { describeError, type SallyportError } from '../base/error.js';
import type { Log } from '../base/log.js';
import { StateLock } from '../identity/lock.js';
import { type LocalRequest, serveLocal } from '../os/local-control.js';

/** The whole process is gone this long after SIGTERM, whatever hangs. */
const STOP_LIMIT_MS = 1900;

export interface RoleProcess {
  status(): Promise<unknown>;
  /** SIGHUP, or `sallyport reload`. */
  reload?(): Promise<void>;
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
  const onSignal = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'stopping');
    finish(0);
  };
  process.once('SIGTERM', onSignal);
  process.once('SIGINT', onSignal);
  let running: RoleProcess | undefined;
  let stopServing: (() => void) | undefined;
  try {
    running = await start((error) => {
      log.error({ code: error.code, error: describeError(error) }, 'the packet thread has ended');
      finish(1);
    });
    const { status, reload } = running;
    stopServing = await serveLocal(dir, (request: LocalRequest) => answer(role, request, status));
    process.on('SIGHUP', () => {
      void reload?.().catch((error: unknown) => log.error({ error: describeError(error) }, 'reload failed'));
    });
    const code = await finished;
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
