/**
 * Texts and values that the operator's commands share.
 */
import { SallyportError } from '../../base/error.js';
import { Days, type Duration } from '../../base/time.js';
import { parseSpan } from '../span.js';

/** A token that works for longer would be a password. */
const MAX_EXPIRY = Days(90);

/** Ports of a relay unless told otherwise (protocol, head). */
export const RELAY_PORT = 4433;
export const CONTROL_PORT = 8443;

/** `HOST[:PORT]`, `[V6][:PORT]`. @throws SallyportError ADDRESS_INVALID (caller). */
export function hostPort(text: string, port: number, flag: string): { host: string; text: string } {
  const match = /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/.exec(text);
  const number = match?.[2] === undefined ? port : Number(match[2]);
  if (match === null || number < 1 || number > 65535) {
    throw new SallyportError('caller', 'ADDRESS_INVALID', `${flag} ${text} is not HOST:PORT`, {
      hint: 'for example relay.example.com:4433 or [2001:db8::1]:4433',
    });
  }
  return { host: match[1]!, text: `${match[1]}:${number}` };
}

/** `30m`, `1h`, `7d`. @throws SallyportError DURATION_INVALID (caller). */
export function parseExpiry(text: string): Duration {
  const span = parseSpan(text, MAX_EXPIRY);
  if (span > 0) return span;
  throw new SallyportError('caller', 'DURATION_INVALID', 'a token needs some time to be used', {
    hint: 'for example 30m, 1h, 7d',
  });
}

/** What happened to a newly signed policy. */
export function publishNote({ version, copied }: { readonly version: number; readonly copied: boolean }): string {
  return copied
    ? `Policy version ${version} signed and copied to the relays’ folders here; running relays take it within seconds.`
    : `Policy version ${version} signed: copy operator/policy.json to every relay host's folder, then SIGHUP the relay.`;
}
