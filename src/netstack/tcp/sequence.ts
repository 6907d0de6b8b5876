/**
 * TCP sequence numbers as signed 32-bit integers (every result is `| 0`, so they stay small integers in the engine), and
 * their comparison modulo 2^32: `a` is before `b` when it is less than 2^31 behind it.
 *
 * RFC 9293 §3.4; the same arithmetic serves timestamp values (RFC 7323 §5.2).
 */

export const seqBefore = (a: number, b: number): boolean => ((a - b) | 0) < 0;
export const seqAfter = (a: number, b: number): boolean => ((a - b) | 0) > 0;
export const seqAtOrBefore = (a: number, b: number): boolean => ((a - b) | 0) <= 0;
export const seqAtOrAfter = (a: number, b: number): boolean => ((a - b) | 0) >= 0;
export const seqMax = (a: number, b: number): number => (((a - b) | 0) > 0 ? a : b);
export const seqMin = (a: number, b: number): number => (((a - b) | 0) < 0 ? a : b);
