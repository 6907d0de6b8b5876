/**
 * Forwarding: what a relay does with every received batch. RELAYED packets get the other side's channel id in place and
 * leave from the very memory they arrived in; QUIC packets go to the relay's endpoint; everything else is counted.
 *
 *   entry of a batch   │10·A·…│10·A·…│10·B·…│QUIC…│      each segment judged by itself
 *   runs               └─ send ─────┘└ send ┘└ QUIC ┘     a run = neighbours of equal fate, so one GSO send or one crossing
 */
import { ADDRESS_WORDS, type SocketAddress, sameWords } from '../base/address.js';
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import { elapsed, type Instant, Millis } from '../base/time.js';
import { MAX_SEGMENTS, type TransmitMemory, type UdpSocket } from '../os/io.js';
import { type QuicEndpoint, ResponseKind } from '../quic/endpoint.js';
import {
  Frame,
  PROBE_LENGTH,
  putWord,
  RELAYED_HEADER,
  REVALIDATE_LENGTH,
  SHORTEST_QUIC_PACKET,
  wordAt,
} from '../tunnel/frames.js';
import { AskedAddresses } from './asked-addresses.js';
import { type Candidate, type ChannelSide, type ChannelTable, newCandidate } from './channels.js';
import type { RelayNode } from './node.js';
import type { ProbeAnswers } from './probe-answers.js';
import { SourceLimiter } from './source-limiter.js';

/** A REVALIDATE goes to one source at most this often. */
const REVALIDATE_INTERVAL = Millis(100);
/** A stateless reset goes to one source at most this often: a node needs one, a forger gets no amplifier. */
const RESET_INTERVAL = Millis(100);
/** An unproved source is forgotten for another one after this time without proof. */
const CANDIDATE_PATIENCE = Millis(1000);
/** Room for the small frames a turn may send: one answer for each of the datagrams of one receive, roughly. */
const ANSWER_MEMORY = 64 * 1024;
/** No source address of our choosing: the routing table's. */
const UNSPECIFIED = new Uint32Array(ADDRESS_WORDS);
/** Bytes of transmit memory with which a run is written where it is sent from: QUIC writes more at times than it keeps (native/quic/src/room.rs). */
const RUN_BYTES = 65_536 + 4096;

export interface ForwarderCounters {
  forwardedPackets: number;
  forwardedBytes: number;
  revalidates: number;
  revalidated: number;
  /** Packets that a channel's or a node's limit has dropped. */
  limitedPackets: number;
}

interface Attached {
  readonly socket: UdpSocket;
  readonly memoryId: number;
  readonly transmit: TransmitMemory;
  readonly endpointTransmit: TransmitMemory;
  /** Memory for frames of our own; REVALIDATE and PROBE REPLY. */
  readonly answers: TransmitMemory;
  answersUsed: number;
}

export class Forwarder {
  readonly counters: ForwarderCounters = {
    forwardedPackets: 0,
    forwardedBytes: 0,
    revalidates: 0,
    revalidated: 0,
    limitedPackets: 0,
  };
  readonly #sockets: readonly Attached[];
  readonly #endpoint: QuicEndpoint;
  readonly #channels: ChannelTable;
  readonly #drops: Counters<DropName>;
  readonly #entropy: Entropy;
  readonly #asked = new AskedAddresses();
  readonly #resetLimit = new SourceLimiter(RESET_INTERVAL);
  readonly #revalidateLimit = new SourceLimiter(REVALIDATE_INTERVAL);
  readonly #probes: ProbeAnswers;

  constructor(
    sockets: readonly UdpSocket[],
    endpoint: QuicEndpoint,
    channels: ChannelTable,
    drops: Counters<DropName>,
    entropy: Entropy,
    probes: ProbeAnswers,
  ) {
    this.#probes = probes;
    this.#endpoint = endpoint;
    this.#channels = channels;
    this.#drops = drops;
    this.#entropy = entropy;
    this.#sockets = sockets.map((socket) => ({
      socket,
      memoryId: endpoint.attachReceive(socket.rx.memory),
      transmit: socket.registerTransmit(socket.rx.memory),
      endpointTransmit: socket.registerTransmit(endpoint.tx),
      answers: socket.registerTransmit(new Uint8Array(ANSWER_MEMORY)),
      answersUsed: 0,
    }));
  }

  /** Handles one received batch of socket `index`: forwards, feeds QUIC, and flushes before the memory is used again. */
  handleBatch(now: Instant, index: number, entries: number): void {
    const from = this.#sockets[index]!;
    const { offsets, lengths, segments } = from.socket.rx;
    for (let entry = 0; entry < entries; entry++) {
      this.#handleEntry(now, index, entry, offsets[entry]!, lengths[entry]!, segments[entry]!);
    }
    this.#endpoint.receive(now);
    this.#probes.flush();
    for (const attached of this.#sockets) {
      attached.socket.flush();
      attached.answersUsed = 0;
    }
  }

  #handleEntry(now: Instant, index: number, entry: number, offset: number, length: number, segment: number): void {
    const from = this.#sockets[index]!;
    const memory = from.socket.rx.memory;
    const end = offset + length;
    if (length === 0) this.#drops.values[Drop.malformed]!++;
    let at = offset;
    while (at < end) {
      const size = Math.min(segment, end - at);
      const first = memory[at]!;
      if ((first & 0x40) !== 0) {
        if ((first & 0x80) !== 0) this.#asked.note(from.socket.rx.sources, from.socket.rx.locals, entry);
        let stop = at + size;
        while (stop < end && (memory[stop]! & 0x40) !== 0) stop += Math.min(segment, end - stop);
        this.#endpoint.queueRun(from.memoryId, at, stop - at, segment, 0, from.socket.rx.sources, entry);
        at = stop;
      } else if (first === Frame.relayed) {
        at = this.#relayedRun(now, index, entry, at, end, segment);
      } else {
        this.#otherFrame(now, index, entry, at, size);
        at += size;
      }
    }
  }

  /** Forwards the neighbours that carry the same channel as the one at `at`; returns where they end. */
  #relayedRun(now: Instant, index: number, entry: number, at: number, end: number, segment: number): number {
    const from = this.#sockets[index]!;
    const memory = from.socket.rx.memory;
    const firstSize = Math.min(segment, end - at);
    if (firstSize < RELAYED_HEADER + SHORTEST_QUIC_PACKET || (memory[at + RELAYED_HEADER]! & 0x40) === 0) {
      this.#drops.values[Drop.malformed]!++;
      return at + firstSize;
    }
    const high = wordAt(memory, at + 1);
    const low = wordAt(memory, at + 5);
    const side = this.#channels.find(high, low);
    if (side === undefined) {
      this.#drops.values[Drop.unknown_channel]!++;
      this.#revalidate(now, index, entry, undefined);
      return at + firstSize;
    }
    const known = this.#isForwardingAddress(side, index, entry);
    if (!known && !this.#admitUnknown(now, index, entry, side)) {
      this.#drops.values[Drop.unknown_source]!++;
      side.dropped++;
      return at + firstSize;
    }
    const peer = side.peer;
    let stop = at;
    let count = 0;
    do {
      const size = Math.min(segment, end - stop);
      if (size < RELAYED_HEADER + SHORTEST_QUIC_PACKET || (memory[stop + RELAYED_HEADER]! & 0x40) === 0) break;
      putWord(memory, stop + 1, peer.high);
      putWord(memory, stop + 5, peer.low);
      stop += size;
      count++;
    } while (
      known &&
      stop < end &&
      memory[stop] === Frame.relayed &&
      end - stop >= RELAYED_HEADER &&
      wordAt(memory, stop + 1) === high &&
      wordAt(memory, stop + 5) === low
    );
    side.lastUsed = now;
    side.node.heard = now;
    let length = stop - at;
    if (side.meter !== undefined || side.node.sent !== undefined || peer.node.received !== undefined) {
      const passing = this.#measured(now, side, count, length, Math.min(segment, length));
      if (passing === 0) return stop;
      if (passing < count) length = passing * segment;
      count = passing;
    }
    const to = this.#sockets[peer.node.socket]!;
    const out = to === from ? from.transmit : this.#foreign(from, to);
    to.socket.send(out, at, length, segment, peer.node.forwarding, 0, peer.node.local, 0);
    side.packets += count;
    side.bytes += length - count * RELAYED_HEADER;
    this.counters.forwardedPackets += count;
    this.counters.forwardedBytes += length;
    return stop;
  }

  /** How many of `count` packets of `size` bytes (`length` in all) the limits let pass, the first ones; they are spent. */
  #measured(now: Instant, side: ChannelSide, count: number, length: number, size: number): number {
    const { sent } = side.node;
    const { received } = side.peer.node;
    const inner = size - RELAYED_HEADER;
    let passing = count;
    if (side.meter !== undefined) passing = side.meter.room(now, passing, inner);
    if (sent !== undefined) passing = sent.room(now, passing, inner);
    if (received !== undefined) passing = received.room(now, passing, inner);
    const dropped = count - passing;
    side.dropped += dropped;
    this.#drops.values[Drop.rate_limited]! += dropped;
    this.counters.limitedPackets += dropped;
    const bytes = dropped === 0 ? length - count * RELAYED_HEADER : passing * inner;
    side.meter?.spend(now, passing, bytes);
    sent?.spend(now, passing, bytes);
    received?.spend(now, passing, bytes);
    return passing;
  }

  /** The receive memory of `from`, as `to` knows it: one side on IPv4, the other on IPv6. */
  #foreign(from: Attached, to: Attached): TransmitMemory {
    let memory = this.#crossed.get(from);
    if (memory === undefined) {
      memory = to.socket.registerTransmit(from.socket.rx.memory);
      this.#crossed.set(from, memory);
    }
    return memory;
  }
  readonly #crossed = new Map<Attached, TransmitMemory>();

  #isForwardingAddress(side: ChannelSide, index: number, entry: number): boolean {
    const node = side.node;
    return node.socket === index && sameWords(node.forwarding, 0, this.#sockets[index]!.socket.rx.sources, entry);
  }

  /** Judges a packet from a source that is not the side's forwarding address, and asks that source to prove itself. */
  #admitUnknown(now: Instant, index: number, entry: number, side: ChannelSide): boolean {
    const rx = this.#sockets[index]!.socket.rx;
    let candidate = side.candidate;
    if (candidate === undefined || !sameWords(candidate.address, 0, rx.sources, entry)) {
      if (candidate !== undefined && elapsed(candidate.asked, now) < CANDIDATE_PATIENCE) return false;
      candidate ??= newCandidate();
      side.candidate = candidate;
      candidate.socket = index;
      for (let i = 0; i < ADDRESS_WORDS; i++) {
        candidate.address[i] = rx.sources[entry * ADDRESS_WORDS + i]!;
        candidate.local[i] = rx.locals[entry * ADDRESS_WORDS + i]!;
      }
      candidate.nonceHigh = this.#entropy.uint32();
      candidate.nonceLow = this.#entropy.uint32();
      candidate.asked = now;
    }
    this.#revalidate(now, index, entry, candidate);
    return candidate.bucket.take(now, 1);
  }

  /** Sends REVALIDATE to the source of `entry`, rate limited; for an unknown channel the nonce means nothing to us. */
  #revalidate(now: Instant, index: number, entry: number, candidate: Candidate | undefined): void {
    const rx = this.#sockets[index]!.socket.rx;
    if (!this.#revalidateLimit.admit(now, rx.sources, entry)) return;
    const high = candidate?.nonceHigh ?? this.#entropy.uint32();
    const low = candidate?.nonceLow ?? this.#entropy.uint32();
    const at = this.#answer(index, entry, REVALIDATE_LENGTH);
    if (at < 0) return;
    const bytes = this.#sockets[index]!.answers.bytes;
    bytes[at] = Frame.revalidate;
    putWord(bytes, at + 1, high);
    putWord(bytes, at + 5, low);
    this.counters.revalidates++;
  }

  /** Queues `length` bytes of answer memory for the source of `entry`; returns their offset, or −1 when there is no room. */
  #answer(index: number, entry: number, length: number): number {
    const attached = this.#sockets[index]!;
    const at = attached.answersUsed;
    if (at + length > attached.answers.bytes.length) return -1;
    attached.answersUsed += length;
    const rx = attached.socket.rx;
    attached.socket.send(attached.answers, at, length, length, rx.sources, entry, rx.locals, entry);
    return at;
  }

  #otherFrame(now: Instant, index: number, entry: number, at: number, size: number): void {
    const { rx } = this.#sockets[index]!.socket;
    if (rx.memory[at] === Frame.probe && size === PROBE_LENGTH) this.#probes.ask(now, index, rx, entry, at);
    else this.#drops.values[Drop.unknown_frame]!++;
  }

  /** A node's relay connection was made from `address`: that is its forwarding address until it proves another. */
  placeNode(node: RelayNode, address: SocketAddress): void {
    address.write(node.forwarding, 0);
    node.local.set(this.#asked.find(node.forwarding, 0) ?? UNSPECIFIED);
    node.socket = Math.max(
      0,
      this.#sockets.findIndex((one) => one.socket.local.ip.family === address.ip.family),
    );
    this.#asked.pin(node.forwarding, node.local);
  }

  /** The node is gone. */
  forgetNode(node: RelayNode): void {
    this.#asked.unpin(node.forwarding);
  }

  /**
   * The node's relay connection has moved to `address`: asks that address to prove itself, so that a node with nothing to relay
   * is reached as well. Between batches only; to be repeated until the node has moved.
   */
  askToMove(now: Instant, node: RelayNode, address: SocketAddress): void {
    const words = new Uint32Array(ADDRESS_WORDS);
    address.write(words, 0);
    const socket = this.#sockets.findIndex((one) => one.socket.local.ip.family === address.ip.family);
    if (socket < 0 || !this.#revalidateLimit.admit(now, words, 0)) return;
    let candidate = node.candidate;
    if (candidate === undefined || !sameWords(candidate.address, 0, words, 0)) {
      candidate = newCandidate();
      candidate.socket = socket;
      candidate.address.set(words);
      candidate.local.set(this.#asked.find(words, 0) ?? UNSPECIFIED);
      candidate.nonceHigh = this.#entropy.uint32();
      candidate.nonceLow = this.#entropy.uint32();
      node.candidate = candidate;
    }
    this.#sendRevalidate(this.#sockets[socket]!, words, candidate.local, candidate.nonceHigh, candidate.nonceLow);
  }

  /** Tells a node of the process before this one, by a REVALIDATE that means nothing here, that it has to connect anew. */
  tellFormer(address: Uint32Array, local: Uint32Array): void {
    const attached = this.#sockets.find((one) => one.socket.local.ip.isV4 === isV4(address));
    if (attached === undefined) return;
    // Resets of its connection are to leave from the address that it used.
    this.#asked.note(address, local, 0);
    this.#sendRevalidate(attached, address, local, this.#entropy.uint32(), this.#entropy.uint32());
  }

  /** Between batches only. */
  #sendRevalidate(attached: Attached, to: Uint32Array, local: Uint32Array, high: number, low: number): void {
    const { bytes } = attached.answers;
    bytes[0] = Frame.revalidate;
    putWord(bytes, 1, high);
    putWord(bytes, 5, low);
    attached.socket.send(attached.answers, 0, REVALIDATE_LENGTH, REVALIDATE_LENGTH, to, 0, local, 0);
    attached.socket.flush();
    this.counters.revalidates++;
  }

  /** Sends everything the relay's endpoint has to send. */
  flushEndpoint(now: Instant): void {
    const endpoint = this.#endpoint;
    let offset = 0;
    while (endpoint.transmit(now, offset, MAX_SEGMENTS)) {
      const { length, segment, response } = endpoint.out;
      if (response === ResponseKind.reset && !this.#resetLimit.admit(now, endpoint.outAddress, 0)) {
        this.#drops.values[Drop.rate_limited]!++;
        continue;
      }
      const to = this.#sockets.find((one) => one.socket.local.ip.isV4 === isV4(endpoint.outAddress));
      const source = this.#asked.find(endpoint.outAddress, 0) ?? UNSPECIFIED;
      to?.socket.send(to.endpointTransmit, offset, length, segment, endpoint.outAddress, 0, source, 0);
      offset += (length + 63) & ~63;
      if (offset + RUN_BYTES > endpoint.tx.length) {
        this.#flushSockets();
        offset = 0;
      }
    }
    if (offset > 0) this.#flushSockets();
  }

  #flushSockets(): void {
    for (const attached of this.#sockets) attached.socket.flush();
  }

  /**
   * A node echoed `nonce` on its relay connection: the source it was sent to becomes the node's forwarding address.
   * @param asker the channel or the node itself on whose behalf the source was asked.
   * @returns whether the nonce was this asker's.
   */
  revalidated(node: RelayNode, asker: { candidate: Candidate | undefined }, high: number, low: number): boolean {
    const { candidate } = asker;
    if (candidate === undefined || candidate.nonceHigh !== high || candidate.nonceLow !== low) return false;
    this.#asked.unpin(node.forwarding);
    node.moveTo(candidate.socket, candidate.address, candidate.local, 0);
    this.#asked.pin(node.forwarding, node.local);
    asker.candidate = undefined;
    this.counters.revalidated++;
    return true;
  }
}

function isV4(words: Uint32Array): boolean {
  return words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
}
