/**
 * The agent's TUN device: packets of the host's programs into sessions, and back.
 *
 *   read (up to 64 KB) ─► service by destination ─► session ─► segments in the outbound arena of its link
 *   coalesced packets of a session, judged ─► virtio header ─► write
 *
 * Only the virtual prefixes are routed here, so what has no service is answered at once: it can be nowhere else.
 */
import type { IpAddress } from '../base/address.js';
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import { IcmpReplies } from '../node/icmp-replies.js';
import { ALWAYS_CARRIED, type Outbound } from '../node/outbound.js';
import type { DeviceMemory, TunDevice } from '../os/io.js';
import { Arena, align } from '../wire/arena.js';
import type { CoalescedPacket } from '../wire/gro.js';
import { segment } from '../wire/gso.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import { PROTO_TCP } from '../wire/ip.js';
import { clampMss } from '../wire/mss.js';
import { TCP_ACK, TCP_RST, TCP_SYN } from '../wire/tcp.js';
import { GSO_NONE, readVnet, VNET_HEADER, VnetFields, writeVnet } from '../wire/vnet.js';
import { type AddressWords, HostSegments, hostFlowOf } from './host-segments.js';
import type { OwnAddresses } from './judge.js';
import type { Orphan } from './orphans.js';
import type { Routes } from './routes.js';
import type { AgentSession } from './session.js';
import type { Sessions } from './sessions.js';
import { TcpWatch } from './tcp-watch.js';

/** The packet itself begins at a multiple of 4 behind the virtio header. */
const READ_OFFSET = 2;
const PACKET_OFFSET = READ_OFFSET + VNET_HEADER;
const READ_SIZE = 65_535 + VNET_HEADER;
/** What one turn takes from the device before packets are sent: about what the outbound arena holds. */
const TURN_BYTES = 768 * 1024;
const TURN_PACKETS = 256;
/** Headers of one segment are at most this long: IPv6, and TCP with all options. */
const MAX_HEADERS = 40 + 60;

export interface TunPathParts {
  readonly tun: TunDevice;
  readonly sessions: Sessions;
  readonly outbound: Outbound;
  readonly drops: Counters<DropName>;
  readonly routes: () => Routes | undefined;
  readonly own: OwnAddresses;
  readonly innerMtu: number;
}

export class TunPath {
  packetsToHost = 0;
  packetsFromHost = 0;
  readonly #parts: TunPathParts;
  readonly #arena = new Arena(align(PACKET_OFFSET + 65_536));
  readonly #memory: DeviceMemory;
  readonly #fields = new VnetFields();
  readonly #parsed = new ParsedPacket();
  readonly #coalesced = new Map<Arena, DeviceMemory>();
  readonly #replies: IcmpReplies;
  #isOver = false;
  readonly #segments: HostSegments;
  readonly #flows: TcpWatch;

  constructor(parts: TunPathParts) {
    this.#parts = parts;
    this.#memory = parts.tun.register(this.#arena.bytes);
    const write = (arena: Arena, offset: number, length: number): void => this.writePlain(arena, offset, length);
    this.#replies = new IcmpReplies(write);
    this.#segments = new HostSegments(write);
    this.#flows = new TcpWatch(this.#segments);
  }

  /** Takes what the device has, as far as one turn goes. Returns whether more may wait. */
  read(now: Instant): boolean {
    const { tun } = this.#parts;
    let bytes = 0;
    for (let packets = 0; packets < TURN_PACKETS && bytes < TURN_BYTES; packets++) {
      const n = tun.read(this.#memory, READ_OFFSET, READ_SIZE);
      if (n <= 0) return false;
      bytes += n;
      this.packetsFromHost++;
      readVnet(this.#arena.bytes, READ_OFFSET, this.#fields);
      const drop = this.#handle(now, n - VNET_HEADER);
      if (drop !== Drop.none) this.#parts.drops.values[drop]!++;
    }
    return true;
  }

  /** One packet or super-segment of the host, at `PACKET_OFFSET`. */
  #handle(now: Instant, length: number): number {
    const { sessions, routes, own } = this.#parts;
    const packet = this.#parsed;
    const drop = parsePacket(this.#arena.bytes, PACKET_OFFSET, length, packet);
    if (drop !== Drop.none) return drop;
    if (this.#isOver) return this.#dismiss(packet);
    const table = routes();
    if (table === undefined) return Drop.no_route;
    // The connector would refuse it: a socket that is older than the device still has the host's other address.
    if (!isFrom(packet, packet.family === 4 ? own.overlay4 : own.overlay6)) {
      this.#replies.report(now, this.#arena, packet, 'host_unreachable');
      return Drop.source_not_allowed;
    }
    const { destination0, destination1, destination2, destination3 } = packet;
    const found =
      packet.isFragment && packet.fragmentOffset > 0
        ? table.serviceAt(destination0, destination1, destination2, destination3)
        : table.serviceFor(
            packet.protocol,
            destination0,
            destination1,
            destination2,
            destination3,
            packet.destinationPort,
          );
    if (found === undefined || typeof found === 'number') {
      this.#replies.report(now, this.#arena, packet, 'admin_prohibited');
      return typeof found === 'number' ? -found : Drop.destination_not_allowed;
    }
    const session = sessions.sessionFor(now, found);
    if (session === undefined) {
      this.#replies.report(now, this.#arena, packet, 'host_unreachable');
      return Drop.no_session;
    }
    if (packet.protocol === PROTO_TCP && packet.fragmentOffset === 0) this.#flows.note(packet, session.connector);
    return this.#send(now, session, length);
  }

  /** A connector has forgotten the flows of this agent: the host's programs learn of it now. */
  resetFlowsOf(connector: string): number {
    return this.#flows.reset((flow) => flow.connector === connector);
  }

  /**
   * This agent stops: the host's programs learn of it now. Nothing passes any more; what the host still sends on a connection, for
   * example to tell what it expects as the reset was not exactly that (RFC 5961 §3.2), is answered by another reset.
   */
  farewell(): number {
    this.#isOver = true;
    return this.#flows.reset(() => true);
  }

  /** After `farewell`: answers one packet of the host. */
  #dismiss(packet: ParsedPacket): number {
    if (packet.protocol !== PROTO_TCP || packet.fragmentOffset > 0 || (packet.tcpFlags & TCP_RST) !== 0) {
      return Drop.no_session;
    }
    const next = packet.sequence + packet.payloadLength + ((packet.tcpFlags & TCP_SYN) !== 0 ? 1 : 0);
    const expected = (packet.tcpFlags & TCP_ACK) !== 0 ? packet.acknowledgment : 0;
    this.#segments.send(hostFlowOf(packet), TCP_RST | TCP_ACK, expected, next >>> 0);
    return Drop.no_session;
  }

  /**
   * Has the host's kernel say a word on connections of an earlier run: it answers a SYN within a connection by telling what it expects
   * (RFC 5961 §4), and the connector, which does not know the flow, resets it with that.
   */
  prod(orphans: readonly Orphan[]): void {
    for (const { local, remote } of orphans) {
      const words = ({ ip }: Orphan['local']): AddressWords => [ip.w0, ip.w1, ip.w2, ip.w3];
      const flow = {
        family: local.ip.family,
        local: words(local),
        remote: words(remote),
        localPort: local.port,
        remotePort: remote.port,
      };
      this.#segments.send(flow, TCP_SYN, 0, 0);
    }
  }

  /** These packets have waited for a session whose connector is not there. */
  refuse(now: Instant, packets: readonly Uint8Array[]): void {
    for (const packet of packets) {
      const arena = new Arena(align(packet.length));
      arena.bytes.set(packet);
      if (parsePacket(arena.bytes, 0, packet.length, this.#parsed) !== Drop.none) continue;
      this.#replies.report(now, arena, this.#parsed, opensFlow(this.#parsed) ? 'host_unreachable' : 'net_unreachable');
    }
  }

  /** The policy has changed: flows that it no longer grants end. */
  resetDenied(routes: Routes): number {
    return this.#flows.reset(({ remote, remotePort }) => {
      return typeof routes.serviceFor(PROTO_TCP, ...remote, remotePort) === 'number';
    });
  }

  #send(now: Instant, session: AgentSession, length: number): number {
    const { outbound, innerMtu } = this.#parts;
    const link = session.link;
    if (!session.isLive || link === undefined) {
      if (!opensFlow(this.#parsed)) {
        // So that the kernel does not back off while there is no link (RFC 6069), and sends again soon after there is one.
        this.#replies.report(now, this.#arena, this.#parsed, 'net_unreachable');
      } else if (session.isAbsent(now)) {
        this.#replies.report(now, this.#arena, this.#parsed, 'host_unreachable');
        return Drop.no_session;
      }
      // What waits is complete packets: a super-segment would be more than one, and a handshake comes first anyway.
      if (this.#fields.gsoType !== GSO_NONE) return Drop.no_link;
      const target = new Arena(align(length));
      const table = new Uint32Array(2);
      if (segment(this.#arena, PACKET_OFFSET, length, this.#fields, target, 0, table, 0) !== 1) return Drop.malformed;
      return session.waiting.push(target.bytes, 0, length) ? Drop.none : Drop.no_session;
    }
    const { gsoType, gsoSize } = this.#fields;
    const packets = gsoType === GSO_NONE ? 1 : Math.ceil(length / gsoSize);
    const room = gsoType === GSO_NONE ? align(length) : packets * align(gsoSize + MAX_HEADERS);
    if (!outbound.begin(now, link, packets, room)) return Drop.no_room;
    const { arena, table, count, offset } = outbound;
    const made = segment(this.#arena, PACKET_OFFSET, length, this.#fields, arena, offset, table, count);
    if (made < 0) return -made;
    if (this.#parsed.protocol === PROTO_TCP && (this.#parsed.tcpFlags & TCP_SYN) !== 0) {
      const at = table[count * 2]!;
      if (parsePacket(arena.bytes, at, table[count * 2 + 1]!, this.#parsed) === Drop.none) {
        clampMss(arena.bytes, this.#parsed, link.innerMtu(now, innerMtu));
      }
    }
    outbound.commit(made);
    return Drop.none;
  }

  /** A packet of a session, judged already, for the host. Returns why it was dropped. */
  deliver(packet: CoalescedPacket): number {
    if (this.#isOver) return Drop.no_session;
    const { tun } = this.#parts;
    let memory = this.#coalesced.get(packet.arena);
    if (memory === undefined) {
      memory = tun.register(packet.arena.bytes);
      this.#coalesced.set(packet.arena, memory);
    }
    const start = packet.writeVnetHeader();
    this.packetsToHost += packet.segments;
    return tun.write(memory, start, packet.length + VNET_HEADER) < 0 ? Drop.tun_full : Drop.none;
  }

  /** The packet of `length` bytes in the outbound arena does not fit its link: its sender is told the size that does. */
  tooBig(now: Instant, arena: Arena, offset: number, length: number, mtu: number): void {
    if (parsePacket(arena.bytes, offset, length, this.#parsed) !== Drop.none) return;
    this.#replies.report(now, arena, this.#parsed, 'too_big', Math.max(mtu, ALWAYS_CARRIED));
  }

  /** Writes one complete packet; `VNET_HEADER` bytes before it are free. */
  writePlain(arena: Arena, offset: number, length: number): void {
    const { tun } = this.#parts;
    let memory = this.#coalesced.get(arena);
    if (memory === undefined) {
      memory = tun.register(arena.bytes);
      this.#coalesced.set(arena, memory);
    }
    this.#fields.clear();
    writeVnet(arena.bytes, offset - VNET_HEADER, this.#fields);
    if (tun.write(memory, offset - VNET_HEADER, length + VNET_HEADER) < 0) this.#parts.drops.values[Drop.tun_full]!++;
  }
}

/** Everything that is not a TCP segment within a connection. */
function opensFlow(packet: ParsedPacket): boolean {
  return packet.protocol !== PROTO_TCP || (packet.tcpFlags & (TCP_SYN | TCP_ACK)) === TCP_SYN;
}

function isFrom(packet: ParsedPacket, own: IpAddress | undefined): boolean {
  return (
    own !== undefined &&
    packet.source3 === own.w3 &&
    packet.source2 === own.w2 &&
    packet.source1 === own.w1 &&
    packet.source0 === own.w0
  );
}
