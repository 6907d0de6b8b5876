/**
 * The local socket of a running role: a Unix socket of mode 0600 in its state folder, over which commands such as
 * `sallyport status` ask it one thing at a time.
 *
 *   client → server   one line of JSON: {"command": …, …}
 *   server → client   one line of JSON: {"ok": true, "result": …} or {"ok": false, "code": …, "message": …, "hint"?: …}
 */
import { chmodSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { SallyportError } from '../base/error.js';

const SOCKET_NAME = 'control.sock';
/** sun_path holds 108 bytes with its terminator (sys/un.h). */
const LONGEST_PATH = 107;
const LONGEST_REQUEST = 64 * 1024;
/** For the request to come, and for an answer that only has to be looked up. */
const REQUEST_TIMEOUT_MS = 10_000;
/** For an answer that takes work: the server's own limits are below it. */
const LONGEST_ANSWER_MS = 120_000;
/** Clients served at once; more are turned away. */
const MAX_CLIENTS = 32;

export interface LocalRequest {
  readonly command: string;
  readonly [argument: string]: unknown;
}

/** `signal`: who asked has gone. */
type Handler = (request: LocalRequest, signal: AbortSignal) => Promise<unknown>;

function socketPath(dir: string): string {
  const path = join(dir, SOCKET_NAME);
  if (Buffer.byteLength(path) > LONGEST_PATH) {
    throw new SallyportError(
      'caller',
      'PATH_TOO_LONG',
      `The state folder's path is too long for a Unix socket: ${dir}`,
      {
        hint: `use a folder of at most ${LONGEST_PATH - SOCKET_NAME.length - 1} bytes`,
      },
    );
  }
  return path;
}

/** Serves `handler` on the socket of `dir`, which the caller has locked. Resolves to a function that stops serving. */
export async function serveLocal(dir: string, handler: Handler): Promise<() => void> {
  const path = socketPath(dir);
  rmSync(path, { force: true });
  const clients = new Set<Socket>();
  const server = createServer((socket) => {
    if (clients.size >= MAX_CLIENTS) {
      socket.destroy();
      return;
    }
    clients.add(socket);
    socket.on('close', () => clients.delete(socket));
    serveClient(socket, handler);
  });
  await listen(server, path);
  return () => {
    server.close();
    for (const socket of clients) socket.destroy();
    rmSync(path, { force: true });
  };
}

async function listen(server: Server, path: string): Promise<void> {
  const before = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
  } finally {
    process.umask(before);
  }
  chmodSync(path, 0o600);
}

function serveClient(socket: Socket, handler: Handler): void {
  let received = '';
  socket.setEncoding('utf8');
  socket.setTimeout(REQUEST_TIMEOUT_MS, () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: string) => {
    received += chunk;
    if (received.length > LONGEST_REQUEST) socket.destroy();
    const end = received.indexOf('\n');
    if (end < 0) return;
    socket.removeAllListeners('data');
    socket.setTimeout(LONGEST_ANSWER_MS);
    const gone = new AbortController();
    socket.on('close', () => gone.abort());
    // Read on, so that the end of a client is noticed.
    socket.resume();
    answer(received.slice(0, end), handler, gone.signal).then((reply) => socket.end(`${JSON.stringify(reply)}\n`));
  });
}

async function answer(line: string, handler: Handler, signal: AbortSignal): Promise<object> {
  try {
    const request = JSON.parse(line) as LocalRequest;
    if (typeof request?.command !== 'string') throw new SallyportError('caller', 'BAD_REQUEST', 'No command given');
    return { ok: true, result: await handler(request, signal) };
  } catch (error) {
    const { code, hint } = error instanceof SallyportError ? error : { code: 'FAILED', hint: undefined };
    return { ok: false, code, message: error instanceof Error ? error.message : String(error), hint };
  }
}

interface Reply {
  readonly ok: boolean;
  readonly result?: unknown;
  readonly code?: string;
  readonly message?: string;
  readonly hint?: string;
}

/**
 * Asks the role that runs on `dir`.
 * @param patience milliseconds for the answer.
 * @throws SallyportError NOT_RUNNING when nothing answers there, or the code the role answered with.
 */
export function askLocal(dir: string, request: LocalRequest, patience = REQUEST_TIMEOUT_MS): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath(dir));
    let received = '';
    const fail = (cause: unknown): void => {
      socket.destroy();
      reject(
        new SallyportError('environment', 'NOT_RUNNING', `Nothing is running on ${dir}`, {
          cause,
          hint: 'start an agent, connector or relay with this --dir, or name another with --dir',
        }),
      );
    };
    socket.setEncoding('utf8');
    socket.setTimeout(patience, () => fail(new Error('no answer')));
    socket.on('error', fail);
    socket.on('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on('data', (chunk: string) => {
      received += chunk;
    });
    socket.on('end', () => {
      try {
        const reply = JSON.parse(received) as Reply;
        if (reply.ok) resolve(reply.result);
        else {
          const { code = 'FAILED', message = 'failed', hint } = reply;
          reject(new SallyportError('environment', code, message, hint === undefined ? {} : { hint }));
        }
      } catch (cause) {
        fail(cause);
      }
    });
  });
}
