/**
 * A TUN device between the host's kernel and sessions: super-segments of the kernel are cut straight into the outbound arena of a
 * link, coalesced packets of a session are written as one.
 *
 *   read (up to 64 KB) ─► parsed ─► owner: which link ─► `send`: segments in the outbound arena
 *   coalesced packet of a session, judged ─► virtio header ─► `write`
 */
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import { type Duration, elapsed, type Instant, Millis } from '../base/time.js';
import type { DeviceMemory, TunDevice } from '../os/io.js';
import { Arena, align } from '../wire/arena.js';
import type { CoalescedPacket } from '../wire/gro.js';
import { segment } from '../wire/gso.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import { PROTO_TCP } from '../wire/ip.js';
import { clampMss } from '../wire/mss.js';
import { TCP_SYN } from '../wire/tcp.js';
import { GSO_NONE, readVnet, VNET_HEADER, VnetFields, writeVnet } from '../wire/vnet.js';
import type { Link } from './link.js';
import type { Outbound } from './outbound.js';

/** The packet itself begins at a multiple of 4 behind the virtio header. */
const READ_OFFSET = 2;
const PACKET_OFFSET = READ_OFFSET + VNET_HEADER;
const READ_SIZE = 65_535 + VNET_HEADER;
/** What one turn takes from the device before packets are sent: about what the outbound arena holds. */
const TURN_BYTES = 768 * 1024;
const TURN_PACKETS = 256;
/** After a pause of this length the first packet goes on before another one is asked for: mostly there is none. */
const PAUSE: Duration = Millis(1);
/** Headers of one segment are at most this long: IPv6, and TCP with all options. */
const MAX_HEADERS = 40 + 60;

export interface TunPortParts {
  readonly tun: TunDevice;
  readonly outbound: Outbound;
  readonly drops: Counters<DropName>;
  readonly innerMtu: number;
}

/** Who decides where the kernel's packets go. */
export interface TunPortOwner {
  /** The packet that `TunPort.packet` describes, in `TunPort.arena`. Returns why it went no further, or `Drop.none`. */
  onPacket(now: Instant): number;
}

export class TunPort {
  packetsToHost = 0;
  packetsFromHost = 0;
  /** What was read last. */
  readonly arena = new Arena(align(PACKET_OFFSET + 65_536));
  readonly packet = new ParsedPacket();
  readonly #parts: TunPortParts;
  readonly #owner: TunPortOwner;
  readonly #memory: DeviceMemory;
  /** Memory that packets are written from. */
  readonly #registered = new Map<Arena, DeviceMemory>();
  readonly #fields = new VnetFields();
  readonly #first = new ParsedPacket();
  readonly #plain = new VnetFields();
  #lastRead = Number.NEGATIVE_INFINITY as Instant;

  constructor(parts: TunPortParts, owner: TunPortOwner) {
    this.#parts = parts;
    this.#owner = owner;
    this.#memory = parts.tun.register(this.arena.bytes);
  }

  /** Takes what the device has, as far as one turn goes. Returns whether more may wait. */
  read(now: Instant): boolean {
    const { tun, drops } = this.#parts;
    const most = elapsed(this.#lastRead, now) < PAUSE ? TURN_PACKETS : 1;
    this.#lastRead = now;
    let bytes = 0;
    for (let packets = 0; packets < most && bytes < TURN_BYTES; packets++) {
      const n = tun.read(this.#memory, READ_OFFSET, READ_SIZE);
      if (n <= 0) return false;
      bytes += n;
      this.packetsFromHost++;
      readVnet(this.arena.bytes, READ_OFFSET, this.#fields);
      let drop: number = parsePacket(this.arena.bytes, PACKET_OFFSET, n - VNET_HEADER, this.packet);
      if (drop === Drop.none) drop = this.#owner.onPacket(now);
      if (drop !== Drop.none) drops.values[drop]!++;
    }
    return true;
  }

  /** The packet that was read goes into a link. Returns why not, or `Drop.none`. */
  send(now: Instant, link: Link, isHeld: boolean): number {
    const { outbound, innerMtu } = this.#parts;
    const { totalLength: length, protocol, tcpFlags } = this.packet;
    const { gsoType, gsoSize } = this.#fields;
    const packets = gsoType === GSO_NONE ? 1 : Math.ceil(length / gsoSize);
    const room = gsoType === GSO_NONE ? align(length) : packets * align(gsoSize + MAX_HEADERS);
    if (!outbound.begin(now, link, packets, room, isHeld)) return Drop.no_room;
    const { arena, table, count, offset } = outbound;
    const { takesOpen } = link;
    const made = segment(this.arena, PACKET_OFFSET, length, this.#fields, arena, offset, table, count, takesOpen);
    if (made < 0) return -made;
    if (protocol === PROTO_TCP && (tcpFlags & TCP_SYN) !== 0) {
      const at = table[count * 2]!;
      if (parsePacket(arena.bytes, at, table[count * 2 + 1]!, this.#first) === Drop.none) {
        clampMss(arena.bytes, this.#first, link.innerMtu(now, innerMtu));
      }
    }
    outbound.commit(made);
    return Drop.none;
  }

  /** The packet that was read, as a complete one of its own; undefined for a super-segment, which would be more than one. */
  copy(): Uint8Array | undefined {
    if (this.#fields.gsoType !== GSO_NONE) return undefined;
    const length = this.packet.totalLength;
    const target = new Arena(align(length));
    const table = new Uint32Array(2);
    const made = segment(this.arena, PACKET_OFFSET, length, this.#fields, target, 0, table, 0);
    return made === 1 ? target.bytes.subarray(0, length) : undefined;
  }

  /** A packet of a session, judged already, for the host. Returns why it was dropped. */
  write(packet: CoalescedPacket): number {
    const memory = this.#memoryOf(packet.arena);
    const start = packet.writeVnetHeader();
    this.packetsToHost += packet.segments;
    const { tun } = this.#parts;
    const head = packet.head + VNET_HEADER;
    const { source, pieces, pieceCount } = packet;
    const written =
      pieceCount === 0
        ? tun.write(memory, start, head)
        : tun.writeGathered(memory, start, head, this.#memoryOf(source!), pieces, pieceCount);
    return written < 0 ? Drop.tun_full : Drop.none;
  }

  /** Writes one complete packet of an arena that is used again and again; `VNET_HEADER` bytes before it are free. */
  writePlain(arena: Arena, offset: number, length: number): void {
    const { tun, drops } = this.#parts;
    const memory = this.#memoryOf(arena);
    writeVnet(arena.bytes, offset - VNET_HEADER, this.#plain);
    if (tun.write(memory, offset - VNET_HEADER, length + VNET_HEADER) < 0) drops.values[Drop.tun_full]!++;
  }

  #memoryOf(arena: Arena): DeviceMemory {
    let memory = this.#registered.get(arena);
    if (memory === undefined) {
      memory = this.#parts.tun.register(arena.bytes);
      this.#registered.set(arena, memory);
    }
    return memory;
  }
}
