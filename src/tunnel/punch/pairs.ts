/**
 * The pairs of one session: a socket of ours with an address of the peer's. A node has one socket per family (others for a short
 * time only, when ports are guessed), so the order of the pairs is that of the peer's priorities (RFC 8445 §6.1.2.3, §6.1.2.4).
 *
 *   waiting ──request sent──► trying ──answer from its address──► proved
 *      ▲                        │ five requests unanswered
 *      └──── next round ── failed
 */
import { type SocketAddress, sameWords } from '../../base/address.js';
import { type Duration, elapsed, type Instant, later, Seconds } from '../../base/time.js';
import { type Candidate, type CandidateKind, candidatePriority, MAX_CANDIDATES } from './candidates.js';

/** Sources a session learns from requests that came, within this time: a token that leaked must not make us spray. */
const MAX_UNKNOWN_SOURCES = 8;
const UNKNOWN_WINDOW: Duration = Seconds(10);
/** Pairs at most: what was told, and what was learnt. */
const MAX_PAIRS = MAX_CANDIDATES + MAX_UNKNOWN_SOURCES;
/** A pair on which a handshake failed is not used for this long, doubling (protocol.md §5). */
const BAR: Duration = Seconds(30);
const MAX_BARS = 6;

export type PairState = 'waiting' | 'trying' | 'proved' | 'failed';

export interface Pair {
  readonly address: SocketAddress;
  /** That address, packed. */
  readonly words: Uint32Array;
  /** Our socket: 0 is the one of the address's family. */
  readonly socket: number;
  kind: CandidateKind;
  priority: number;
  state: PairState;
  /** Requests sent in this round. */
  sends: number;
  /** When the next request is due; undefined: none is. */
  due: Instant | undefined;
  lastSent: Instant | undefined;
  /** When the last request that was answered was sent, when its answer came, and the time between. */
  provedAt: Instant | undefined;
  rtt: Duration;
  /** When the last frame with our token came from there. */
  heardAt: Instant | undefined;
  barredUntil: Instant | undefined;
  bars: number;
}

export class Pairs {
  #pairs: Pair[] = [];
  /** When sources that nobody had told of were learnt. */
  #learnt: Instant[] = [];

  get all(): readonly Pair[] {
    return this.#pairs;
  }

  /** The peer's new list: pairs that stay keep what is known of them, learnt ones stay while there is room. */
  replace(candidates: readonly Candidate[]): void {
    const told = candidates.map((candidate) => {
      const known = this.#pairs.find((pair) => pair.socket === 0 && pair.address.equals(candidate.address));
      if (known === undefined) return makePair(candidate);
      known.kind = candidate.kind;
      known.priority = candidate.priority;
      return known;
    });
    const learnt = this.#pairs.filter((pair) => pair.kind === 'prflx' && !told.includes(pair));
    this.#pairs = [...told, ...learnt].slice(0, MAX_PAIRS);
    this.#order();
  }

  at(words: Uint32Array, index: number, socket: number): Pair | undefined {
    for (const pair of this.#pairs) {
      if (sameWords(words, index, pair.words, 0) && pair.socket === socket) return pair;
    }
    return undefined;
  }

  /** A pair that was guessed and has turned out to be one. */
  adopt(pair: Pair): void {
    if (this.#pairs.includes(pair)) return;
    if (this.#pairs.length >= MAX_PAIRS) this.#pairs.pop();
    this.#pairs.push(pair);
    this.#order();
  }

  /** A source nobody told of; undefined when there have been too many. */
  learn(now: Instant, address: SocketAddress, socket: number): Pair | undefined {
    this.#learnt = this.#learnt.filter((at) => elapsed(at, now) < UNKNOWN_WINDOW);
    if (this.#learnt.length >= MAX_UNKNOWN_SOURCES || this.#pairs.length >= MAX_PAIRS) return undefined;
    this.#learnt.push(now);
    const pair = guessPair(address, socket);
    this.#pairs.push(pair);
    this.#order();
    return pair;
  }

  /** Pairs that `isRefused` names are no longer tried. Returns how many. */
  drop(isRefused: (pair: Pair) => boolean): number {
    const before = this.#pairs.length;
    this.#pairs = this.#pairs.filter((pair) => !isRefused(pair));
    return before - this.#pairs.length;
  }

  /** Nothing that was found out about them holds any more. */
  forget(): void {
    for (const pair of this.#pairs) {
      pair.barredUntil = undefined;
      pair.bars = 0;
      pair.provedAt = undefined;
      if (pair.state === 'proved') pair.state = 'waiting';
    }
  }

  bar(now: Instant, pair: Pair): void {
    pair.barredUntil = later(now, (BAR * 2 ** Math.min(pair.bars, MAX_BARS)) as Duration);
    pair.bars++;
    pair.provedAt = undefined;
    if (pair.state === 'proved') pair.state = 'waiting';
  }

  /** Those on which a handshake failed may be tried once more; if it fails again they wait longer, as if nothing had been. */
  unbar(): void {
    for (const pair of this.#pairs) pair.barredUntil = undefined;
  }

  #order(): void {
    this.#pairs.sort((a, b) => b.priority - a.priority);
  }
}

/** A pair that nobody has told of. */
export function guessPair(address: SocketAddress, socket: number): Pair {
  return makePair({ kind: 'prflx', address, priority: candidatePriority('prflx', address, 0) }, socket);
}

function makePair({ kind, address, priority }: Candidate, socket = 0): Pair {
  const words = new Uint32Array(5);
  address.write(words, 0);
  return {
    address,
    words,
    socket,
    kind,
    priority,
    state: 'waiting',
    sends: 0,
    due: undefined,
    lastSent: undefined,
    provedAt: undefined,
    rtt: 0 as Duration,
    heardAt: undefined,
    barredUntil: undefined,
    bars: 0,
  };
}
