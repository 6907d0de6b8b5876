/**
 * The relay's channels: each joins one agent and one connector, and has one unguessable 64-bit id per side. A packet that
 * arrives with one side's id leaves with the other's.
 *
 *   agent ── id A ──► [ side A │ side B ] ── id B ──► connector
 */
import { ADDRESS_WORDS } from '../base/address.js';
import { TokenBucket } from '../base/bucket.js';
import type { Entropy } from '../base/entropy.js';
import { type Duration, elapsed, type Instant, Minutes } from '../base/time.js';
import { U64Map } from '../base/u64map.js';
import { formatChannel } from '../tunnel/messages.js';
import { Meter, type RateLimit } from './limits.js';
import type { RelayNode } from './node.js';

/** A channel on which nothing has passed for this long is closed; links send keep-alives every 15 s or less. */
export const CHANNEL_IDLE: Duration = Minutes(3);
/** Channels one agent may hold, so that an enrolled node cannot exhaust the table. */
export const MAX_CHANNELS_PER_NODE = 1024;
/** Channels one connector may hold: one for each of its agents. */
export const MAX_CHANNELS_PER_CONNECTOR = 16_384;
/** Packets per second accepted on a channel from a source that has not been validated yet. */
export const UNKNOWN_SOURCE_RATE = 50;

/** A source that sent on a channel and is being asked to prove itself by echoing `nonce`. */
export interface Candidate {
  socket: number;
  readonly address: Uint32Array;
  readonly local: Uint32Array;
  nonceHigh: number;
  nonceLow: number;
  asked: Instant;
  readonly bucket: TokenBucket;
}

export class ChannelSide {
  peer!: ChannelSide;
  candidate: Candidate | undefined;
  packets = 0;
  bytes = 0;
  dropped = 0;
  lastUsed: Instant;
  /** What this side may send; undefined when channels have no limit. */
  readonly meter: Meter | undefined;

  constructor(
    readonly high: number,
    readonly low: number,
    readonly node: RelayNode,
    readonly service: string,
    readonly opened: Instant,
    limit: RateLimit,
  ) {
    this.meter = Meter.for(limit);
    this.lastUsed = opened;
  }

  get id(): string {
    return formatChannel(this.high, this.low);
  }
}

export class ChannelTable {
  readonly #sides = new U64Map<ChannelSide>();
  readonly #entropy: Entropy;
  readonly #limit: RateLimit;

  constructor(entropy: Entropy, limit: RateLimit) {
    this.#entropy = entropy;
    this.#limit = limit;
  }

  /** Channels now open. */
  get size(): number {
    return this.#sides.size / 2;
  }

  /** The side with this id, or undefined. No allocation. */
  find(high: number, low: number): ChannelSide | undefined {
    return this.#sides.get(high, low);
  }

  /** Opens a channel; returns the agent's side. */
  open(now: Instant, agent: RelayNode, connector: RelayNode, service: string): ChannelSide {
    const a = this.#side(now, agent, service);
    const b = this.#side(now, connector, service);
    a.peer = b;
    b.peer = a;
    return a;
  }

  /** Removes both sides; harmless when they are gone already. */
  close(side: ChannelSide): void {
    for (const one of [side, side.peer]) {
      if (this.#sides.get(one.high, one.low) !== one) continue;
      this.#sides.delete(one.high, one.low);
      one.node.channels.delete(one);
    }
  }

  /** When something last passed on any channel, or one was opened; undefined without channels. */
  get lastUsed(): Instant | undefined {
    let last: Instant | undefined;
    this.#sides.forEach((side) => {
      if (last === undefined || side.lastUsed > last) last = side.lastUsed;
    });
    return last;
  }

  /** Agents' sides of the channels on which nothing has passed for `CHANNEL_IDLE`. */
  idle(now: Instant): ChannelSide[] {
    const result: ChannelSide[] = [];
    this.#sides.forEach((side) => {
      if (side.node.identity.role !== 'agent') return;
      const last = Math.max(side.lastUsed, side.peer.lastUsed) as Instant;
      if (elapsed(last, now) >= CHANNEL_IDLE) result.push(side);
    });
    return result;
  }

  #side(now: Instant, node: RelayNode, service: string): ChannelSide {
    let high: number;
    let low: number;
    do {
      high = this.#entropy.uint32();
      low = this.#entropy.uint32();
    } while (this.#sides.get(high, low) !== undefined);
    const side = new ChannelSide(high, low, node, service, now, this.#limit);
    this.#sides.set(high, low, side);
    node.channels.add(side);
    return side;
  }
}

/** A candidate for a side, made on the first packet from a source that is not the node's forwarding address. */
export function newCandidate(): Candidate {
  return {
    socket: 0,
    address: new Uint32Array(ADDRESS_WORDS),
    local: new Uint32Array(ADDRESS_WORDS),
    nonceHigh: 0,
    nonceLow: 0,
    asked: 0 as Instant,
    bucket: new TokenBucket(UNKNOWN_SOURCE_RATE, UNKNOWN_SOURCE_RATE),
  };
}
