/**
 * How two nodes punch, by the NATs before them: a table (docs/nat.md shows it). Host addresses, mapped ports and IPv6 are punched
 * whatever it says, except where UDP does not pass; the table is about the public addresses that the NATs give.
 *
 *   ease         what it means for a peer's packets
 *   open         nothing translates, or whoever is let in by address finds the one public port (full and restricted cone)
 *   port         one public port, but only the very address and port that were asked get in (port-restricted cone)
 *   strict       another public port for every destination (symmetric)
 *   blocked      no UDP
 *   unknown      not classified: as `port`, with more patience
 *
 * A strict side's packets reach an open one from a port that nobody could foretell, and the open one answers there; a port-restricted
 * one would have had to guess it: the strict side opens many sockets and the other guesses many ports (birthday). Between two strict
 * ones 170,000 guesses would be needed.
 */
import { type Duration, Millis } from '../base/time.js';
import type { NatClass } from './nat-class.js';

export const NAT_EASES = ['open', 'port', 'strict', 'blocked', 'unknown'] as const;
export type NatEase = (typeof NAT_EASES)[number];

export interface PunchPlan {
  /** Rounds in quick succession before the back-off to minutes; 0: no punching at all, straight to the relay. */
  readonly rounds: number;
  /** Between two PUNCHes of a round. */
  readonly spacing: Duration;
  /** Whether the public addresses the NATs give are worth a PUNCH. */
  readonly usesPublic: boolean;
  /** What this side does once, when the rounds were in vain: many sockets, or many ports of the peer. */
  readonly birthday: 'none' | 'sockets' | 'ports';
}

/** Nobody needs haste: the first packets get through. */
const CALM: Duration = Millis(20);
/** Both sides have to have sent before anything gets in: the sooner all pairs are open the better. */
const BRISK: Duration = Millis(10);

const PLANS = {
  /** One side at least lets in whoever comes. */
  easy: { rounds: 2, spacing: CALM, usesPublic: true, birthday: 'none' },
  /** Both know where to send, and only that. */
  cross: { rounds: 3, spacing: BRISK, usesPublic: true, birthday: 'none' },
  /** This side is the one that has many public ports. */
  guessed: { rounds: 1, spacing: BRISK, usesPublic: true, birthday: 'sockets' },
  guessing: { rounds: 1, spacing: BRISK, usesPublic: true, birthday: 'ports' },
  /** Only what is no NAT's address. */
  inside: { rounds: 1, spacing: CALM, usesPublic: false, birthday: 'none' },
  relay: { rounds: 0, spacing: CALM, usesPublic: false, birthday: 'none' },
} as const satisfies Record<string, PunchPlan>;

/** Rows: this side; columns: the peer, in the order of `NAT_EASES`. */
const TABLE: Readonly<Record<NatEase, readonly (keyof typeof PLANS)[]>> = {
  open: ['easy', 'easy', 'easy', 'relay', 'easy'],
  port: ['easy', 'cross', 'guessing', 'relay', 'cross'],
  strict: ['easy', 'guessed', 'inside', 'relay', 'cross'],
  blocked: ['relay', 'relay', 'relay', 'relay', 'relay'],
  unknown: ['easy', 'cross', 'cross', 'relay', 'cross'],
};

export function punchPlan(own: NatEase, peer: NatEase): PunchPlan {
  return PLANS[TABLE[own][NAT_EASES.indexOf(peer)]!];
}

/** How easily a peer gets through the NATs of one address family. */
export function natEase(nat: NatClass | undefined): NatEase {
  if (nat === undefined) return 'unknown';
  if (nat.name === 'UDP blocked') return 'blocked';
  if (nat.mapping === 'address-dependent' || nat.mapping === 'port-dependent') return 'strict';
  if (nat.mapping === 'unknown' || nat.filtering === 'unknown') return 'unknown';
  return nat.filtering === 'port-dependent' ? 'port' : 'open';
}
