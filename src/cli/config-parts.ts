/** Pieces of the configuration schemas that several roles share. */
import * as v from 'valibot';
import { Prefix } from '../base/address.js';
import { SallyportError } from '../base/error.js';
import { parseSpan } from './span.js';

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'silent'] as const;

const TEXT = 'must be a text that is not empty';
const SPAN = 'must be a number with ms, s, m, h or d, for example 30s, at most 24d';
const DEVICE = 'must be an interface name of 1–15 characters';
const CIDR = 'must be a prefix, for example 192.168.1.0/24 or fd00::/8';

/** A check that a parser takes a text: it returns undefined or throws a SallyportError when it does not. */
export const accepts = (parse: (text: string) => unknown) => (text: string) => {
  try {
    return parse(text) !== undefined;
  } catch (error) {
    if (error instanceof SallyportError) return false;
    throw error;
  }
};

export const text = v.pipe(v.string(TEXT), v.nonEmpty(TEXT));
export const flag = v.boolean('must be true or false');
const span = v.pipe(v.string(SPAN), v.check(accepts(parseSpan), SPAN));
export const cidr = v.pipe(v.string(CIDR), v.check(accepts(Prefix.parse), CIDR));
export const deviceName = v.pipe(v.string(DEVICE), v.regex(/^[A-Za-z0-9_.-]{1,15}$/, DEVICE));

/** Keys of every role. */
export const common = {
  $schema: v.optional(v.pipe(text, v.description('For editors: where the JSON Schema of this file is.'))),
  dir: v.optional(v.pipe(text, v.description('State folder.'))),
  logLevel: v.optional(
    v.pipe(
      v.picklist(LOG_LEVELS, `must be one of ${LOG_LEVELS.join(', ')}`),
      v.description('What is logged: this level and the more serious ones.'),
    ),
    'info',
  ),
  exitAfter: v.optional(v.pipe(span, v.description('Ends in an orderly way after this time.'))),
};
