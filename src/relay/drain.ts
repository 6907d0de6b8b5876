/**
 * The end of a relay whose channels are in use: its nodes are told, new nodes and channels are refused, and what passes goes on.
 *
 *   running ──begin──► draining ──no channel left, none used for 1 s, or the deadline──► over
 */
import { type Duration, elapsed, type Instant, later, Millis, Seconds, toMillis } from '../base/time.js';
import type { FromRelay } from '../tunnel/messages.js';
import type { ChannelTable } from './channels.js';

/** Channels on which nothing has passed for this long hold nothing up: sessions outlive a relay, only packets in flight do not. */
const QUIET: Duration = Seconds(1);
/** How often the channels are looked at meanwhile. */
const INTERVAL: Duration = Millis(100);

export class Drain {
  readonly #channels: ChannelTable;
  #deadline: Instant | undefined;
  #next: Instant | undefined;

  constructor(channels: ChannelTable) {
    this.#channels = channels;
  }

  /** Whether it has begun; it never ends but with the process. */
  get isOn(): boolean {
    return this.#deadline !== undefined;
  }

  /** When the relay will be gone at the latest. */
  get deadline(): Instant | undefined {
    return this.#deadline;
  }

  /** When `isOver` wants to be asked. */
  get due(): Instant | undefined {
    return this.#next;
  }

  /** Begins; returns what every node is to be told. @param alternatives names of the network's other relays. */
  begin(now: Instant, span: Duration, alternatives: readonly string[]): FromRelay {
    this.#deadline = later(now, span);
    this.#next = now;
    return { type: 'drain', deadline: Math.round(toMillis(span)), alternatives: [...alternatives] };
  }

  /** Whether there is nothing more to wait for; true once. */
  isOver(now: Instant): boolean {
    if (this.#next === undefined || now < this.#next) return false;
    const used = this.#channels.lastUsed;
    if (now >= this.#deadline! || used === undefined || elapsed(used, now) >= QUIET) {
      this.#next = undefined;
      return true;
    }
    this.#next = later(now, INTERVAL);
    return false;
  }
}
