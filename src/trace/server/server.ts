/**
 * The trace server: datadog-traceroute-server's HTTP interface, with limits.
 *
 *   GET       /traceroute?target=…   200 the compatible JSON, compact; errors {code, message}: 400 INVALID_REQUEST, 500 others,
 *                                    401 UNAUTHORIZED, 403 FORBIDDEN, 503 BUSY
 *   GET HEAD  /health                200 {status, timestamp, uptime}
 *   GET       /metrics               200 Prometheus text
 *   anything else                    404 or 405, plain text
 *
 * RFC 9110, RFC 6750 (bearer token, where one is set: everything but /health needs it). A client that goes away ends its trace.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Crypto } from '../../base/crypto.js';
import { SallyportError } from '../../base/error.js';
import type { Log } from '../../base/log.js';
import { type Duration, elapsed, Seconds, toMillis, toSeconds } from '../../base/time.js';
import { encodeJson, toCompatible } from '../compatible.js';
import { traceError, traceErrorCode } from '../error.js';
import { runTrace, type TraceEnvironment } from '../orchestration.js';
import { Admission } from './admission.js';
import { TraceMetrics } from './metrics.js';
import { parseParameters } from './parameters.js';

/** Headers must be complete in this time. */
const REQUEST_TIMEOUT = Seconds(10);
/** Idle connections are kept this long. */
const KEEP_ALIVE = Seconds(60);
const MAX_CONNECTIONS = 1024;
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_URL = 8 * 1024;

export interface TraceServerOptions {
  readonly host: string;
  readonly port: number;
  readonly environment: TraceEnvironment;
  readonly crypto: Crypto;
  readonly log: Log;
  /** Bearer token; undefined: none is needed. */
  readonly token: string | undefined;
  /** Traces at once; more wait. */
  readonly concurrency: number;
  /** Requests that wait. */
  readonly queue: number;
  /** Windows: by the kernel driver, whatever a request says. */
  readonly windowsDriver: boolean;
  /** A request is answered in this time, its wait included. */
  readonly timeLimit: Duration;
}

/** An answer that is no trace. */
class Refusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** Wrong method. */
class NotAllowed extends Error {
  constructor(readonly allow: string) {
    super('Method not allowed');
  }
}

export class TraceServer {
  readonly #options: TraceServerOptions;
  readonly #server: Server;
  readonly #admission: Admission;
  readonly #metrics = new TraceMetrics();
  readonly #tokenDigest: Uint8Array | undefined;
  readonly #sockets = new Set<Socket>();
  readonly #stopping = new AbortController();
  #startedAt = 0;

  constructor(options: TraceServerOptions) {
    this.#options = options;
    this.#admission = new Admission(options.concurrency, options.queue);
    this.#tokenDigest = options.token === undefined ? undefined : digest(options.token);
    this.#server = createServer({
      requestTimeout: toMillis(REQUEST_TIMEOUT),
      headersTimeout: toMillis(REQUEST_TIMEOUT),
      keepAliveTimeout: toMillis(KEEP_ALIVE),
      connectionsCheckingInterval: 1_000,
      maxHeaderSize: MAX_HEADER_BYTES,
    });
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('request', (request, response) => void this.#handle(request, response));
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  /** Resolves with the bound address. @throws SallyportError LISTEN_FAILED (environment). */
  start(): Promise<{ readonly host: string; readonly port: number }> {
    const { host, port } = this.#options;
    return new Promise((resolve, reject) => {
      const failed = (cause: NodeJS.ErrnoException): void => {
        const hint =
          cause.code === 'EADDRINUSE' ? { hint: 'another program has this port: choose one with --addr' } : {};
        const message = `cannot listen on ${host}:${port}: ${cause.message}`;
        reject(new SallyportError('environment', 'LISTEN_FAILED', message, { cause, ...hint }));
      };
      this.#server.once('error', failed);
      this.#server.listen({ port, ...(host !== '' && { host }) }, () => {
        this.#server.off('error', failed);
        this.#server.on('error', (error) => this.#options.log.error({ error: error.message }, 'trace server'));
        this.#startedAt = this.#options.environment.clock.now();
        const bound = this.#server.address() as AddressInfo;
        resolve({ host: bound.address, port: bound.port });
      });
    });
  }

  /** Takes nothing new, lets traces under way finish for `grace`, then ends them; resolves when everything is closed. */
  async stop(grace: Duration): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeIdleConnections();
    const end = setTimeout(() => this.#stopping.abort(), toMillis(grace));
    const cut = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, toMillis(grace) + 200);
    await closed;
    clearTimeout(end);
    clearTimeout(cut);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = request.url ?? '/';
    const path = url.split('?', 1)[0];
    const isTrace = path === '/traceroute';
    response.on('error', () => undefined);
    try {
      if (url.length > MAX_URL) throw new Refusal(414, 'INVALID_REQUEST', 'the address is too long');
      if (path === '/health') this.#health(request, response);
      else if (path === '/metrics') this.#measured(request, response);
      else if (isTrace) await this.#traceroute(request, response, new URLSearchParams(url.slice(path.length + 1)));
      else plain(response, 404, '404 page not found\n');
    } catch (error) {
      if (error instanceof NotAllowed) notAllowed(response, error.allow);
      else this.#refuse(response, error, url);
    }
    if (!isTrace) return;
    if (response.headersSent) this.#metrics.answered(response.statusCode);
    else this.#metrics.cancelled();
  }

  #health(request: IncomingMessage, response: ServerResponse): void {
    if (!isOne(request, ['GET', 'HEAD'])) throw new NotAllowed('GET, HEAD');
    const { clock } = this.#options.environment;
    const timestamp = `${new Date(clock.wall()).toISOString().slice(0, 19)}Z`;
    const uptime = goDuration((clock.now() - this.#startedAt) as Duration);
    json(response, 200, { status: 'healthy', timestamp, uptime }, request.method === 'HEAD');
  }

  #measured(request: IncomingMessage, response: ServerResponse): void {
    if (!isOne(request, ['GET'])) throw new NotAllowed('GET');
    this.#authorize(request);
    const { running, waiting } = this.#admission;
    send(response, 200, 'text/plain; version=0.0.4; charset=utf-8', this.#metrics.render({ running, waiting }));
  }

  async #traceroute(request: IncomingMessage, response: ServerResponse, query: URLSearchParams): Promise<void> {
    if (!isOne(request, ['GET'])) throw new NotAllowed('GET');
    this.#authorize(request);
    // A page of some website must not make a browser on this machine trace for it.
    if (request.headers['sec-fetch-site'] === 'cross-site') throw new Refusal(403, 'FORBIDDEN', 'not for websites');
    const { target, request: asked, skipPrivateHops, extended } = parseParameters(query);
    if (target === undefined || target === '') {
      throw traceError('INVALID_REQUEST', 'missing required parameter: target');
    }
    const { environment, timeLimit, log } = this.#options;
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const limit = AbortSignal.timeout(toMillis(timeLimit));
    const signal = AbortSignal.any([gone.signal, limit, this.#stopping.signal]);
    if (!(await this.#admission.enter(signal))) {
      throw new Refusal(503, 'BUSY', 'too many traces at once: try again later');
    }
    const started = environment.clock.now();
    try {
      const request = this.#options.windowsDriver ? { ...asked, windowsDriver: true } : asked;
      const result = await runTrace(target, request, environment, signal, () => undefined);
      const took = toSeconds(elapsed(started, environment.clock.now()));
      this.#metrics.traced(result, took);
      log.debug({ target, took }, 'traced');
      json(response, 200, toCompatible(result, { skipPrivateHops, extended }));
    } catch (error) {
      if (limit.aborted) throw traceError('TIMEOUT', `not done within ${toSeconds(timeLimit)} s`, error);
      throw error;
    } finally {
      this.#admission.leave();
    }
  }

  /** Compares digests in constant time: neither length nor prefix of the token shows. */
  #authorize(request: IncomingMessage): void {
    if (this.#tokenDigest === undefined) return;
    const given = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
    if (!this.#options.crypto.equal(digest(given), this.#tokenDigest)) {
      throw new Refusal(401, 'UNAUTHORIZED', 'a bearer token is needed');
    }
  }

  #refuse(response: ServerResponse, error: unknown, url: string): void {
    const code = error instanceof Refusal ? error.code : traceErrorCode(error);
    const message = error instanceof Error ? error.message : String(error);
    const status = error instanceof Refusal ? error.status : code === 'INVALID_REQUEST' ? 400 : 500;
    this.#options.log[status === 500 ? 'warn' : 'debug']({ url: url.slice(0, 200), code }, message);
    if (response.destroyed || response.headersSent) return;
    if (status === 401) response.setHeader('www-authenticate', 'Bearer');
    if (status === 503) response.setHeader('retry-after', '1');
    json(response, status, { code, message });
  }
}

/** As Go prints a duration: `1h2m3.5s`, `2m0s`, `1.5s`, `250ms`; to the microsecond. */
export function goDuration(span: Duration): string {
  const micros = Math.round(span);
  if (micros === 0) return '0s';
  if (micros < 1_000) return `${micros}µs`;
  if (micros < 1_000_000) return `${micros / 1_000}ms`;
  const minutes = Math.floor(micros / 60_000_000);
  const seconds = (micros - minutes * 60_000_000) / 1_000_000;
  if (minutes === 0) return `${seconds}s`;
  const hours = Math.floor(minutes / 60);
  return hours === 0 ? `${minutes}m${seconds}s` : `${hours}h${minutes % 60}m${seconds}s`;
}

function digest(text: string): Uint8Array {
  return createHash('sha256').update(text).digest();
}

function json(response: ServerResponse, status: number, body: object, headersOnly = false): void {
  send(response, status, 'application/json', `${encodeJson(body)}\n`, headersOnly);
}

/** With the headers of Go's http.Error. */
function plain(response: ServerResponse, status: number, text: string): void {
  response.setHeader('x-content-type-options', 'nosniff');
  send(response, status, 'text/plain; charset=utf-8', text);
}

function isOne({ method }: IncomingMessage, allowed: readonly string[]): boolean {
  return method !== undefined && allowed.includes(method);
}

function notAllowed(response: ServerResponse, allow: string): void {
  response.setHeader('allow', allow);
  plain(response, 405, 'Method not allowed\n');
}

function send(response: ServerResponse, status: number, type: string, body: string, headersOnly = false): void {
  if (response.destroyed || response.headersSent) return;
  response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
  response.end(headersOnly ? undefined : body);
}
