/**
 * The nine links of `degrade`, from good Wi-Fi to one that nobody would keep: rate, round trip, jitter and loss in bursts, as the
 * ladder of iroh's patchbay tests names and sizes them, so that the two compare.
 *
 *   loss: Gilbert–Elliott, everything lost in the bad state, nothing in the good one
 *     leave = 1 / mean burst,   enter = leave · loss / (1 − loss)
 *   queue: one round trip of the rate
 *   jitter: even, around the delay; order is kept
 */
import type { Profile } from '../../test/lab/impaired-link.js';

export interface Rung {
  readonly name: string;
  /** Bits a second. */
  readonly rate: number;
  /** Milliseconds. */
  readonly rtt: number;
  /** Milliseconds, earlier or later. */
  readonly jitter: number;
  /** Share of packets, each way. */
  readonly loss: number;
  /** Packets that are lost in a row, on average. */
  readonly burst: number;
  /** What the peer's own tests do with this rung when the client's link is bad, and when the server's is. */
  readonly peers: { readonly user: string; readonly service: string };
}

const RUNS = 'passes';
const FLAKY = 'left out as flaky';
const FAILS = 'left out, "not yet passing"';
const both = (text: string) => ({ user: text, service: text });

export const LADDER: readonly Rung[] = [
  { name: '0 good-wifi', rate: 100e6, rtt: 16, jitter: 0, loss: 0.001, burst: 5, peers: both(RUNS) },
  { name: '1 congested-wifi', rate: 25e6, rtt: 40, jitter: 12, loss: 0.01, burst: 6, peers: both(RUNS) },
  { name: '2 weak-4g', rate: 8e6, rtt: 90, jitter: 15, loss: 0.02, burst: 8, peers: both(RUNS) },
  { name: '3 slow-3g', rate: 3e6, rtt: 200, jitter: 30, loss: 0.03, burst: 10, peers: both(RUNS) },
  {
    name: '4 congested-cellular',
    rate: 1.5e6,
    rtt: 300,
    jitter: 40,
    loss: 0.05,
    burst: 12,
    peers: { user: RUNS, service: FLAKY },
  },
  { name: '5 very-bad-cellular', rate: 800e3, rtt: 450, jitter: 60, loss: 0.08, burst: 20, peers: both(RUNS) },
  { name: '6 satellite', rate: 25e6, rtt: 600, jitter: 40, loss: 0.015, burst: 6, peers: both(RUNS) },
  { name: '7 barely-usable', rate: 500e3, rtt: 450, jitter: 80, loss: 0.12, burst: 25, peers: both(FAILS) },
  { name: '8 absurd', rate: 256e3, rtt: 800, jitter: 150, loss: 0.25, burst: 40, peers: both(FAILS) },
];

/** Both directions of the rung's link. */
export function profileOf({ rate, rtt, jitter, loss, burst }: Rung): Profile {
  const leave = 1 / burst;
  return {
    rate,
    delay: Math.max(0, rtt / 2 - jitter),
    jitter: 2 * jitter,
    queue: Math.max(LEAST_QUEUE, (rate * rtt) / 8000),
    burst: { enter: (leave * loss) / (1 - loss), leave, loss: 1 },
  };
}

/** Two full packets, in bytes. */
const LEAST_QUEUE = 3000;
