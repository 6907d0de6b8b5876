/**
 * Time as the pure floors know it: a point on the monotonic clock, a span, and a point on the wall clock, as three types
 * that do not mix. Nothing here reads a clock; drivers pass `now` in.
 */

declare const instantBrand: unique symbol;
declare const durationBrand: unique symbol;
declare const wallBrand: unique symbol;

/** A point on the monotonic clock, in microseconds since an arbitrary origin (fractions allowed). */
export type Instant = number & { readonly [instantBrand]: true };
/** A span of time in microseconds (fractions allowed). */
export type Duration = number & { readonly [durationBrand]: true };
/** A point on the wall clock: milliseconds since 1970-01-01T00:00:00Z. */
export type WallTime = number & { readonly [wallBrand]: true };

export const Micros = (n: number): Duration => n as Duration;
export const Millis = (n: number): Duration => (n * 1_000) as Duration;
export const Seconds = (n: number): Duration => (n * 1_000_000) as Duration;
export const Minutes = (n: number): Duration => (n * 60_000_000) as Duration;
export const Hours = (n: number): Duration => (n * 3_600_000_000) as Duration;
export const Days = (n: number): Duration => (n * 86_400_000_000) as Duration;

/** The monotonic clock's reading `micros` after its origin. */
export const instantAt = (micros: number): Instant => micros as Instant;
/** A wall-clock reading in milliseconds since the epoch. */
export const wallAt = (millis: number): WallTime => millis as WallTime;

/** `at` + `span`. */
export const later = (at: Instant, span: Duration): Instant => (at + span) as Instant;
/** The span from `from` to `to`; negative if `to` is earlier. */
export const elapsed = (from: Instant, to: Instant): Duration => (to - from) as Duration;
/** `at` + `span` on the wall clock. */
export const wallLater = (at: WallTime, span: Duration): WallTime => (at + span / 1_000) as WallTime;
/** The earlier of two instants, either of which may be absent. */
export const earliest = (a: Instant | undefined, b: Instant | undefined): Instant | undefined =>
  a === undefined ? b : b === undefined ? a : a < b ? a : b;

export const toMillis = (span: Duration): number => span / 1_000;
export const toSeconds = (span: Duration): number => span / 1_000_000;
export const scale = (span: Duration, factor: number): Duration => (span * factor) as Duration;

/** The two clocks a driver reads once per turn and hands to the cores. */
export interface Clock {
  now(): Instant;
  wall(): WallTime;
}
