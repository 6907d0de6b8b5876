/**
 * The control listener of a relay host: enrolment and renewal over HTTPS, with the relay's own certificate.
 *
 *   POST /api/v1/enrol    {proof, csr}                 → 200 {certificate, policy}
 *   POST /api/v1/renew    envelope {time, proof, csr}  → 200 {certificate, policy}
 *   POST /api/v1/renew-relay  envelope {time, certificate} → 200 {certificate, policy}
 *   all three, at a relay without the CA's key       → 421 NOT_HERE: another relay is asked
 *   GET  /healthz                                      → 200 {status: "ok"}
 *   anything that fails                                → 4xx / 5xx {error: {code, message}}
 *
 * RFC 9110, RFC 8446. Callers are anybody on the Internet: bodies, times, connections and requests per source are bounded.
 */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { SocketAddress } from '../base/address.js';
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import { type Clock, Seconds, toMillis } from '../base/time.js';
import type { RelayFolder } from '../identity/relay-folder.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import { Enrolment, type Issued } from './enrolment.js';
import { SourceLimits, sourceOf } from './source-limits.js';
import { UsedInvitations } from './used.js';

const MAX_BODY_BYTES = 64 * 1024;
/** A request must be complete, headers and body, in this time (slow senders hold a connection no longer). */
const REQUEST_TIMEOUT = Seconds(10);
/** Connections at once; each costs a TLS handshake and some kilobytes. */
const MAX_CONNECTIONS = 1024;
/** How long `stop` lets answers under way finish. */
const STOP_GRACE = Seconds(0.5);

/** What a resource asks the judge for. */
const KINDS: ReadonlyMap<string | undefined, 'enrol' | 'renew' | 'renewRelay'> = new Map([
  ['/api/v1/enrol', 'enrol'],
  ['/api/v1/renew', 'renew'],
  ['/api/v1/renew-relay', 'renewRelay'],
]);

/** Where events go. */
export interface ControlLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface ControlOptions {
  readonly folder: RelayFolder;
  readonly listen: SocketAddress;
  readonly policy: PolicyKeeper;
  readonly crypto: Crypto;
  readonly clock: Clock;
  readonly log: ControlLog;
}

export interface ControlServer {
  /** Resolves with the bound address once it listens. @throws SallyportError LISTEN_FAILED (environment). */
  start(): Promise<{ readonly host: string; readonly port: number }>;
  /** Resolves within 1 s; connections still open then are cut. */
  stop(): Promise<void>;
  /** New certificate for new connections. */
  setCertificate(certificatePem: string): void;
  /** For further handlers on the same port (`upgrade`). */
  readonly server: HttpsServer;
}

/** @throws SallyportError USED_UNREADABLE (environment). */
export function createControlServer(options: ControlOptions): ControlServer {
  const { folder, policy, crypto } = options;
  const used = UsedInvitations.open(join(folder.dir, 'used.jsonl'));
  const { policyKey, authority } = folder;
  const enrolment = authority && new Enrolment({ crypto, policy, used, policyKey, authority });
  return new Listener(options, enrolment, used);
}

class Listener implements ControlServer {
  readonly server: HttpsServer;
  readonly #options: ControlOptions;
  readonly #enrolment: Enrolment | undefined;
  readonly #used: UsedInvitations;
  readonly #limits = new SourceLimits();
  readonly #sockets = new Set<Socket>();
  #stopping: Promise<void> | undefined;

  constructor(options: ControlOptions, enrolment: Enrolment | undefined, used: UsedInvitations) {
    this.#options = options;
    this.#enrolment = enrolment;
    this.#used = used;
    const timeout = toMillis(REQUEST_TIMEOUT);
    this.server = createServer({
      ...this.#tls(options.folder.certificatePem),
      minVersion: 'TLSv1.3',
      handshakeTimeout: timeout,
      requestTimeout: timeout,
      headersTimeout: timeout,
      connectionsCheckingInterval: 1_000,
      keepAliveTimeout: timeout,
      maxHeaderSize: 16 * 1024,
    });
    this.server.maxConnections = MAX_CONNECTIONS;
    this.server.on('request', (request, response) => void this.#handle(request, response));
    // Scanners and broken handshakes are everyday business of an open port.
    this.server.on('tlsClientError', () => undefined);
    this.server.on('clientError', (_error, socket) => socket.destroy());
    this.server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  start(): Promise<{ host: string; port: number }> {
    const { listen } = this.#options;
    return new Promise((resolve, reject) => {
      const failed = (cause: NodeJS.ErrnoException): void => {
        const hint =
          cause.code === 'EADDRINUSE' ? 'another program has this port: choose one with --control' : undefined;
        const options = hint === undefined ? { cause } : { cause, hint };
        reject(
          new SallyportError('environment', 'LISTEN_FAILED', `cannot listen on ${listen}: ${cause.message}`, options),
        );
      };
      this.server.once('error', failed);
      // `[::]` takes IPv4 too: nodes of either family enrol, and reach the relay over TCP, at one port.
      this.server.listen({ host: `${listen.ip}`, port: listen.port, ipv6Only: false }, () => {
        this.server.off('error', failed);
        this.server.on('error', (error) => this.#options.log.error({ err: error }, 'control listener'));
        const bound = this.server.address() as { address: string; port: number };
        resolve({ host: bound.address, port: bound.port });
      });
    });
  }

  stop(): Promise<void> {
    this.#stopping ??= new Promise<void>((resolve) => {
      const cut = setTimeout(() => {
        for (const socket of this.#sockets) socket.destroy();
      }, toMillis(STOP_GRACE));
      this.server.close(() => {
        clearTimeout(cut);
        this.#used.close();
        resolve();
      });
      this.server.closeIdleConnections();
    });
    return this.#stopping;
  }

  setCertificate(certificatePem: string): void {
    this.server.setSecureContext(this.#tls(certificatePem));
  }

  #tls(certificatePem: string): { key: string; cert: string } {
    const { keyPem, caPem } = this.#options.folder;
    return { key: keyPem, cert: `${certificatePem}${caPem}` };
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { clock, log } = this.#options;
    const source = sourceOf(request);
    const path = (request.url ?? '').split('?', 1)[0];
    try {
      if (path === '/healthz' && request.method === 'GET') return answer(response, 200, { status: 'ok' });
      const kind = KINDS.get(path);
      if (kind === undefined) throw new HttpError(404, 'NOT_FOUND', 'no such resource');
      if (request.method !== 'POST') throw new HttpError(405, 'METHOD', 'only POST');
      if (!this.#limits.take(clock.now(), source)) throw new HttpError(429, 'RATE_LIMITED', 'too many requests');
      const enrolment = this.#enrolment;
      if (enrolment === undefined) throw new HttpError(421, 'NOT_HERE', 'nodes enrol and renew at another relay');
      const body = await readJsonBody(request);
      const issued: Issued = await enrolment[kind](body, clock.wall());
      const { role, name, invitationId } = issued.identity;
      log.info(
        { source, role, name, invitation: invitationId },
        kind === 'enrol' ? 'node enrolled' : 'certificate renewed',
      );
      answer(response, 200, { certificate: issued.certificate, policy: issued.policy });
    } catch (error) {
      const { status, code, message } = describe(error);
      if (status >= 500) log.error({ source, path, code, err: error }, message);
      else log.warn({ source, path, code }, message);
      answer(response, status, { error: { code, message } });
    }
  }
}

class HttpError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

async function readJsonBody(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MAX_BODY_BYTES) throw new HttpError(413, 'TOO_LARGE', `a request has at most ${MAX_BODY_BYTES} bytes`);
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString('utf8'));
  } catch {
    throw new HttpError(400, 'REQUEST_MALFORMED', 'the request is not JSON');
  }
}

function answer(response: ServerResponse, status: number, body: object): void {
  if (response.destroyed || response.headersSent) return;
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    // The rest of a body that was refused is not read.
    ...(status >= 400 ? { connection: 'close' } : {}),
  });
  response.end(text);
}

/** Status and error of the answer. Our own errors say nothing about the inside. */
function describe(error: unknown): { status: number; code: string; message: string } {
  if (error instanceof HttpError) return error;
  if (!(error instanceof SallyportError)) return { status: 500, code: 'INTERNAL', message: 'internal error' };
  const { code, message } = error;
  if (error.kind !== 'peer') return { status: 503, code, message };
  if (code === 'TOKEN_USED') return { status: 409, code, message };
  return { status: code.endsWith('_MALFORMED') ? 400 : 403, code, message };
}
