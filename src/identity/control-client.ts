/**
 * One request to a relay's control listener, over TLS 1.3 pinned to the network's CA and to the relay's own name: no public
 * CA and no name service is believed.
 *
 *   POST {control}/api/v1/enrol | /api/v1/renew   JSON → JSON   (errors: {error: {code, message}})
 *   GET  {control}/healthz                        whether it is there, and its clock (the Date header)
 *
 * RFC 9110, RFC 8446, RFC 9525 §6 (the server name is NAME.relay.NETWORK).
 */
import { request } from 'node:https';
import { type ConnectionOptions, connect as tlsConnect } from 'node:tls';
import * as v from 'valibot';
import { SallyportError } from '../base/error.js';
import { Seconds, toMillis, type WallTime, wallAt } from '../base/time.js';
import { parseWith } from '../policy/envelope.js';
import { dnsName } from '../policy/names.js';
import type { RelayContact } from '../policy/relay-contact.js';
import { connectThrough, proxyFor } from './http-proxy.js';

/** RFC 9110 §15.5.20: this host does not answer for that. */
const MISDIRECTED = 421;
/** Whole exchange with one relay; then the next is tried. */
const TIMEOUT = Seconds(10);
/** Longest answer: a certificate, the CA and a policy of the largest size. */
const MAX_ANSWER_BYTES = 9 * 1024 * 1024;

const ErrorBody = v.object({ error: v.object({ code: v.string(), message: v.string() }) });
const Certified = v.object({ certificate: v.string(), policy: v.nullish(v.unknown()) });
/** What `enrol` and `renew` answer: a certificate in PEM and the relay's current signed policy. */
export type Certified = v.InferOutput<typeof Certified>;

export interface ControlTarget {
  readonly network: string;
  readonly relays: readonly RelayContact[];
  readonly caPem: string;
}

/**
 * Asks the relays in order; the first that enrols nodes and answers decides.
 * @throws SallyportError ENROL_UNREACHABLE (environment) when none answers, CLOCK_WRONG (environment), ENROL_UNTRUSTED (peer) when one is there but its
 * certificate is not of this network; else (peer) the code the relay answered.
 */
export async function askControl(target: ControlTarget, path: string, body: unknown): Promise<Certified> {
  let failure: unknown;
  for (const relay of target.relays) {
    let answer: { status: number; text: string };
    try {
      answer = await exchange(target, relay, path, JSON.stringify(body));
    } catch (error) {
      // That somebody else answers is worth more than that somebody is down.
      if (failure === undefined || isCertificateError(error)) failure = error;
      continue;
    }
    // A relay without the CA's key: another one has it.
    if (answer.status !== MISDIRECTED) return judge(answer.status, answer.text);
    failure ??= new Error('no relay that enrols nodes answers');
  }
  const where = target.relays.map((relay) => relay.control).join(', ');
  const message = failure instanceof Error ? failure.message : String(failure);
  if (isClockError(failure)) {
    const now = new Date().toISOString().slice(0, 16);
    throw new SallyportError(
      'environment',
      'CLOCK_WRONG',
      `by this machine’s clock (${now}Z) ${where} has no valid certificate: ${message}`,
      {
        cause: failure,
        hint: 'set the clocks of this machine and of the relay right',
      },
    );
  }
  if (isCertificateError(failure)) {
    throw new SallyportError('peer', 'ENROL_UNTRUSTED', `${where} is not a relay of ${target.network}: ${message}`, {
      cause: failure,
      hint: 'check the address, or ask the operator for a new token',
    });
  }
  throw new SallyportError('environment', 'ENROL_UNREACHABLE', `no answer from ${where}: ${message}`, {
    cause: failure,
    hint: 'is the relay running, and is its control port reachable from here?',
  });
}

/**
 * The clock of a relay's control listener, to the second; undefined when its answer has none.
 * @throws Error of the connection, TLS or proxy.
 */
export async function controlClock(target: ControlTarget, relay: RelayContact): Promise<WallTime | undefined> {
  const { date } = await exchange(target, relay, '/healthz', undefined);
  const time = Date.parse(date ?? '');
  return Number.isNaN(time) ? undefined : wallAt(time);
}

function judge(status: number, text: string): Certified {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SallyportError('peer', 'ENROL_ANSWER', `the relay answered ${status} without JSON`, { cause });
  }
  if (status === 200) return parseWith(Certified, value, 'ENROL_ANSWER', 'the relay’s answer');
  const { error } = parseWith(ErrorBody, value, 'ENROL_ANSWER', `the relay’s answer ${status}`);
  const code = /^[A-Z][A-Z0-9_]{1,59}$/.test(error.code) ? error.code : 'ENROL_ANSWER';
  throw new SallyportError('peer', code, printable(error.message), { hint: hintFor(code) });
}

interface Exchanged {
  readonly status: number;
  readonly text: string;
  readonly date: string | undefined;
}

/** @param body undefined: a GET. */
async function exchange(
  target: ControlTarget,
  relay: RelayContact,
  path: string,
  body: string | undefined,
): Promise<Exchanged> {
  const url = new URL(path, relay.control);
  const tls: ConnectionOptions = {
    ca: [target.caPem],
    servername: dnsName(target.network, 'relay', relay.name),
    minVersion: 'TLSv1.3',
  };
  const proxy = proxyFor(url, process.env);
  const through = proxy && (await connectThrough(proxy, url));
  return new Promise<Exchanged>((resolve, reject) => {
    const outgoing = request(url, {
      method: body === undefined ? 'GET' : 'POST',
      ...tls,
      ...(through === undefined
        ? { agent: false }
        : { createConnection: () => tlsConnect({ socket: through, ...tls }) }),
      headers:
        body === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
    });
    const timer = setTimeout(() => outgoing.destroy(new Error('timed out')), toMillis(TIMEOUT));
    const settle = (finish: () => void): void => {
      clearTimeout(timer);
      finish();
    };
    outgoing.on('error', (error) => settle(() => reject(error)));
    outgoing.on('response', (answer) => {
      const parts: Buffer[] = [];
      let size = 0;
      answer.on('data', (part: Buffer) => {
        parts.push(part);
        size += part.length;
        if (size > MAX_ANSWER_BYTES) outgoing.destroy(new Error('the answer is too long'));
      });
      answer.on('error', (error) => settle(() => reject(error)));
      answer.on('end', () =>
        settle(() =>
          resolve({
            status: answer.statusCode ?? 0,
            text: Buffer.concat(parts).toString('utf8'),
            date: answer.headers.date,
          }),
        ),
      );
    });
    outgoing.end(body);
  });
}

/** Errors of node:tls and OpenSSL that mean: somebody is there, but not who we want. */
function isCertificateError(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? '';
  return /CERT|ISSUER|SELF_SIGNED|VERIFY|INVALID_PURPOSE|INVALID_CA/.test(code);
}

/** A certificate outside its time: nearly always a clock that is wrong, as relays renew theirs by themselves. */
function isClockError(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | undefined)?.code ?? '';
  return code === 'CERT_NOT_YET_VALID' || code === 'CERT_HAS_EXPIRED';
}

/** The text comes from outside and goes to a terminal. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 300);
}

function hintFor(code: string): string {
  if (code === 'RATE_LIMITED') return 'try again in a minute';
  if (code === 'RENEWAL_CLOCK') return 'set the clocks of this machine and of the relay right';
  if (code === 'TOKEN_EXPIRED') {
    return 'ask the operator for a new token: sallyport invite; or is the clock here or at the relay wrong?';
  }
  return 'ask the operator for a new token: sallyport invite';
}
