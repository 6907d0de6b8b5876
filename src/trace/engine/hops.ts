/**
 * What a run knows of every TTL, and what that means: where the path ends, and which losses are only a router's thrift.
 *
 *   end of the path =  the lowest TTL that the destination answered for certain
 *                      else the lowest at which something said that it cannot be reached, unless routers behind it answered
 *                      else, when the run is over, the lowest "time exceeded" that came from the target's own address
 *
 * A router that answers "time exceeded" and reports "port unreachable" one TTL later rejects for the target; the same report from
 * an address not seen before is the target by another of its addresses.
 */
import type { IpAddress } from '../../base/address.js';
import { elapsed, toMillis } from '../../base/time.js';
import { ICMP_UNREACHABLE, ICMPV6_UNREACHABLE } from '../../wire/icmp.js';
import type { Answer, Probe } from '../net/probe.js';
import type { EndReason, Hop, HopReply, TraceOptions } from '../types.js';

/** ICMP and ICMPv6 codes of "port unreachable". */
const PORT_UNREACHABLE = { 4: 3, 6: 4 } as const;
/** 0 means "lost" to programs that read the result; the smallest RTT told, in milliseconds. */
const SMALLEST_RTT = 0.000_001;

class HopRecord {
  readonly probes: Probe[] = [];
  readonly replies: HopReply[] = [];
  mtu: number | undefined;
}

/** Where and why a path ends. */
export interface PathEnd {
  readonly ttl: number;
  readonly reason: Extract<EndReason, 'destination' | 'unreachable'>;
}

export class HopTable {
  readonly #options: TraceOptions;
  readonly #records: HopRecord[] = [];
  #slowest = 0;

  constructor(options: TraceOptions) {
    this.#options = options;
  }

  /** Notes a probe that is about to be sent; `index` of the next one is `sentAt(ttl)`. */
  add(probe: Probe): void {
    this.#record(probe.ttl).probes.push(probe);
  }

  /** A probe that did not leave was not sent. */
  remove(probe: Probe): void {
    const { probes } = this.#record(probe.ttl);
    const at = probes.indexOf(probe);
    if (at >= 0) probes.splice(at, 1);
  }

  sent(ttl: number): number {
    return this.#record(ttl).probes.length;
  }

  probes(ttl: number): readonly Probe[] {
    return this.#record(ttl).probes;
  }

  isSilent(ttl: number): boolean {
    return this.#record(ttl).replies.length === 0;
  }

  /** The slowest answer so far in milliseconds; 0 when there is none. */
  get slowest(): number {
    return this.#slowest;
  }

  /** The highest TTL that anything answered; minTtl − 1 when nothing did. */
  get highestAnswered(): number {
    for (let ttl = this.#options.maxTtl; ttl >= this.#options.minTtl; ttl--) if (!this.isSilent(ttl)) return ttl;
    return this.#options.minTtl - 1;
  }

  /** Takes the first answer to a probe; undefined when there was one already. */
  take(answer: Answer): HopReply | undefined {
    const { probe } = answer;
    if (probe.answered) return undefined;
    probe.answered = true;
    const rtt = Math.max(SMALLEST_RTT, toMillis(elapsed(probe.sentAt, answer.at)));
    const reply: HopReply = {
      from: answer.from,
      kind: answer.kind,
      rtt,
      nat: answer.nat,
      probe: probe.index,
      flow: probe.flow,
      isDestination: answer.isDestination || this.#isTargetElsewhere(answer),
      ...(answer.replyTtl === undefined ? {} : { replyTtl: answer.replyTtl }),
      ...(answer.icmp === undefined ? {} : { icmp: answer.icmp }),
      ...(answer.quotedTtl === undefined ? {} : { quotedTtl: answer.quotedTtl }),
      ...(answer.extensions === undefined ? {} : { extensions: answer.extensions }),
    };
    this.#record(probe.ttl).replies.push(reply);
    this.#slowest = Math.max(this.#slowest, rtt);
    return reply;
  }

  setMtu(ttl: number, mtu: number): void {
    this.#record(ttl).mtu = mtu;
  }

  mtu(ttl: number): number | undefined {
    return this.#record(ttl).mtu;
  }

  /** Undefined as long as the path may go on. */
  end(): PathEnd | undefined {
    const certain = this.#lowest((reply) => reply.isDestination);
    if (certain !== undefined) return { ttl: certain, reason: 'destination' };
    const refused = this.#lowest(({ kind }) => kind === 'unreachable' || kind === 'packet_too_big');
    if (refused === undefined || this.#routerBehind(refused)) return undefined;
    return { ttl: refused, reason: 'unreachable' };
  }

  /** When the run is over and nothing certain came: the target's own address as the last that answered. */
  likelyEnd(): PathEnd | undefined {
    const { destination } = this.#options;
    const likely = this.#lowest((reply) => reply.kind === 'time_exceeded' && reply.from.equals(destination));
    if (likely === undefined) return undefined;
    for (let ttl = likely + 1; ttl <= this.#options.maxTtl; ttl++) {
      if (this.#record(ttl).replies.some((reply) => !reply.from.equals(destination))) return undefined;
    }
    return { ttl: likely, reason: 'destination' };
  }

  hop(ttl: number): Hop {
    const { probes, replies, mtu } = this.#record(ttl);
    const hop = { ttl, sent: probes.length, replies: [...replies], rateLimited: this.#isRateLimited(ttl) };
    return mtu === undefined ? hop : { ...hop, mtu };
  }

  hops(last: number): Hop[] {
    const out: Hop[] = [];
    for (let ttl = this.#options.minTtl; ttl <= last; ttl++) out.push(this.hop(ttl));
    return out;
  }

  /** Some answers are missing here, and further on none or fewer are: what is lost here is answers, not packets. */
  #isRateLimited(ttl: number): boolean {
    const loss = this.#loss(ttl);
    if (loss === 0 || loss === 1) return false;
    for (let later = ttl + 1; later <= this.#options.maxTtl; later++) {
      if (this.sent(later) > 0 && this.#loss(later) < loss) return true;
    }
    return false;
  }

  #loss(ttl: number): number {
    const { probes, replies } = this.#record(ttl);
    return probes.length === 0 ? 0 : 1 - replies.length / probes.length;
  }

  /** "Port unreachable" from an address that is no router of this path: the target has several addresses. */
  #isTargetElsewhere(answer: Answer): boolean {
    const { icmp, kind, from } = answer;
    if (kind !== 'unreachable' || icmp === undefined) return false;
    const type = from.isV4 ? ICMP_UNREACHABLE : ICMPV6_UNREACHABLE;
    if (icmp.type !== type || icmp.code !== PORT_UNREACHABLE[from.family]) return false;
    return !this.#isRouter(from);
  }

  #isRouter(address: IpAddress): boolean {
    return this.#records.some((record) =>
      record.replies.some((reply) => reply.kind === 'time_exceeded' && reply.from.equals(address)),
    );
  }

  #routerBehind(ttl: number): boolean {
    for (let later = ttl + 1; later <= this.#options.maxTtl; later++) {
      if (this.#record(later).replies.some((reply) => reply.kind === 'time_exceeded')) return true;
    }
    return false;
  }

  #lowest(test: (reply: HopReply) => boolean): number | undefined {
    for (let ttl = this.#options.minTtl; ttl <= this.#options.maxTtl; ttl++) {
      if (this.#record(ttl).replies.some(test)) return ttl;
    }
    return undefined;
  }

  #record(ttl: number): HopRecord {
    let record = this.#records[ttl];
    if (record === undefined) {
      record = new HopRecord();
      this.#records[ttl] = record;
    }
    return record;
  }
}
