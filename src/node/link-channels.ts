/**
 * The relay channels of a node: found by their id, which frames carry, and by the number in their virtual address, which the links' endpoint knows.
 *
 *   opened ─► open ─► closed ─ 3 s ─► forgotten           an id belongs to one channel until then
 */
import { ADDRESS_WORDS, type SocketAddress } from '../base/address.js';
import { type Duration, type Instant, later, Seconds } from '../base/time.js';
import { U64Map } from '../base/u64map.js';
import { channelNumber, virtualAddress } from './virtual-address.js';

/** Channels known at once: those of a connector's agents, and as many that are closing. A relay that lies opens no more. */
const CHANNELS_MAX = 32_768;

/** A closed channel is known this much longer. */
const CLOSING_TIME: Duration = Seconds(3);

/** A relay channel as the underlay knows it. */
export interface Channel {
  readonly number: number;
  /** The slot of its relay. */
  readonly relay: number;
  readonly high: number;
  readonly low: number;
  /** The address under which the links' endpoint knows it. */
  readonly address: SocketAddress;
  /** That address, packed. */
  readonly words: Uint32Array;
}

export class LinkChannels {
  readonly #byId = new U64Map<Channel>();
  readonly #byNumber = new Map<number, Channel>();
  readonly #closing: { readonly channel: Channel; readonly at: Instant }[] = [];
  #nextNumber = 1;

  /** Undefined when the id is in use (a channel belongs to one peer) or there are too many. */
  open(relay: number, high: number, low: number): Channel | undefined {
    if (this.#byId.has(high, low) || this.#byNumber.size >= CHANNELS_MAX) return undefined;
    const number = this.#nextNumber++;
    const address = virtualAddress(number);
    const channel: Channel = { number, relay, high, low, address, words: wordsOf(address) };
    this.#byId.set(high, low, channel);
    this.#byNumber.set(number, channel);
    return channel;
  }

  /** Forgets a channel, a little later, so that the close of its link still gets out. */
  close(now: Instant, channel: Channel): void {
    this.#closing.push({ channel, at: later(now, CLOSING_TIME) });
  }

  /** The same for a channel known by its id only; harmless when it is gone. */
  closeById(now: Instant, relay: number, high: number, low: number): void {
    const channel = this.#byId.get(high, low);
    if (channel?.relay === relay) this.close(now, channel);
  }

  /** Forgets those whose time is over; to be called now and then. */
  forgetClosed(now: Instant): void {
    while (this.#closing.length > 0 && this.#closing[0]!.at <= now) {
      const { channel } = this.#closing.shift()!;
      if (this.#byNumber.delete(channel.number)) this.#byId.delete(channel.high, channel.low);
    }
  }

  /** The channel a virtual address stands for, while it is known. */
  at(address: SocketAddress): Channel | undefined {
    return this.behind(wordsOf(address));
  }

  /** The same of a packed address. */
  behind(words: Uint32Array): Channel | undefined {
    return this.#byNumber.get(channelNumber(words, 0));
  }

  byId(high: number, low: number): Channel | undefined {
    return this.#byId.get(high, low);
  }
}

function wordsOf(address: SocketAddress): Uint32Array {
  const words = new Uint32Array(ADDRESS_WORDS);
  address.write(words, 0);
  return words;
}
