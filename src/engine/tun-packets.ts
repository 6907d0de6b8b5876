/**
 * A TUN device with offload as an engine's packet device: super-segments of the kernel go to the stack whole, and the stack's
 * leave as one write each, cut by the kernel.
 *
 *   read (virtio header · packet up to 64 KB) ─► take(arena, offset, length, segment size, checked)
 *   emit, emitTcp ─► virtio header · packet ─► write            datagrams of one flow are joined where the device cuts them,
 *                                                               until something long comes or the turn ends
 */
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import type { StackSink } from '../netstack/types.js';
import type { DeviceMemory, TunDevice } from '../os/io.js';
import { Arena, align, copyBytes } from '../wire/arena.js';
import { writeU16 } from '../wire/bytes.js';
import { fold, pseudoSum, writeIpv4Checksum } from '../wire/checksum.js';
import { type CoalescedPacket, Coalescer } from '../wire/gro.js';
import { IPV4_HEADER, IPV6_HEADER, PROTO_TCP, PROTO_UDP } from '../wire/ip.js';
import {
  GSO_ECN,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP_L4,
  readVnet,
  VNET_HEADER,
  VNET_NEEDS_CSUM,
  VnetFields,
  writeVnet,
} from '../wire/vnet.js';

/** The packet itself begins at a multiple of 4 behind the virtio header. */
const START = 2;
const PACKET = START + VNET_HEADER;
const READ_SIZE = 65_535 + VNET_HEADER;
/** What one turn takes before others get theirs. */
const TURN_BYTES = 256 * 1024;
/** A packet counts for as many bytes at least: by the work there is with it. */
const LEAST_BYTES = 512;
/** Bytes of a packet that others should not have to wait for: its way to a socket takes tens of microseconds. */
const LONG = 16 * 1024;
const TCP_CHECKSUM = 16;

/** Takes one packet or run, as `Stack.handlePacket`. */
export type TakePacket = (arena: Arena, offset: number, length: number, segmentSize: number, checked: boolean) => void;

export class TunPackets implements StackSink {
  readonly #tun: TunDevice;
  readonly #drops: Counters<DropName>;
  readonly #in = new Arena(align(PACKET + 65_536));
  readonly #out = new Arena(align(PACKET + 65_536));
  readonly #inMemory: DeviceMemory;
  readonly #outMemory: DeviceMemory;
  readonly #fields = new VnetFields();
  readonly #coalescer: Coalescer | undefined;
  readonly #coalesced: DeviceMemory | undefined;
  readonly #beforeLong: () => void;

  /** @param beforeLong called before what takes a while: lets go what packets have left to be joined on the host's side. */
  constructor(tun: TunDevice, drops: Counters<DropName>, beforeLong: () => void = () => {}) {
    this.#tun = tun;
    this.#drops = drops;
    this.#beforeLong = beforeLong;
    this.#inMemory = tun.register(this.#in.bytes);
    this.#outMemory = tun.register(this.#out.bytes);
    if (tun.udpOffload) {
      this.#coalescer = new Coalescer({ emit: (packet) => this.#emitRun(packet) });
      this.#coalesced = tun.register(this.#coalescer.arena.bytes);
    }
  }

  /** Takes what the device has, as far as one turn goes. Datagrams never wait for a long packet, on either side. */
  read(take: TakePacket): void {
    const fields = this.#fields;
    this.flush();
    for (let bytes = 0; bytes < TURN_BYTES; ) {
      const n = this.#tun.read(this.#inMemory, START, READ_SIZE);
      if (n <= VNET_HEADER) return;
      bytes += Math.max(n, LEAST_BYTES);
      readVnet(this.#in.bytes, START, fields);
      const type = fields.gsoType & ~GSO_ECN;
      if (type !== GSO_NONE && type !== GSO_TCPV4 && type !== GSO_TCPV6 && type !== GSO_UDP_L4) {
        this.#drops.values[Drop.protocol_not_allowed]!++;
        continue;
      }
      // What the kernel left for us to sum it vouches for.
      const checked = (fields.flags & VNET_NEEDS_CSUM) !== 0;
      if (n > LONG) this.#beforeLong();
      take(this.#in, PACKET, n - VNET_HEADER, type === GSO_NONE ? 0 : fields.gsoSize, checked);
    }
  }

  /** Writes what waits to be joined: call once at the end of a turn. */
  flush(): void {
    this.#coalescer?.flush();
  }

  emit(packet: Arena, offset: number, length: number): void {
    if (this.#coalescer !== undefined && isUdp(packet.bytes, offset)) {
      this.#coalescer.push(packet, offset, length);
      return;
    }
    copyBytes(packet, offset, this.#out, PACKET, length);
    this.#fields.clear();
    this.#write(length);
  }

  emitTcp(
    header: Arena,
    headerOffset: number,
    headerLength: number,
    payload: Arena,
    offset: number,
    length: number,
    segmentSize: number,
  ): void {
    if (length > LONG) this.flush();
    const { bytes } = this.#out;
    copyBytes(header, headerOffset, this.#out, PACKET, headerLength);
    const isV4 = bytes[PACKET]! >>> 4 === 4;
    const start = isV4 ? IPV4_HEADER : IPV6_HEADER;
    const total = headerLength + length;
    if (isV4) {
      writeU16(bytes, PACKET + 2, total);
      writeIpv4Checksum(bytes, PACKET);
    } else writeU16(bytes, PACKET + 4, total - IPV6_HEADER);
    writeU16(bytes, PACKET + start + TCP_CHECKSUM, fold(pseudoSum(bytes, PACKET, PROTO_TCP, total - start)));
    const fields = this.#fields;
    fields.clear();
    fields.flags = VNET_NEEDS_CSUM;
    fields.csumStart = start;
    fields.csumOffset = TCP_CHECKSUM;
    if (length > segmentSize) {
      fields.gsoType = isV4 ? GSO_TCPV4 : GSO_TCPV6;
      fields.gsoSize = segmentSize;
      fields.headerLength = headerLength;
    }
    writeVnet(bytes, START, fields);
    const head = VNET_HEADER + headerLength;
    const written = this.#tun.writeParts(this.#outMemory, START, head, payload.bytes, offset, length);
    if (written < 0) this.#drops.values[Drop.tun_full]!++;
  }

  #write(length: number): void {
    writeVnet(this.#out.bytes, START, this.#fields);
    if (this.#tun.write(this.#outMemory, START, length + VNET_HEADER) < 0) this.#drops.values[Drop.tun_full]!++;
  }

  #emitRun(packet: CoalescedPacket): void {
    const at = packet.writeVnetHeader();
    if (this.#tun.write(this.#coalesced!, at, packet.length + VNET_HEADER) < 0) {
      this.#drops.values[Drop.tun_full]! += packet.segments;
    }
  }
}

function isUdp(bytes: Uint8Array, offset: number): boolean {
  return (bytes[offset]! >>> 4 === 4 ? bytes[offset + 9] : bytes[offset + 6]) === PROTO_UDP;
}
