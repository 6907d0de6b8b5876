/**
 * Hops of any number of runs, one row for each TTL: what was sent, what came back, from whom, and how the round-trip times went.
 * Runs under way count with what has answered; finished ones with their losses too. Rows end with the destination.
 */
import type { IpAddress } from '../../base/address.js';
import { jitterOf } from '../statistics.js';
import type { Hop, HopReply, TraceRun } from '../types.js';

/** Answers and losses a row remembers, for its picture. */
const HISTORY = 60;
/** Addresses a row remembers; a load balancer has a few. */
const MAX_ADDRESSES = 16;

export interface PathRow {
  readonly ttl: number;
  /** Most frequent first; empty: silent. */
  readonly addresses: readonly IpAddress[];
  readonly sent: number;
  readonly received: number;
  /** 0 … 1. */
  readonly loss: number;
  /** Milliseconds; 0 when nothing was received. */
  readonly last: number;
  readonly avg: number;
  readonly best: number;
  readonly worst: number;
  readonly jitter: number;
  /** The latest RTTs, oldest first; 0: lost. */
  readonly history: readonly number[];
  /** The router limits its answers; packets pass. */
  readonly rateLimited: boolean;
  readonly isDestination: boolean;
  /** The latest answer. */
  readonly reply: HopReply | undefined;
  readonly mtu: number | undefined;
}

export class PathTable {
  readonly #finished = new Map<number, Row>();
  readonly #open = new Map<number, Map<number, Hop>>();

  /** What is known of one TTL of run `run`, instead of what was. */
  hop(run: number, hop: Hop): void {
    const hops = this.#open.get(run) ?? new Map<number, Hop>();
    this.#open.set(run, hops.set(hop.ttl, hop));
  }

  /** Run `run` has ended; its number may be used again. */
  finish(run: number, found: TraceRun): void {
    this.#open.delete(run);
    for (const hop of found.hops) rowOf(this.#finished, hop.ttl).add(hop, hop.sent);
  }

  /** Run `run` has failed. */
  drop(run: number): void {
    this.#open.delete(run);
  }

  rows(): PathRow[] {
    const rows = new Map([...this.#finished].map(([ttl, row]) => [ttl, row.copy()]));
    for (const hops of this.#open.values()) {
      for (const hop of hops.values()) rowOf(rows, hop.ttl).add(hop, hop.replies.length);
    }
    const sorted = [...rows.values()].sort((a, b) => a.ttl - b.ttl).map((row) => row.read());
    const end = sorted.findIndex((row) => row.isDestination);
    return end < 0 ? sorted : sorted.slice(0, end + 1);
  }
}

function rowOf(rows: Map<number, Row>, ttl: number): Row {
  const row = rows.get(ttl) ?? new Row(ttl);
  rows.set(ttl, row);
  return row;
}

class Row {
  readonly ttl: number;
  #sent = 0;
  #received = 0;
  #sum = 0;
  #best = 0;
  #worst = 0;
  #differences = 0;
  #last = 0;
  #history: number[] = [];
  #addresses = new Map<string, { readonly ip: IpAddress; count: number }>();
  #rateLimited = false;
  #isDestination = false;
  #reply: HopReply | undefined;
  #mtu: number | undefined;

  constructor(ttl: number) {
    this.ttl = ttl;
  }

  /** @param sent probes that have an outcome. */
  add(hop: Hop, sent: number): void {
    this.#sent += sent;
    for (const reply of hop.replies) this.#answer(reply);
    for (let lost = hop.replies.length; lost < sent; lost++) this.#remember(0);
    this.#rateLimited ||= hop.rateLimited;
    this.#mtu = hop.mtu ?? this.#mtu;
  }

  copy(): Row {
    const other = new Row(this.ttl);
    other.#sent = this.#sent;
    other.#received = this.#received;
    other.#sum = this.#sum;
    other.#best = this.#best;
    other.#worst = this.#worst;
    other.#differences = this.#differences;
    other.#last = this.#last;
    other.#history = [...this.#history];
    other.#addresses = new Map([...this.#addresses].map(([key, value]) => [key, { ...value }]));
    other.#rateLimited = this.#rateLimited;
    other.#isDestination = this.#isDestination;
    other.#reply = this.#reply;
    other.#mtu = this.#mtu;
    return other;
  }

  read(): PathRow {
    const received = this.#received;
    return {
      ttl: this.ttl,
      addresses: [...this.#addresses.values()].sort((a, b) => b.count - a.count).map((one) => one.ip),
      sent: this.#sent,
      received,
      loss: this.#sent === 0 ? 0 : Math.max(0, (this.#sent - received) / this.#sent),
      last: this.#last,
      avg: received === 0 ? 0 : this.#sum / received,
      best: this.#best,
      worst: this.#worst,
      jitter: received < 2 ? 0 : this.#differences / (received - 1),
      history: this.#history,
      rateLimited: this.#rateLimited,
      isDestination: this.#isDestination,
      reply: this.#reply,
      mtu: this.#mtu,
    };
  }

  #answer(reply: HopReply): void {
    const { rtt } = reply;
    if (this.#received > 0) this.#differences += jitterOf([this.#last, rtt]);
    this.#best = this.#received === 0 ? rtt : Math.min(this.#best, rtt);
    this.#worst = Math.max(this.#worst, rtt);
    this.#received++;
    this.#sum += rtt;
    this.#last = rtt;
    this.#reply = reply;
    this.#isDestination ||= reply.isDestination;
    this.#remember(rtt);
    const key = reply.from.toString();
    const known = this.#addresses.get(key);
    if (known !== undefined) known.count++;
    else if (this.#addresses.size < MAX_ADDRESSES) this.#addresses.set(key, { ip: reply.from, count: 1 });
  }

  #remember(rtt: number): void {
    this.#history.push(rtt);
    if (this.#history.length > HISTORY) this.#history.shift();
  }
}
