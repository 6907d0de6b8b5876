/** Spans of time as people write them on command lines and in configuration files: `500ms`, `30s`, `5m`, `1h`, `2d`. */
import { SallyportError } from '../base/error.js';
import { Days, type Duration, Hours, Millis, Minutes, Seconds } from '../base/time.js';

const UNITS: Readonly<Record<string, (n: number) => Duration>> = {
  ms: Millis,
  s: Seconds,
  m: Minutes,
  h: Hours,
  d: Days,
};
/** Timers of the system count milliseconds in 31 bits. */
const LONGEST_TIMER = Days(24);

/** @throws SallyportError DURATION_INVALID (caller): another text, or longer than `longest`. */
export function parseSpan(text: string, longest: Duration = LONGEST_TIMER): Duration {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  const span = match === null ? undefined : UNITS[match[2]!]!(Number(match[1]));
  if (span === undefined || span > longest) {
    const most = Math.floor(longest / Days(1));
    throw new SallyportError('caller', 'DURATION_INVALID', `"${text}" is not a duration of at most ${most}d`, {
      hint: 'a number with ms, s, m, h or d, for example 30s, 1h, 7d',
    });
  }
  return span;
}
