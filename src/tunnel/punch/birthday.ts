/**
 * Guessing ports between two NATs of which one gives every destination another port and the other lets in only whom it has sent to:
 *
 *   the end behind the first     opens 256 sockets and sends one PUNCH from each, so that 256 of its public ports wait for the peer
 *   the end behind the second    sends PUNCHes to 1,000 random ports of the peer's public address
 *
 * One of 64,512 ports is hit by a guess with 256 in 64,512; by 1,000 different ones all but once in 54 (1 − (1 − 256/64,512)^1000 =
 * 98 %). Once per pair and network; the socket that was hit stays, the others are closed by who opened them.
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import { type Duration, type Instant, later, Millis, Seconds } from '../../base/time.js';
import { guessPair } from './pairs.js';
import type { Puncher } from './puncher.js';

export const BIRTHDAY_SOCKETS = 256;
export const BIRTHDAY_GUESSES = 1000;
/** 200 a second, a budget of its own. */
const PACE: Duration = Millis(5);
/** All guesses, and what the slower end is late by. */
const LIFE: Duration = Seconds(8);
/** Below are the ports of services; NATs leave them out. */
const FIRST_PORT = 1024;

/** What this end does: many sockets, or many ports of the peer. */
export type BirthdayRole = 'sockets' | 'ports';

export interface BirthdayParts {
  readonly role: BirthdayRole;
  readonly puncher: Puncher;
  readonly entropy: Entropy;
  /** The peer's public IPv4 address: its port counts only for the end with many sockets. */
  readonly target: SocketAddress;
  /** Opens one more IPv4 socket; undefined: there are no more. */
  readonly openSocket: () => number | undefined;
}

export class Birthday {
  sent = 0;
  readonly ends: Instant;
  readonly #parts: BirthdayParts;
  readonly #tried = new Set<number>();
  #next: Instant;

  constructor(start: Instant, parts: BirthdayParts) {
    this.#parts = parts;
    this.#next = start;
    this.ends = later(start, LIFE);
  }

  /** Sends what is due. False: it is over. */
  turn(now: Instant): boolean {
    while (now >= this.#next && this.sent < this.#most()) {
      if (!this.#step(now)) this.sent = this.#most();
      this.#next = later(this.#next, PACE);
    }
    return now < this.ends;
  }

  nextTimeout(): Instant {
    return this.sent < this.#most() ? this.#next : this.ends;
  }

  #most(): number {
    return this.#parts.role === 'sockets' ? BIRTHDAY_SOCKETS : BIRTHDAY_GUESSES;
  }

  #step(now: Instant): boolean {
    const { role, puncher, target, openSocket } = this.#parts;
    const socket = role === 'sockets' ? openSocket() : 0;
    if (socket === undefined) return false;
    const address = role === 'sockets' ? target : new SocketAddress(target.ip, this.#port());
    this.sent++;
    return puncher.guess(now, guessPair(address, socket));
  }

  /** Another one every time. */
  #port(): number {
    for (;;) {
      const port = FIRST_PORT + (this.#parts.entropy.uint32() % (65_536 - FIRST_PORT));
      if (this.#tried.has(port)) continue;
      this.#tried.add(port);
      return port;
    }
  }
}

/** The public IPv4 address of a peer among its candidates, the one the relay saw first. */
export function publicTarget(pairs: Puncher['pairs']): SocketAddress | undefined {
  const isV4 = ({ address }: { readonly address: SocketAddress }): boolean =>
    IpAddress.v4(address.ip.w3).equals(address.ip);
  return (pairs.all.find((pair) => pair.kind === 'srflx' && isV4(pair)) ?? pairs.all.find(isV4))?.address;
}
