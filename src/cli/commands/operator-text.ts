/**
 * Texts and values that the operator's commands share.
 */
import { SallyportError } from '../../base/error.js';
import { Days, type Duration } from '../../base/time.js';
import { parseSpan } from '../span.js';

/** A token that works for longer would be a password. */
const MAX_EXPIRY = Days(90);

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
    ? `Policy version ${version} signed and copied to relay/policy.json; a running relay takes it on SIGHUP.`
    : `Policy version ${version} signed: copy operator/policy.json to the relay host's folder, then SIGHUP the relay.`;
}
