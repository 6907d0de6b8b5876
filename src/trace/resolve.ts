/**
 * From a target to one address, once per trace: a literal as it is, a name to the first address of the wanted family in the system's
 * order (getaddrinfo: hosts file included).
 */
import { lookup } from 'node:dns/promises';
import { IpAddress } from '../base/address.js';
import { traceError } from './error.js';
import type { Target } from './target.js';

/** Every address of a name, of both families, in the system's order. Rejects with the system's error. */
export type Lookup = (host: string) => Promise<readonly string[]>;

export const systemLookup: Lookup = async (host) =>
  (await lookup(host, { all: true, order: 'verbatim' })).map((one) => one.address);

/** @throws SallyportError DNS; TIMEOUT when `signal` is aborted. */
export async function resolveTarget(
  target: Target,
  ipv6: boolean,
  lookUp: Lookup,
  signal: AbortSignal,
): Promise<IpAddress> {
  if (target.literal !== undefined) return target.literal;
  const found = await unlessAborted(lookUp(target.host), signal).catch((cause: unknown) => {
    if (signal.aborted) throw cause;
    throw failed(target.host, textOf(cause, target.host), cause);
  });
  // An address with a zone is link-local: no name leads to one that could be used without saying so.
  const addresses = found.map((text) => IpAddress.parse(text)).filter((ip) => ip !== undefined);
  if (addresses.length === 0) throw failed(target.host, 'no addresses found');
  const first = addresses.find((ip) => ip.isV4 !== ipv6);
  if (first === undefined) throw failed(target.host, `no ${ipv6 ? 'IPv6' : 'IPv4'} address found`);
  return first;
}

/** The promise, or TIMEOUT as soon as `signal` is aborted. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(cancelled(signal));
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** The error of a trace whose signal was aborted. */
export function cancelled(signal: AbortSignal): Error {
  return traceError('TIMEOUT', 'the trace was cancelled', signal.reason);
}

function failed(host: string, why: string, cause?: unknown): Error {
  return traceError('DNS', `failed to resolve host "${host}": ${why}`, cause);
}

function textOf(error: unknown, host: string): string {
  const code = (error as { readonly code?: unknown } | undefined)?.code;
  if (code === 'ENOTFOUND') return `lookup ${host}: no such host`;
  if (code === 'EAI_AGAIN') return `lookup ${host}: the name servers do not answer`;
  return error instanceof Error ? error.message : String(error);
}
