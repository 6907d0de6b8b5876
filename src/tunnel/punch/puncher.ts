/**
 * Finds out on which pairs of addresses two nodes reach each other, by requests and answers that carry tokens told through
 * their session. One per session and end; time and randomness are arguments, what it sends goes to `send`.
 *
 *   round ──► a request to each pair, best first, 10 or 20 ms apart (5 when there are many), each again after 100, 200, 400, 800 ms ──► over after 1.6 s more
 *   request with our token ──► answer to its source; pair unproved and nothing under way on it: one request of our own
 *   answer to a request of ours, from the address that it went to ──► pair proved
 *   anything else ──► dropped, counted, never answered
 *
 * A token only authorises attempts; whoever makes a link on a proved pair has to show the session's identities on it.
 */
import { SocketAddress } from '../../base/address.js';
import { TokenBucket } from '../../base/bucket.js';
import type { Counters } from '../../base/counters.js';
import type { Entropy } from '../../base/entropy.js';
import { type Duration, earliest, elapsed, type Instant, later, Millis, Seconds } from '../../base/time.js';
import type { PunchPlan } from '../punch-plan.js';
import type { Candidate } from './candidates.js';
import { type Pair, Pairs } from './pairs.js';
import {
  hasToken,
  isAnswer,
  PUNCH_LENGTH,
  punchEcho,
  punchObserved,
  punchSeq,
  putPunchAnswer,
  putPunchRequest,
  TOKEN_LENGTH,
} from './punch-frame.js';

/** Protocol.md §9: 100 → 1600 ms, doubling; five requests a pair and round. */
const FIRST_RESEND: Duration = Millis(100);
export const REQUESTS_PER_ROUND = 5;
/** Between two requests there is what the plan says, less when there are so many pairs that the first sweep would take longer than this. */
const LEAST_PACE: Duration = Millis(5);
const SWEEP: Duration = Millis(160);
/** Requests a second and session, and answers. */
const REQUEST_RATE = 200;
const ANSWER_RATE = 50;
/** A token that was replaced is honoured for what is on its way. */
const OLD_TOKEN: Duration = Seconds(5);
/** One request of our own per pair and this time is provoked by the peer's. */
const TRIGGER_INTERVAL: Duration = Millis(100);
/** Requests that may be answered at once; an answer to an older one is late. */
const OUTSTANDING = 256;

export const PUNCH_COUNTERS = [
  'sent',
  'answered',
  'received',
  'proved',
  'forged',
  'replayed',
  'malformed',
  'early',
  'overBudget',
  'unknownSources',
  'rounds',
  'birthdays',
] as const;
export type PunchCounter = (typeof PUNCH_COUNTERS)[number];

export interface PuncherParts {
  readonly entropy: Entropy;
  readonly counters: Counters<PunchCounter>;
  /** Sends a frame, which is overwritten afterwards, from socket `socket` (0: that of the family) to the packed address at `index`. */
  readonly send: (frame: Uint8Array, addresses: Uint32Array, index: number, socket: number) => void;
  /** The peer has seen the socket of this pair at `address`, as it says. */
  readonly onSeen: (pair: Pair, address: SocketAddress) => void;
}

/** What a round does beside trying every pair. */
export type RoundPlan = Pick<PunchPlan, 'spacing' | 'usesPublic'>;

export class Puncher {
  readonly pairs = new Pairs();
  readonly #parts: PuncherParts;
  readonly #frame = new Uint8Array(PUNCH_LENGTH);
  #token: Uint8Array | undefined;
  #oldToken: Uint8Array | undefined;
  #oldUntil: Instant = 0 as Instant;
  #peerToken: Uint8Array | undefined;
  readonly #requests = new TokenBucket(REQUEST_RATE, REQUEST_RATE / 4);
  readonly #answers = new TokenBucket(ANSWER_RATE, ANSWER_RATE);
  #seq: number;
  /** Which pair the request with this sequence number (modulo 256) went to, and when; none once it is answered. */
  readonly #outstanding: (Pair | undefined)[] = new Array<Pair | undefined>(OUTSTANDING).fill(undefined);
  readonly #outstandingSeq = new Uint16Array(OUTSTANDING);
  readonly #sentAt = new Float64Array(OUTSTANDING);
  #nextSend: Instant = 0 as Instant;
  #roundEnds: Instant | undefined;
  #spacing: Duration = LEAST_PACE;

  constructor(parts: PuncherParts) {
    this.#parts = parts;
    this.#seq = parts.entropy.uint32() & 0xffff;
  }

  /** Makes a new token of ours, to be told to the peer; the one before is good for 5 s more. */
  renewToken(now: Instant): Uint8Array {
    this.#oldToken = this.#token;
    this.#oldUntil = later(now, OLD_TOKEN);
    this.#token = new Uint8Array(TOKEN_LENGTH);
    this.#parts.entropy.fill(this.#token);
    return this.#token;
  }

  /** Tokens of ours that frames may carry now. */
  tokens(now: Instant): Uint8Array[] {
    const old = now < this.#oldUntil ? this.#oldToken : undefined;
    return [this.#token, old].filter((token) => token !== undefined);
  }

  /** What the peer has told: the token to be used towards it, and where it may be. */
  setPeer(token: Uint8Array, candidates: readonly Candidate[]): void {
    this.#peerToken = token;
    this.pairs.replace(candidates);
  }

  get knowsPeer(): boolean {
    return this.#peerToken !== undefined;
  }

  /** Begins a round at `at`: every pair is tried that the plan does not leave out. */
  start(at: Instant, { spacing, usesPublic }: RoundPlan): void {
    this.#parts.counters.add('rounds');
    this.#nextSend = at;
    this.#spacing = spacing;
    this.pairs.drop((pair) => pair.kind === 'prflx' && pair.state === 'failed');
    for (const pair of this.pairs.all) {
      pair.state = 'waiting';
      pair.sends = 0;
      pair.due = usesPublic || !isTranslated(pair) ? at : undefined;
      pair.provedAt = undefined;
    }
    this.#roundEnds = later(at, (FIRST_RESEND * 2 ** REQUESTS_PER_ROUND) as Duration);
  }

  /** Nothing more is sent unasked. */
  stop(): void {
    this.stopFamily(4);
    this.stopFamily(6);
    this.#roundEnds = undefined;
  }

  /** The same to this address family; the round goes on with the other one. */
  stopFamily(family: 4 | 6): void {
    for (const pair of this.pairs.all) if (pair.address.ip.family === family) pair.due = undefined;
  }

  get isRunning(): boolean {
    return this.#roundEnds !== undefined;
  }

  /** Sends what is due. */
  turn(now: Instant): void {
    while (now >= this.#nextSend) {
      const pair = this.#nextDue(now);
      if (pair === undefined) break;
      if (!this.#requests.take(now)) {
        this.#nextSend = later(now, LEAST_PACE);
        this.#parts.counters.add('overBudget');
        return;
      }
      this.#request(now, pair);
      this.#nextSend = later(now, this.#pace());
    }
    if (this.#roundEnds !== undefined && now >= this.#roundEnds && !this.#hasDue()) {
      this.#roundEnds = undefined;
      for (const pair of this.pairs.all) if (pair.state !== 'proved') pair.state = 'failed';
    }
  }

  nextTimeout(): Instant | undefined {
    let due: Instant | undefined;
    for (const pair of this.pairs.all) due = earliest(due, pair.due);
    if (due === undefined) return this.#roundEnds;
    return (due > this.#nextSend ? due : this.#nextSend) as Instant;
  }

  /**
   * A frame of the right form whose token's first half is ours has come on `socket` from the packed address at `index`. False: it
   * proves nothing.
   */
  receive(
    now: Instant,
    bytes: Uint8Array,
    offset: number,
    sources: Uint32Array,
    index: number,
    socket: number,
  ): boolean {
    const { counters } = this.#parts;
    const isOld = now < this.#oldUntil && this.#oldToken !== undefined && hasToken(bytes, offset, this.#oldToken);
    if (!isOld && (this.#token === undefined || !hasToken(bytes, offset, this.#token))) {
      counters.add('forged');
      return false;
    }
    counters.add('received');
    return isAnswer(bytes, offset)
      ? this.#answer(now, bytes, offset, sources, index, socket)
      : this.#asked(now, bytes, offset, sources, index, socket);
  }

  /** The proved pair with the lowest RTT, IPv6 on a tie, whose proof is at most `age` old, of this address family or of either. */
  best(now: Instant, age: Duration, family?: 4 | 6): Pair | undefined {
    let best: Pair | undefined;
    for (const pair of this.pairs.all) {
      if (family !== undefined && pair.address.ip.family !== family) continue;
      const isFresh = pair.provedAt !== undefined && elapsed(pair.provedAt, now) <= age;
      if (!isFresh || (pair.barredUntil !== undefined && pair.barredUntil > now)) continue;
      if (best === undefined || isBetter(pair, best)) best = pair;
    }
    return best;
  }

  /** One request on a pair that is in no list: it gets there when it is answered. False: not now. */
  guess(now: Instant, pair: Pair): boolean {
    if (this.#peerToken === undefined) return false;
    this.#request(now, pair);
    return true;
  }

  #asked(
    now: Instant,
    bytes: Uint8Array,
    offset: number,
    sources: Uint32Array,
    index: number,
    socket: number,
  ): boolean {
    const { counters, send } = this.#parts;
    if (this.#peerToken === undefined) {
      counters.add('early');
      return false;
    }
    let pair = this.pairs.at(sources, index, socket);
    if (pair === undefined) {
      pair = this.pairs.learn(now, SocketAddress.read(sources, index), socket);
      if (pair === undefined) {
        counters.add('unknownSources');
        return false;
      }
    }
    if (!this.#answers.take(now)) {
      counters.add('overBudget');
      return false;
    }
    pair.heardAt = now;
    putPunchAnswer(this.#frame, this.#peerToken, bytes, offset, sources, index);
    send(this.#frame, sources, index, socket);
    counters.add('answered');
    const isQuiet = pair.lastSent === undefined || elapsed(pair.lastSent, now) >= TRIGGER_INTERVAL;
    if (pair.state !== 'proved' && isQuiet) pair.due = now;
    return true;
  }

  #answer(
    now: Instant,
    bytes: Uint8Array,
    offset: number,
    sources: Uint32Array,
    index: number,
    socket: number,
  ): boolean {
    const seq = punchSeq(bytes, offset);
    const slot = seq % OUTSTANDING;
    const pair = this.#outstanding[slot];
    const sent = this.#sentAt[slot]! as Instant;
    const isAsked =
      pair !== undefined && this.#outstandingSeq[slot] === seq && punchEcho(bytes, offset) === clock(sent);
    if (!isAsked || pair.socket !== socket || !pair.address.matches(sources, index)) {
      this.#parts.counters.add('replayed');
      return false;
    }
    this.#outstanding[slot] = undefined;
    this.pairs.adopt(pair);
    const rtt = elapsed(sent, now);
    pair.rtt = pair.state === 'proved' ? (Math.min(pair.rtt, rtt) as Duration) : rtt;
    pair.state = 'proved';
    pair.provedAt = now;
    pair.heardAt = now;
    pair.due = undefined;
    this.#parts.counters.add('proved');
    this.#parts.onSeen(pair, punchObserved(bytes, offset));
    return true;
  }

  #request(now: Instant, pair: Pair): void {
    const { send, counters } = this.#parts;
    this.#seq = (this.#seq + 1) & 0xffff;
    const slot = this.#seq % OUTSTANDING;
    this.#outstanding[slot] = pair;
    this.#outstandingSeq[slot] = this.#seq;
    this.#sentAt[slot] = now;
    putPunchRequest(this.#frame, this.#peerToken!, this.#seq, clock(now));
    pair.lastSent = now;
    pair.sends++;
    if (pair.state === 'waiting' || pair.state === 'failed') pair.state = 'trying';
    const isLast = this.#roundEnds === undefined || pair.sends >= REQUESTS_PER_ROUND;
    pair.due = isLast ? undefined : later(now, (FIRST_RESEND * 2 ** (pair.sends - 1)) as Duration);
    send(this.#frame, pair.words, 0, pair.socket);
    counters.add('sent');
  }

  #nextDue(now: Instant): Pair | undefined {
    if (this.#peerToken === undefined) return undefined;
    return this.pairs.all.find((pair) => pair.due !== undefined && pair.due <= now);
  }

  #hasDue(): boolean {
    return this.pairs.all.some((pair) => pair.due !== undefined);
  }

  #pace(): Duration {
    const even = SWEEP / Math.max(1, this.pairs.all.length);
    return Math.min(this.#spacing, Math.max(LEAST_PACE, even)) as Duration;
  }
}

/** What the peer's NAT has given towards somebody else. */
function isTranslated({ kind, address }: Pair): boolean {
  return address.ip.isV4 && kind === 'srflx';
}

/** The 32 bits of our clock that travel. */
function clock(at: Instant): number {
  return Math.floor(at) >>> 0;
}

function isBetter(one: Pair, other: Pair): boolean {
  if (one.rtt !== other.rtt) return one.rtt < other.rtt;
  return one.address.ip.family > other.address.ip.family;
}
