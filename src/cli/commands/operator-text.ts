/**
 * Texts and values that the operator's commands share.
 */
import { SallyportError } from '../../base/error.js';
import { Days, type Duration, Hours, Minutes, Seconds } from '../../base/time.js';

/** A token that works for longer would be a password. */
const MAX_EXPIRY = Days(90);
const UNITS = { s: Seconds, m: Minutes, h: Hours, d: Days } as const;

/** `30m`, `1h`, `7d`. @throws SallyportError DURATION_INVALID (caller). */
export function parseExpiry(text: string): Duration {
  const match = /^(\d{1,6})([smhd])$/.exec(text);
  const span = match === null ? undefined : UNITS[match[2] as keyof typeof UNITS](Number(match[1]));
  if (span === undefined || span <= 0 || span > MAX_EXPIRY) {
    throw new SallyportError('caller', 'DURATION_INVALID', `"${text}" is not a duration of at most 90d`, {
      hint: 'for example 30m, 1h, 7d',
    });
  }
  return span;
}

/** What happened to a newly signed policy. */
export function publishNote({ version, copied }: { readonly version: number; readonly copied: boolean }): string {
  return copied
    ? `Policy version ${version} signed and copied to relay/policy.json; a running relay takes it on SIGHUP.`
    : `Policy version ${version} signed: copy operator/policy.json to the relay host's folder, then SIGHUP the relay.`;
}
