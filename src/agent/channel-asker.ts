/**
 * Asks relays for channels, each at the rate it allows: a relay that comes back is asked for those of all sessions, one after the
 * other.
 *
 *   open {service, connector} ─► relay ─► opened {channel, connector}, or an error
 */
import { TokenBucket } from '../base/bucket.js';
import { type Instant, later } from '../base/time.js';
import type { Channel } from '../node/link-channels.js';
import type { RelayClient } from '../node/relay-client.js';
import type { Relays } from '../node/relays.js';
import type { Underlay } from '../node/underlay.js';
import { formatChannel, parseChannel } from '../tunnel/messages.js';
import { OPENS_AT_ONCE, OPENS_PER_SECOND } from '../tunnel/open-rate.js';
import { Catalogues } from './catalogues.js';
import type { AgentSession } from './session.js';

/** Share of the relay's rate that is used, so that requests which the network bunches are not refused. */
const RATE_USED = 0.9;
/** Refusals of a relay that another attempt there soon will not change. */
const ABSENCE: ReadonlySet<string> = new Set(['NO_CONNECTOR', 'DENIED', 'POLICY_EXPIRED']);

/** A channel; or why there is none, and whether that means that the connector is not there. */
export type Asked =
  | { readonly channel: Channel }
  | { readonly channel: undefined; readonly problem: string; readonly isAbsence: boolean };

export class ChannelAsker {
  readonly catalogues = new Catalogues();
  readonly #underlay: Underlay;
  readonly #relays: Relays;
  readonly #buckets = new WeakMap<RelayClient, TokenBucket>();

  constructor(underlay: Underlay, relays: Relays) {
    this.#underlay = underlay;
    this.#relays = relays;
  }

  /**
   * The relay to ask for a channel of the session: one that does not say that there is no connector, else any that has not
   * refused; undefined: none that is usable.
   */
  pick(service: string, refusedBy: ReadonlySet<RelayClient>, except?: RelayClient): RelayClient | undefined {
    let other: RelayClient | undefined;
    for (const relay of this.#relays.usable()) {
      if (relay === except || refusedBy.has(relay)) continue;
      if (!this.catalogues.isAbsent(relay, service)) return relay;
      other ??= relay;
    }
    return other;
  }

  /** When one more channel may be asked for at this relay; to be asked for then. */
  turnAt(now: Instant, relay: RelayClient): Instant {
    let bucket = this.#buckets.get(relay);
    if (bucket === undefined) {
      bucket = new TokenBucket(OPENS_PER_SECOND * RATE_USED, OPENS_AT_ONCE * RATE_USED);
      this.#buckets.set(relay, bucket);
    }
    const at = later(now, bucket.wait(now));
    bucket.spend(now, 1);
    return at;
  }

  /** Asks; `done` is called exactly once. */
  ask(now: Instant, session: AgentSession, relay: RelayClient, done: (now: Instant, asked: Asked) => void): void {
    const { service, connector } = session;
    relay.request(
      now,
      (id) => ({ type: 'open', id, service, connector }),
      (at, answer) => {
        if (!answer.ok) {
          const isAbsence = ABSENCE.has(answer.code);
          done(at, { channel: undefined, problem: `${answer.code}: ${answer.message}`, isAbsence });
        } else if (answer.message.type !== 'opened' || answer.message.connector !== connector) {
          done(at, disbelieved(relay, 'the relay answered for another connector'));
        } else {
          const { high, low } = parseChannel(answer.message.channel);
          const channel = this.#underlay.channels.open(relay.slot, high, low);
          done(
            at,
            channel === undefined ? disbelieved(relay, 'the relay gave a channel of another peer') : { channel },
          );
        }
      },
    );
  }

  /** A channel is needed no longer. @param reason for the relay, which is told; undefined: it knows. */
  close(now: Instant, relay: RelayClient | undefined, channel: Channel, reason: string | undefined): void {
    if (reason !== undefined) {
      const id = formatChannel(channel.high, channel.low);
      relay?.send({ type: 'close', channel: id, reason: reason.slice(0, 200) });
    }
    this.#underlay.channels.close(now, channel);
  }
}

function disbelieved(relay: RelayClient, problem: string): Asked {
  relay.countLie(problem);
  return { channel: undefined, problem, isAbsence: false };
}

/** Whether this is the channel that the relay names. */
export function isChannel(channel: Channel | undefined, relay: RelayClient, id: string): boolean {
  if (channel?.relay !== relay.slot) return false;
  const { high, low } = parseChannel(id);
  return channel.high === high && channel.low === low;
}
