/**
 * What happens to flows, as a bounded stream for whoever is slower than they are: the oldest events are kept, newer ones that find no room are
 * counted, and the count goes out with the next one that does.
 */
import { Ring } from '../../base/ring.js';
import type { Instant } from '../../base/time.js';

export interface FlowEvent {
  /** By the clock of the engine's host. */
  readonly at: Instant;
  /** `refused`: by a rule or a hook. `closed` comes for TCP flows whose dial has succeeded, and UDP flows. */
  readonly kind: 'opened' | 'named' | 'refused' | 'closed';
  readonly protocol: 'tcp' | 'udp' | 'icmp';
  readonly source: string;
  readonly destination: string;
  /** As logs show it; empty when there is none. */
  readonly name: string;
  /** The rule that decided, as text; empty when none did. */
  readonly rule: string;
  readonly bytesIn?: number;
  readonly bytesOut?: number;
}

export class EventStream {
  /** All events that found no room. */
  dropped = 0;
  readonly #ring: Ring<FlowEvent>;
  #untold = 0;

  /** @param capacity events that wait, at least 1 */
  constructor(capacity: number) {
    this.#ring = new Ring(capacity);
  }

  get length(): number {
    return this.#ring.length;
  }

  /** Whether one more finds room; if not it counts as dropped. Ask before making an event: where nobody takes them each would be made for nothing. */
  admits(): boolean {
    if (!this.#ring.isFull) return true;
    this.dropped++;
    this.#untold++;
    return false;
  }

  /** After `admits`. */
  push(event: FlowEvent): void {
    this.#ring.push(event);
  }

  /** Takes up to `most` events out, and how many were dropped since the last call. */
  take(most: number): { readonly events: readonly FlowEvent[]; readonly dropped: number } {
    const events: FlowEvent[] = [];
    while (events.length < most) {
      const event = this.#ring.shift();
      if (event === undefined) break;
      events.push(event);
    }
    const dropped = this.#untold;
    this.#untold = 0;
    return { events, dropped };
  }
}
