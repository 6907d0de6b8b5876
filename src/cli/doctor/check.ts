/** What `sallyport doctor` finds out, check by check. Numbers are stable: scripts and people refer to them. */
import { describeError, SallyportError } from '../../base/error.js';

/** warn: it works, though not as well as it could; skip: it could not be looked at, or does not matter here. */
export type Verdict = 'ok' | 'warn' | 'fail' | 'skip';

export interface Finding {
  readonly verdict: Verdict;
  /** What was seen. */
  readonly evidence: string;
  /** What to do about it. */
  readonly fix?: string | undefined;
}

export interface Check extends Finding {
  /** SP001 … */
  readonly id: string;
  readonly name: string;
}

export const ok = (evidence: string): Finding => ({ verdict: 'ok', evidence });
export const skip = (evidence: string): Finding => ({ verdict: 'skip', evidence });
export const warn = (evidence: string, fix?: string): Finding => ({ verdict: 'warn', evidence, fix });
export const fail = (evidence: string, fix?: string): Finding => ({ verdict: 'fail', evidence, fix });

/** A finding of what was thrown: its message, and its hint as what to do. */
export function failure(error: unknown, verdict: 'warn' | 'fail' = 'fail'): Finding {
  const known = error instanceof SallyportError ? error : undefined;
  return { verdict, evidence: known?.message ?? describeError(error), fix: known?.hint };
}
