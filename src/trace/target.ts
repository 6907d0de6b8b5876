/**
 * What a trace goes to, as people write it: `example.com`, `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`, `example.com:443`,
 * `[2001:db8::1]:443`. A port in the target wins over the one given beside it.
 */
import { IpAddress } from '../base/address.js';
import { traceError } from './error.js';

/** RFC 1035 §2.3.4. */
const MAX_NAME = 253;

export interface Target {
  /** The text as given. */
  readonly text: string;
  /** A name, or the literal's text without brackets and zone. */
  readonly host: string;
  readonly literal: IpAddress | undefined;
  /** The device a link-local literal names (RFC 4007 §11). */
  readonly zone: string | undefined;
  readonly port: number | undefined;
}

/** @throws SallyportError INVALID_REQUEST. */
export function parseTarget(text: string): Target {
  const { host, port } = splitPort(text);
  if (host === '' || host.length > MAX_NAME || /[\s\p{Cc}/\\@[\]]/u.test(host))
    throw invalid(text, 'malformed address');
  const at = host.indexOf('%');
  const bare = at < 0 ? host : host.slice(0, at);
  const literal = IpAddress.parse(bare);
  if (literal === undefined && (at >= 0 || host.includes(':'))) throw invalid(text, 'malformed address');
  const zone = at < 0 ? undefined : host.slice(at + 1);
  if (zone === '') throw invalid(text, 'empty zone');
  return { text, host: literal === undefined ? host : bare, literal, zone, port };
}

/** @throws SallyportError INVALID_REQUEST. */
export function checkPort(port: number): number {
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return port;
  throw traceError('INVALID_REQUEST', `invalid port: ${port}`);
}

/** A port is there after `]:`, or after the only colon. */
function splitPort(text: string): { readonly host: string; readonly port: number | undefined } {
  const bracket = /^\[([^[\]]*)\](?::(.*))?$/su.exec(text);
  if (bracket !== null) return { host: v6Only(text, bracket[1]!), port: parsePort(text, bracket[2]) };
  const colon = text.indexOf(':');
  if (colon < 0 || text.includes(':', colon + 1)) return { host: text, port: undefined };
  return { host: text.slice(0, colon), port: parsePort(text, text.slice(colon + 1)) };
}

function v6Only(text: string, host: string): string {
  if (!host.includes(':')) throw invalid(text, 'brackets are for IPv6 addresses');
  return host;
}

function parsePort(text: string, port: string | undefined): number | undefined {
  if (port === undefined) return undefined;
  if (!/^\d{1,9}$/.test(port)) throw invalid(text, 'malformed port');
  return checkPort(Number(port));
}

function invalid(text: string, why: string): Error {
  return traceError('INVALID_REQUEST', `invalid target: ${JSON.stringify(text)}: ${why}`);
}
