/**
 * The numbers of a result, by datadog-traceroute's definitions: loss is a fraction of float32 precision, jitter the mean difference
 * of consecutive answers, a lost probe an RTT of 0.
 */
import type { Hop } from './types.js';

export interface EndToEndStatistics {
  readonly sent: number;
  readonly received: number;
  /** 0 … 1, as a float32 prints. */
  readonly loss: number;
  /** Milliseconds. */
  readonly jitter: number;
  readonly avg: number;
  readonly min: number;
  readonly max: number;
}

export interface HopCount {
  readonly avg: number;
  readonly min: number;
  readonly max: number;
}

/** @param rtts milliseconds in order of completion; 0: lost. No probe at all has no loss either. */
export function endToEndStatistics(rtts: readonly number[]): EndToEndStatistics {
  const answered = rtts.filter((rtt) => rtt > 0);
  const sent = rtts.length;
  const received = answered.length;
  const none = received === 0;
  return {
    sent,
    received,
    loss: sent === 0 ? 0 : asFloat32((sent - received) / sent),
    jitter: jitterOf(answered),
    avg: none ? 0 : sum(answered) / received,
    min: none ? 0 : answered.reduce((a, b) => Math.min(a, b)),
    max: none ? 0 : answered.reduce((a, b) => Math.max(a, b)),
  };
}

/** Milliseconds to the nanosecond: what clocks have behind that is noise. */
export function toNanosecond(milliseconds: number): number {
  return Math.round(milliseconds * 1_000_000) / 1_000_000;
}

/** Mean absolute difference of consecutive RTTs; 0 of fewer than two. */
export function jitterOf(rtts: readonly number[]): number {
  if (rtts.length < 2) return 0;
  let total = 0;
  for (let i = 1; i < rtts.length; i++) total += Math.abs(rtts[i]! - rtts[i - 1]!);
  return total / (rtts.length - 1);
}

/** Per run the 1-based position of the last hop that answered, or the number of hops when none did. */
export function hopCount(runs: readonly (readonly Hop[])[]): HopCount {
  if (runs.length === 0) return { avg: 0, min: 0, max: 0 };
  const counts = runs.map((hops) => {
    const last = hops.findLastIndex((hop) => hop.replies.length > 0);
    return last < 0 ? hops.length : last + 1;
  });
  return { avg: sum(counts) / counts.length, min: Math.min(...counts), max: Math.max(...counts) };
}

/**
 * The number whose shortest text is that of `value` rounded to a float32: what JSON.stringify then prints is what a program with
 * 32-bit floats would.
 */
export function asFloat32(value: number): number {
  const rounded = Math.fround(value);
  // Nine significant digits tell any two float32 apart.
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(rounded.toPrecision(digits));
    if (Math.fround(short) === rounded) return short;
  }
  return Number(rounded.toPrecision(9));
}

function sum(values: readonly number[]): number {
  return values.reduce((total, one) => total + one, 0);
}
