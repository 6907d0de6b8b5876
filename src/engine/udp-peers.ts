/**
 * Which flow a datagram belongs to: every 5-tuple that has been used, by its hash.
 *
 *   hash of the 5-tuple ─► peer ─► next peer of the same hash ─► …          each with its flow
 */
import { ADDRESS_WORDS, sameWords } from '../base/address.js';
import type { Instant } from '../base/time.js';
import type { Watch } from '../os/io.js';
import type { Dialer, UdpOutlet } from './dialer.js';
import type { FlowTarget, PayloadTap } from './flow-options.js';
import type { HeldDatagrams } from './held-datagrams.js';
import type { ShapedDatagrams } from './shaping/shaped-datagrams.js';

export const TUPLE_WORDS = 2 * ADDRESS_WORDS;
/** Index of the destination's port in a 5-tuple. */
export const PORT = TUPLE_WORDS - 1;

/** One client port; to one destination where there is no filtering mode. */
export interface UdpFlow {
  readonly words: Uint32Array;
  readonly target: FlowTarget;
  readonly dialer: Dialer;
  readonly outlet: UdpOutlet;
  readonly watch: Watch;
  /** Forgets the time limit of its dial. */
  stopDialTimer: () => void;
  /** Oldest first. */
  readonly peers: UdpPeer[];
  lastUsed: Instant;
  answered: boolean;
  /** It has sent to name servers only. */
  isDns: boolean;
  /** One of its destinations was sent an Initial packet first. */
  isQuic: boolean;
  /** Payload from the client, and to it. */
  bytesIn: number;
  bytesOut: number;
}

/** One 5-tuple. A destination port of 0 stands for every port of an address that is sent to. */
export interface UdpPeer {
  readonly words: Uint32Array;
  readonly flow: UdpFlow;
  /** Payload bytes of its last datagram. */
  length: number;
  tap: PayloadTap | undefined;
  /** Where its datagrams wait, if they are held back. */
  shaped: ShapedDatagrams | undefined;
  /** Its first datagrams, while they wait for a name. */
  held: HeldDatagrams | undefined;
  /** The next peer of the same hash. */
  next: UdpPeer | undefined;
}

export class UdpPeers {
  readonly #peers = new Map<number, UdpPeer>();
  readonly #seed: number;

  /** @param seed of the hash, unknown to the client: its ports must not be able to pile up in one chain. */
  constructor(seed: number) {
    this.#seed = seed;
  }

  find(addresses: Uint32Array): UdpPeer | undefined {
    let peer = this.#peers.get(this.hashOf(addresses, TUPLE_WORDS));
    while (peer !== undefined && !sameTuple(peer.words, addresses)) peer = peer.next;
    return peer;
  }

  add(flow: UdpFlow, words: Uint32Array, tap: PayloadTap | undefined): UdpPeer {
    const hash = this.hashOf(words, TUPLE_WORDS);
    const next = this.#peers.get(hash);
    const peer: UdpPeer = { words, flow, length: 0, tap, shaped: undefined, held: undefined, next };
    this.#peers.set(hash, peer);
    return peer;
  }

  remove(peer: UdpPeer): void {
    const hash = this.hashOf(peer.words, TUPLE_WORDS);
    const first = this.#peers.get(hash);
    if (first === peer) {
      if (peer.next === undefined) this.#peers.delete(hash);
      else this.#peers.set(hash, peer.next);
      return;
    }
    let before = first;
    while (before !== undefined && before.next !== peer) before = before.next;
    if (before !== undefined) before.next = peer.next;
  }

  /** Of the first `count` words. */
  hashOf(words: Uint32Array, count: number): number {
    let hash = this.#seed;
    for (let i = 0; i < count; i++) {
      hash = Math.imul(hash ^ words[i]!, 0x01000193);
      hash ^= hash >>> 15;
    }
    return hash >>> 0;
  }
}

/** The one destination of a flow, whose errors those of its outlet are; undefined when there are several. */
export function onlyPeer({ peers }: UdpFlow): UdpPeer | undefined {
  let only: UdpPeer | undefined;
  for (const peer of peers) {
    if (peer.words[PORT] === 0) continue;
    if (only !== undefined) return undefined;
    only = peer;
  }
  return only;
}

/** Whether two 5-tuples have the same destination address. */
export function sameAddress(a: Uint32Array, b: Uint32Array): boolean {
  for (let i = ADDRESS_WORDS; i < PORT; i++) if (a[i] !== b[i]) return false;
  return true;
}

export function sameTuple(a: Uint32Array, b: Uint32Array): boolean {
  return sameWords(a, 0, b, 0) && sameWords(a, 1, b, 1);
}
