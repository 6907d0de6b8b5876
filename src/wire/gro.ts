/**
 * Coalescing: IP packets of one source, fed in order, come out as super-segments of up to 64 KB, the mirror image of
 * segmentation. A few flows are kept open side by side, so interleaved flows still merge.
 *
 *   push ──► mergeable? ──no──► the run of its flow goes out, then the packet as it is
 *              │ yes
 *              ├─ goes on where its run is ──► appended (FIN, PSH, short payload: the run goes out)
 *              └─ otherwise ──► its run goes out, a new one begins        flush ──► every run goes out
 *
 * Nothing is reordered within a flow. What cannot be parsed, and fragments, close all runs first. The rules of joining are in
 * gro-flow.ts.
 */
import { Drop } from '../base/drop.js';
import { Arena, copyBytes } from './arena.js';
import { ENDED, GroFlow, isMergeable, JOINED, REFUSED, SLOT_SIZE } from './gro-flow.js';
import { ParsedPacket, parsePacket } from './inner.js';
import { IP_LENGTH_MAX, PROTO_TCP, PROTO_UDP } from './ip.js';
import { TCP_CHECKSUM, writeTcpChecksum } from './open-checksum.js';
import { GSO_NONE, GSO_UDP_L4, VNET_DATA_VALID, VNET_HEADER, VNET_NEEDS_CSUM, VnetFields, writeVnet } from './vnet.js';

/** Flows open side by side unless told otherwise: 8 runs and one slot for single packets are 576 KiB. */
const DEFAULT_FLOWS = 8;

const NO_PIECES = new Uint32Array(0);

/** Where packets go. `packet` and its bytes are the coalescer's own and valid only during the call. */
export interface CoalescerSink {
  emit(packet: CoalescedPacket): void;
}

export interface CoalescerOptions {
  /** Runs kept open side by side, at least 1. */
  readonly flows?: number;
  /** Whether UDP is coalesced too (GSO_UDP_L4, for devices that take it). Default true. */
  readonly udp?: boolean;
  /** Memory whose packets keep until the next `flush` has returned, for a sink that puts super-segments together from pieces. */
  readonly lasting?: Arena;
}

/**
 * A packet or super-segment in the coalescer's arena, with `VNET_HEADER` writable bytes before it. With `pieces` only its first `head` bytes
 * lie there: all headers and the first payload.
 */
export class CoalescedPacket {
  readonly arena: Arena;
  offset = 0;
  length = 0;
  /**
   * GSO_NONE: one packet. Otherwise a super-segment.
   */
  gsoType = GSO_NONE;
  /** The transport checksum field holds the pseudo-header's sum: in every super-segment, and where it came open (open-checksum.ts). */
  isPartial = false;
  /** Payload bytes of each segment but the last; 0 with GSO_NONE. */
  gsoSize = 0;
  /** Bytes of it in the arena. */
  head = 0;
  /** Where the others lie, in this order: offset and length of each piece in `source`. */
  source: Arena | undefined;
  pieces: Uint32Array = NO_PIECES;
  pieceCount = 0;
  /** Bytes of IP and transport header; 0 when not known (GSO_NONE and not checked). */
  headerLength = 0;
  /** Bytes of IP header; 0 when not known. */
  transportStart = 0;
  /** Packets inside. */
  segments = 1;
  /** Whether the IP and transport checksums of everything inside were verified, or are vouched for. */
  checked = false;
  readonly #fields = new VnetFields();

  constructor(arena: Arena) {
    this.arena = arena;
  }

  /** Writes the virtio-net header before the packet and returns its offset; `VNET_HEADER + length` bytes go to the device. */
  writeVnetHeader(): number {
    const fields = this.#fields;
    fields.clear();
    if (this.isPartial) {
      fields.flags = VNET_NEEDS_CSUM;
      if (this.gsoType !== GSO_NONE) {
        fields.gsoType = this.gsoType;
        fields.headerLength = this.headerLength;
        fields.gsoSize = this.gsoSize;
      }
      fields.csumStart = this.transportStart;
      fields.csumOffset = this.gsoType === GSO_UDP_L4 ? 6 : TCP_CHECKSUM;
    } else if (this.checked) fields.flags = VNET_DATA_VALID;
    writeVnet(this.arena.bytes, this.offset - VNET_HEADER, fields);
    return this.offset - VNET_HEADER;
  }
}

export class Coalescer {
  /** All memory that packets are emitted from: register it once with the device. */
  readonly arena: Arena;
  readonly #sink: CoalescerSink;
  readonly #flows: readonly GroFlow[];
  readonly #single: GroFlow;
  readonly #udp: boolean;
  readonly #lasting: Arena | undefined;
  readonly #out: CoalescedPacket;
  readonly #parsed = new ParsedPacket();
  /** The run that a packet went into last: mostly the next one does too. */
  #last: GroFlow | undefined;
  #open = 0;
  #order = 0;

  constructor(sink: CoalescerSink, options: CoalescerOptions = {}) {
    const count = options.flows ?? DEFAULT_FLOWS;
    const arena = new Arena((count + 1) * SLOT_SIZE);
    this.arena = arena;
    this.#sink = sink;
    this.#flows = Array.from({ length: count }, (_, i) => new GroFlow(arena, i));
    this.#single = new GroFlow(arena, count);
    this.#udp = options.udp ?? true;
    this.#lasting = options.lasting;
    this.#out = new CoalescedPacket(arena);
  }

  /**
   * Takes the packet of `length` bytes at `offset`; it comes out now or by the next `flush`, until which what is not `lasting` has been copied. What is no IP packet comes
   * out as it is, for the sink to judge; only one that fits no slot (0 or more than 65,535 bytes) is refused:
   * returns its drop reason, else `Drop.none`.
   * @param isOpen its TCP checksum was left open by somebody who vouches for it; the mark has been taken off, `source` may be written to
   */
  push(source: Arena, offset: number, length: number, isOpen = false): number {
    if (length <= 0 || length > IP_LENGTH_MAX) return Drop.bad_length;
    const last = this.#last;
    if (last !== undefined && last.length !== 0) {
      const result = last.follow(source, offset, length, isOpen);
      if (result === ENDED) this.#close(last);
      if (result !== REFUSED) return Drop.none;
    }
    if (parsePacket(source.bytes, offset, length, this.#parsed) === Drop.none) {
      this.add(source, this.#parsed, isOpen);
    } else {
      this.flush();
      this.#pass(source, offset, length);
    }
    return Drop.none;
  }

  /** The same for a packet that the caller has parsed. */
  add(source: Arena, packet: ParsedPacket, isMarked = false): void {
    const { protocol, offset, totalLength } = packet;
    const isOpen = isMarked && protocol === PROTO_TCP;
    if (packet.isFragment) this.flush();
    if (protocol !== PROTO_TCP && protocol !== PROTO_UDP) {
      this.#pass(source, offset, totalLength);
      return;
    }
    let flow = this.#find(packet);
    if (!isMergeable(source.bytes, packet) || (protocol === PROTO_UDP && !this.#udp)) {
      if (flow !== undefined) this.#close(flow);
      if (isOpen && !packet.isFragment) {
        writeTcpChecksum(source, offset, packet.transportOffset, packet.transportLength);
      }
      this.#pass(source, offset, totalLength);
      return;
    }
    if (flow !== undefined) {
      this.#last = flow;
      const result = flow.append(source, packet, isOpen);
      if (result === JOINED) return;
      this.#close(flow);
      if (result === ENDED) return;
    } else flow = this.#vacate();
    this.#last = flow;
    const result = flow.begin(source, packet, isOpen, source === this.#lasting);
    this.#open++;
    flow.order = this.#order++;
    if (result !== JOINED) this.#close(flow, result !== REFUSED);
  }

  /** Emits every open run. Call at the end of each batch. */
  flush(): void {
    if (this.#open === 0) return;
    for (const flow of this.#flows) if (flow.length !== 0) this.#close(flow);
  }

  #find(packet: ParsedPacket): GroFlow | undefined {
    if (this.#open === 0) return undefined;
    for (let i = 0; i < this.#flows.length; i++) {
      const flow = this.#flows[i]!;
      if (flow.length !== 0 && flow.matches(packet)) return flow;
    }
    return undefined;
  }

  /** A free slot; the run that began first goes out when there is none. */
  #vacate(): GroFlow {
    let oldest = this.#flows[0]!;
    for (let i = 0; i < this.#flows.length; i++) {
      const flow = this.#flows[i]!;
      if (flow.length === 0) return flow;
      if (flow.order < oldest.order) oldest = flow;
    }
    this.#close(oldest);
    return oldest;
  }

  #close(flow: GroFlow, checked = true): void {
    const out = this.#out;
    out.offset = flow.offset;
    out.length = flow.length;
    out.head = flow.head;
    out.source = flow.source;
    out.pieces = flow.pieces;
    out.pieceCount = flow.pieceCount;
    out.gsoType = flow.finish();
    out.isPartial = flow.isOpen || flow.segments > 1;
    out.gsoSize = flow.segments > 1 ? flow.gsoSize : 0;
    out.headerLength = flow.headerLength;
    out.transportStart = flow.start;
    out.segments = flow.segments;
    out.checked = checked;
    flow.length = 0;
    this.#open--;
    this.#sink.emit(out);
  }

  #pass(source: Arena, offset: number, length: number): void {
    const out = this.#out;
    copyBytes(source, offset, this.arena, this.#single.offset, length);
    out.offset = this.#single.offset;
    out.length = length;
    out.head = length;
    out.source = undefined;
    out.pieces = NO_PIECES;
    out.pieceCount = 0;
    out.gsoType = GSO_NONE;
    out.isPartial = false;
    out.gsoSize = 0;
    out.headerLength = 0;
    out.transportStart = 0;
    out.segments = 1;
    out.checked = false;
    this.#sink.emit(out);
  }
}
