/**
 * The underlay of a node: its UDP sockets, and what belongs to whom on them.
 *
 *   from a relay's address     QUIC      → endpoint of the relay connections
 *                              RELAYED   → endpoint of the links, at the virtual address of its channel, which is of that relay
 *                              REVALIDATE→ owner
 *   from anywhere              PROBE REPLY→ owner, which knows the nonces it asked with
 *                              PUNCH     → owner, which knows its tokens
 *   from an open address       QUIC      → endpoint of the links (`DirectTable`)
 *   anything else              dropped and counted
 *
 * Sending is the mirror image: what the links' endpoint sends to a virtual address leaves for the relay, with the RELAYED
 * header written into the room the endpoint left before each packet; what it sends to a real address leaves as it is.
 *
 * A socket that takes no more keeps what it has, and with it the endpoint's transmit memory: neither endpoint is asked for packets
 * until there is room again. Then the relay connection comes first, links next, and what waits above them last. A socket that
 * stays full for `MOST_BLOCKED` loses what it keeps, so that it does not stop the other one.
 */
import { ADDRESS_WORDS, type SocketAddress } from '../base/address.js';
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import { type Duration, elapsed, type Instant, Seconds } from '../base/time.js';
import type { TransmitMemory, UdpBatch, UdpSocket } from '../os/io.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import {
  decodeNonce,
  decodeProbeReply,
  Frame,
  PROBE_LENGTH,
  type ProbeReply,
  putRelayed,
  RELAYED_HEADER,
  SHORTEST_QUIC_PACKET,
  type Word64,
  wordAt,
} from '../tunnel/frames.js';
import { PUNCH_LENGTH } from '../tunnel/punch/punch-frame.js';
import { DirectTable } from './direct-table.js';
import { ExtraSocketSet } from './extra-sockets.js';
import { LinkChannels } from './link-channels.js';
import { RelaySlots } from './relay-slots.js';
import { SendRoom } from './send-room.js';
import { TcpCredits } from './tcp-credits.js';
import { channelNumber } from './virtual-address.js';

/** Datagrams in one send: 44 of the largest (1452 + 9 bytes) are below the 65,507 bytes the kernel takes at once. */
export const MAX_RUN_SEGMENTS = 44;
/** Bytes one run takes at most. */
const RUN_BYTES = 65_536;
/** Bytes of transmit memory with which a run is written where it is sent from: QUIC writes more at times than it keeps (native/quic/src/room.rs). */
const RUN_ROOM = RUN_BYTES + 4096;

export interface UnderlayOwner {
  /** The relay asks this socket's source to be proved. */
  onRevalidate(now: Instant, nonce: Word64, relay: number): void;
  /** A valid RELAYED frame arrived: the relay carries our packets. */
  onRelayed(now: Instant, relay: number): void;
  onProbeReply(now: Instant, reply: ProbeReply): void;
  /** A frame of PUNCH's type came from the packed address at `index`; whether it is one, and whose, is the owner's to know. */
  onPunch(
    now: Instant,
    bytes: Uint8Array,
    offset: number,
    length: number,
    sources: Uint32Array,
    index: number,
    socket: number,
  ): void;
}

/** A device that sends nothing for so long is not slow but stuck; QUIC has long sent again what it held. */
const MOST_BLOCKED: Duration = Seconds(5);
/** While packets wait, a batch is this part of what a socket may hold: batches that a socket keeps wait behind all of that. */
const BATCH_PART = 4;

interface Attached {
  readonly socket: UdpSocket;
  readonly room: SendRoom;
  /** `UdpSocket.waits` when it was last looked at. */
  waits: number;
  readonly relayMemory: number;
  readonly linkMemory: number;
  readonly relayTransmit: TransmitMemory;
  readonly linkTransmit: TransmitMemory;
  readonly probe: TransmitMemory;
  readonly punch: TransmitMemory;
}

export class Underlay {
  readonly channels = new LinkChannels();
  /** Whose QUIC packets are taken besides the relay's. */
  readonly direct: DirectTable;
  /** Sockets besides one per family, while ports are guessed. */
  readonly extra: ExtraSocketSet;
  readonly #sockets: readonly Attached[];
  readonly #relay: QuicEndpoint;
  readonly #links: QuicEndpoint;
  readonly #drops: Counters<DropName>;
  readonly #owner: UnderlayOwner;
  readonly #relays = new RelaySlots();
  readonly #credits = new TcpCredits();
  #isBlocked = false;
  #blockedSince: Instant | undefined;
  /** Index of the socket of each family; −1: none. */
  readonly #socket4: number;
  readonly #socket6: number;

  constructor(
    sockets: readonly UdpSocket[],
    relay: QuicEndpoint,
    links: QuicEndpoint,
    drops: Counters<DropName>,
    owner: UnderlayOwner,
    seed: number,
  ) {
    this.direct = new DirectTable(seed);
    this.extra = new ExtraSocketSet({
      links,
      table: this.direct,
      onEntry: (now, rx, entry, linkMemory, id) => this.#fromElsewhere(now, rx, entry, linkMemory, id),
    });
    this.#relay = relay;
    this.#links = links;
    this.#drops = drops;
    this.#owner = owner;
    this.#sockets = sockets.map((socket) => ({
      socket,
      room: new SendRoom(),
      waits: 0,
      relayMemory: relay.attachReceive(socket.rx.memory),
      linkMemory: links.attachReceive(socket.rx.memory),
      relayTransmit: socket.registerTransmit(relay.tx),
      linkTransmit: socket.registerTransmit(links.tx),
      probe: socket.registerTransmit(new Uint8Array(PROBE_LENGTH)),
      punch: socket.registerTransmit(new Uint8Array(PUNCH_LENGTH)),
    }));
    for (const { socket, room } of this.#sockets) socket.setSendRoom(room.bytes);
    this.#socket4 = this.#sockets.findIndex((one) => one.socket.local.ip.isV4);
    this.#socket6 = this.#sockets.findIndex((one) => !one.socket.local.ip.isV4);
  }

  /** Whether a socket of this address family exists. */
  reaches(address: SocketAddress): boolean {
    return this.#socketFor(address.ip.family) >= 0;
  }

  /**
   * The relay of this slot is at `address` from now on, which `reaches`; undefined: there is no such relay any more.
   * @param slot below `MAX_RELAYS`. @param credit what the bridge at `address` shares, where that is one.
   */
  setRelay(slot: number, address: SocketAddress | undefined, credit?: SharedArrayBuffer): void {
    this.#credits.set(slot, credit);
    this.#relays.set(slot, address, address === undefined ? -1 : this.#socketFor(address.ip.family));
  }

  isRelay(address: SocketAddress): boolean {
    return this.#relays.has(address);
  }

  /** Whether an address stands for a relay channel; on the wire it is nobody's. */
  isVirtual(address: SocketAddress): boolean {
    const words = new Uint32Array(ADDRESS_WORDS);
    address.write(words, 0);
    return channelNumber(words, 0) >= 0;
  }

  /** Receives one batch from socket `index` and hands it to the endpoints; returns the number of entries. */
  receive(now: Instant, index: number): number {
    const attached = this.#sockets[index]!;
    const rx = attached.socket.rx;
    const entries = attached.socket.receive();
    for (let entry = 0; entry < entries; entry++) {
      const relay = this.#relays.find(index, rx.sources, entry);
      if (relay >= 0) this.#fromRelay(now, attached, entry, relay);
      else this.#fromElsewhere(now, rx, entry, attached.linkMemory, 0);
    }
    if (entries > 0) {
      this.#relay.receive(now);
      this.#links.receive(now);
    }
    return entries;
  }

  #fromRelay(now: Instant, attached: Attached, entry: number, relay: number): void {
    const rx = attached.socket.rx;
    const memory = rx.memory;
    const segment = rx.segments[entry]!;
    let at = rx.offsets[entry]!;
    const end = at + rx.lengths[entry]!;
    while (at < end) {
      const size = Math.min(segment, end - at);
      const first = memory[at]!;
      if ((first & 0x40) !== 0) {
        let stop = at + size;
        while (stop < end && (memory[stop]! & 0x40) !== 0) stop += Math.min(segment, end - stop);
        this.#relay.queueRun(attached.relayMemory, at, stop - at, segment, 0, rx.sources, entry);
        at = stop;
      } else if (first === Frame.relayed) {
        at = this.#relayedRun(now, attached, at, end, segment, relay);
      } else {
        const nonce = first === Frame.revalidate ? decodeNonce(memory, at, size) : undefined;
        const reply = first === Frame.probeReply ? decodeProbeReply(memory, at, size) : undefined;
        if (nonce !== undefined) this.#owner.onRevalidate(now, nonce, relay);
        else if (reply !== undefined) this.#owner.onProbeReply(now, reply);
        else this.#drops.values[Drop.unknown_frame]!++;
        at += size;
      }
    }
  }

  #fromElsewhere(now: Instant, rx: UdpBatch, entry: number, linkMemory: number, socket: number): void {
    const { memory, offsets, lengths, segments, sources } = rx;
    const isOpen = this.direct.isOpen(now, sources, entry);
    const segment = segments[entry]!;
    let at = offsets[entry]!;
    const end = at + lengths[entry]!;
    if (at === end) this.#drops.values[Drop.unknown_source]!++;
    while (at < end) {
      const size = Math.min(segment, end - at);
      const first = memory[at]!;
      if (isOpen && (first & 0x40) !== 0) {
        let stop = at + size;
        if ((first & 0x80) === 0) {
          while (stop < end && (memory[stop]! & 0xc0) === 0x40) stop += Math.min(segment, end - stop);
        } else if (!this.direct.admits(now, sources, entry, memory, at, size)) {
          this.#drops.values[Drop.rate_limited]!++;
          at = stop;
          continue;
        }
        this.#links.queueRun(linkMemory, at, stop - at, segment, 0, sources, entry);
        at = stop;
        continue;
      }
      const reply = first === Frame.probeReply ? decodeProbeReply(memory, at, size) : undefined;
      if (first === Frame.punch) this.#owner.onPunch(now, memory, at, size, sources, entry, socket);
      else if (reply !== undefined) this.#owner.onProbeReply(now, reply);
      else this.#drops.values[Drop.unknown_source]!++;
      at += size;
    }
  }

  /** Queues the neighbours that carry the channel of the frame at `at`; returns where they end. */
  #relayedRun(now: Instant, attached: Attached, at: number, end: number, segment: number, relay: number): number {
    const memory = attached.socket.rx.memory;
    const firstSize = Math.min(segment, end - at);
    if (firstSize < RELAYED_HEADER + SHORTEST_QUIC_PACKET) {
      this.#drops.values[Drop.malformed]!++;
      return at + firstSize;
    }
    const high = wordAt(memory, at + 1);
    const low = wordAt(memory, at + 5);
    const channel = this.channels.byId(high, low);
    if (channel?.relay !== relay) {
      this.#drops.values[Drop.unknown_channel]!++;
      return at + firstSize;
    }
    this.#owner.onRelayed(now, relay);
    let stop = at + firstSize;
    while (
      end - stop >= RELAYED_HEADER + SHORTEST_QUIC_PACKET &&
      memory[stop] === Frame.relayed &&
      wordAt(memory, stop + 1) === high &&
      wordAt(memory, stop + 5) === low
    ) {
      stop += Math.min(segment, end - stop);
    }
    this.#links.queueRun(attached.linkMemory, at, stop - at, segment, RELAYED_HEADER, channel.words, 0);
    return stop;
  }

  get isBlocked(): boolean {
    return this.#isBlocked || this.#credits.isFull;
  }

  /** A relay is reached over TCP: only as much as its bridge grants goes at once. */
  get isMetered(): boolean {
    return this.#credits.isUsed;
  }

  get batchBytes(): number {
    let bytes = RUN_BYTES;
    for (const { room } of this.#sockets) bytes = Math.min(bytes, room.bytes / BATCH_PART);
    return this.#credits.isUsed ? this.#credits.left(bytes) : bytes;
  }

  /** Socket `index`, which was full, has room: what it kept goes, and what the relay connection has to say. */
  writable(now: Instant, index: number): void {
    const { socket, room } = this.#sockets[index]!;
    if (!socket.isBlocked) return;
    if (room.onRoom(now)) socket.setSendRoom(room.bytes);
    this.#flushSockets(now, false);
    this.#flushEndpoint(now, this.#relay, false, false);
  }

  /** Sends what the links have to send. @param isPatient false: not even a moment is waited for room. */
  flushLinks(now: Instant, isPatient = true): void {
    this.#flushEndpoint(now, this.#links, true, isPatient);
  }

  /** Sends everything both endpoints have to send; the links first, so that the close of a link precedes its channel's. */
  flush(now: Instant): void {
    if (this.#isBlocked) this.#endBlockade(now);
    if (this.#credits.isUsed) this.#credits.review(now);
    this.flushLinks(now);
    this.#flushEndpoint(now, this.#relay, false, true);
    this.channels.forgetClosed(now);
  }

  #flushEndpoint(now: Instant, endpoint: QuicEndpoint, isLinks: boolean, isPatient: boolean): void {
    let offset = 0;
    while (!this.#isBlocked && endpoint.transmit(now, offset, MAX_RUN_SEGMENTS)) {
      const { length, segment } = endpoint.out;
      const socket = !isLinks
        ? this.#sendPlain(endpoint, offset, length, segment)
        : endpoint.out.isVirtual
          ? this.#sendRelayed(endpoint, offset, length, segment)
          : this.#sendDirect(endpoint, offset, length, segment);
      offset += (length + 63) & ~63;
      if (offset + RUN_ROOM > endpoint.tx.length || socket?.isBlocked === true) {
        this.#flushSockets(now, isPatient);
        offset = 0;
      }
    }
    if (offset > 0) this.#flushSockets(now, isPatient);
  }

  /** Sends one PROBE to an address that `reaches`. */
  probe(address: SocketAddress, bytes: Uint8Array): void {
    const attached = this.#sockets[this.#socketFor(address.ip.family)];
    if (attached === undefined || this.#refuses(attached)) return;
    const words = new Uint32Array(ADDRESS_WORDS);
    address.write(words, 0);
    attached.probe.bytes.set(bytes);
    attached.socket.send(attached.probe, 0, bytes.length, bytes.length, words, 0);
    this.#flushFrame(attached);
  }

  /** Sends one PUNCH to the packed address at `index`, from the socket of its family (0) or a further one. */
  punch(bytes: Uint8Array, addresses: Uint32Array, index: number, socket: number): void {
    if (socket !== 0) {
      this.extra.punch(socket, bytes, addresses, index);
      return;
    }
    const attached = this.#sockets[this.#socketOf(addresses, index)];
    if (attached === undefined || this.#refuses(attached)) return;
    attached.punch.bytes.set(bytes);
    attached.socket.send(attached.punch, 0, bytes.length, bytes.length, addresses, index);
    this.#flushFrame(attached);
  }

  /** A frame of ours finds no room: it is one of many, and dropped. */
  #refuses({ socket }: Attached): boolean {
    if (socket.isBlocked) this.#drops.values[Drop.send_blocked]!++;
    return socket.isBlocked;
  }

  #flushFrame({ socket }: Attached): void {
    socket.flush(false);
    if (socket.isBlocked) this.#isBlocked = true;
  }

  #sendPlain(endpoint: QuicEndpoint, offset: number, length: number, segment: number): UdpSocket {
    const index = this.#socketOf(endpoint.outAddress, 0);
    const { socket, relayTransmit } = this.#sockets[index]!;
    if (this.#credits.isUsed) this.#credits.sent(this.#relays.find(index, endpoint.outAddress, 0), length);
    socket.send(relayTransmit, offset, length, segment, endpoint.outAddress, 0);
    return socket;
  }

  #sendDirect(endpoint: QuicEndpoint, offset: number, length: number, segment: number): UdpSocket | undefined {
    const further = this.extra.size === 0 ? undefined : this.extra.send(endpoint, offset, length, segment);
    if (further !== undefined) return further;
    const attached = this.#sockets[this.#socketOf(endpoint.outAddress, 0)];
    if (attached === undefined) this.#drops.values[Drop.no_route]! += Math.ceil(length / segment);
    else attached.socket.send(attached.linkTransmit, offset, length, segment, endpoint.outAddress, 0);
    return attached?.socket;
  }

  #sendRelayed(endpoint: QuicEndpoint, offset: number, length: number, segment: number): UdpSocket | undefined {
    const channel = this.channels.behind(endpoint.outAddress);
    const attached = channel && this.#sockets[this.#relays.socketOf(channel.relay)];
    if (channel === undefined || attached === undefined) {
      this.#drops.values[Drop.unknown_channel]! += Math.ceil(length / segment);
      return undefined;
    }
    for (let at = offset; at < offset + length; at += segment) putRelayed(endpoint.tx, at, channel.high, channel.low);
    const { socket, linkTransmit } = attached;
    if (this.#credits.isUsed) this.#credits.sent(channel.relay, length);
    socket.send(linkTransmit, offset, length, segment, this.#relays.addresses, channel.relay);
    return socket;
  }

  #flushSockets(now: Instant, isPatient: boolean): void {
    this.#isBlocked = false;
    if (this.extra.size > 0) this.extra.flush(isPatient);
    for (const attached of this.#sockets) {
      const { socket, room } = attached;
      socket.flush(isPatient);
      if (socket.isBlocked) {
        room.onFull(now);
        this.#isBlocked = true;
      } else if (socket.waits !== attached.waits) {
        attached.waits = socket.waits;
        if (room.onRoom(now)) socket.setSendRoom(room.bytes);
      } else if (room.onSent(now)) socket.setSendRoom(room.bytes);
    }
    if (this.#credits.isUsed) this.#credits.review(now);
    if (!this.#isBlocked) this.#blockedSince = undefined;
    else this.#blockedSince ??= now;
  }

  /** Lets go of what sockets have kept for too long. */
  #endBlockade(now: Instant): void {
    this.#blockedSince ??= now;
    if (elapsed(this.#blockedSince, now) < MOST_BLOCKED) return;
    for (const { socket, room } of this.#sockets) {
      if (!socket.isBlocked) continue;
      socket.giveUp();
      if (room.onRoom(now)) socket.setSendRoom(room.bytes);
    }
    this.#flushSockets(now, false);
  }

  #socketFor(family: 4 | 6): number {
    return family === 4 ? this.#socket4 : this.#socket6;
  }

  #socketOf(addresses: Uint32Array, index: number): number {
    const at = index * ADDRESS_WORDS;
    const isV4 = addresses[at + 2] === 0xffff && addresses[at + 1] === 0 && addresses[at] === 0;
    return isV4 ? this.#socket4 : this.#socket6;
  }
}
