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
import { type AddressWords, HostSegments } from '../node/host-segments.js';
import { IcmpReplies } from '../node/icmp-replies.js';
import { ALWAYS_CARRIED, type Outbound } from '../node/outbound.js';
import { TcpWatch } from '../node/tcp-watch.js';
import { TunPort } from '../node/tun-port.js';
import type { TunDevice } from '../os/io.js';
import type { CompiledService } from '../policy/view.js';
import { Arena, align } from '../wire/arena.js';
import type { CoalescedPacket } from '../wire/gro.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import { PROTO_TCP } from '../wire/ip.js';
import { TCP_ACK, TCP_SYN } from '../wire/tcp.js';
import type { OwnAddresses } from './judge.js';
import type { Orphan } from './orphans.js';
import type { Routes } from './routes.js';
import type { AgentSession } from './session.js';
import type { Sessions } from './sessions.js';

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
  readonly #parts: TunPathParts;
  readonly #port: TunPort;
  readonly #parsed = new ParsedPacket();
  readonly #replies: IcmpReplies;
  #isOver = false;
  readonly #segments: HostSegments;
  readonly #flows: TcpWatch;

  constructor(parts: TunPathParts) {
    this.#parts = parts;
    this.#port = new TunPort(parts, { onPacket: (now) => this.#handle(now) });
    const write = (arena: Arena, offset: number, length: number): void => this.#port.writePlain(arena, offset, length);
    this.#replies = new IcmpReplies(write);
    this.#segments = new HostSegments(write);
    this.#flows = new TcpWatch(this.#segments);
  }

  get packetsToHost(): number {
    return this.#port.packetsToHost;
  }

  get packetsFromHost(): number {
    return this.#port.packetsFromHost;
  }

  /** Takes what the device has, as far as one turn goes. Returns whether more may wait. */
  read(now: Instant): boolean {
    return this.#port.read(now);
  }

  #handle(now: Instant): number {
    const { sessions, routes, own } = this.#parts;
    const { packet, arena } = this.#port;
    if (this.#isOver) return this.#dismiss(packet);
    const table = routes();
    if (table === undefined) return Drop.no_route;
    // The connector would refuse it: a socket that is older than the device still has the host's other address.
    if (!isFrom(packet, packet.family === 4 ? own.overlay4 : own.overlay6)) {
      this.#replies.report(now, arena, packet, 'host_unreachable');
      return Drop.source_not_allowed;
    }
    const { destination0, destination1, destination2, destination3 } = packet;
    const ofDatagram = packet.isFragment ? table.serviceOf(arena.bytes, packet.offset) : undefined;
    const found =
      packet.fragmentOffset > 0
        ? ofDatagram
        : table.serviceFor(
            packet.protocol,
            destination0,
            destination1,
            destination2,
            destination3,
            packet.destinationPort,
          );
    if (found === undefined || typeof found === 'number') {
      this.#replies.report(now, arena, packet, 'admin_prohibited');
      return typeof found === 'number' ? -found : Drop.destination_not_allowed;
    }
    const session = sessions.sessionFor(now, found);
    if (session === undefined) {
      this.#replies.report(now, arena, packet, 'host_unreachable');
      return Drop.no_session;
    }
    if (packet.protocol === PROTO_TCP && packet.fragmentOffset === 0) this.#flows.note(packet, session.connector);
    return this.#send(now, session, found);
  }

  /** A connector has forgotten the flows of this agent: the host's programs learn of it now. */
  resetFlowsOf(connector: string): number {
    return this.#flows.reset((flow) => flow.peer === connector);
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
    this.#segments.dismiss(packet);
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

  #send(now: Instant, session: AgentSession, service: CompiledService): number {
    const { packet, arena } = this.#port;
    const link = session.linkFor(now, service);
    if (session.isLive && link !== undefined) return this.#port.send(now, link, service.entry.path !== undefined);
    if (!opensFlow(packet)) {
      // So that the kernel does not back off while there is no link (RFC 6069), and sends again soon after there is one.
      this.#replies.report(now, arena, packet, 'net_unreachable');
    } else if (session.isAbsent(now)) {
      this.#replies.report(now, arena, packet, 'host_unreachable');
      return Drop.no_session;
    }
    // What waits is complete packets; a handshake comes before super-segments anyway.
    const whole = this.#port.copy();
    if (whole === undefined) return Drop.no_link;
    return session.waiting.push(whole, 0, whole.length) ? Drop.none : Drop.no_session;
  }

  /** A packet of a session, judged already, for the host. Returns why it was dropped. */
  deliver(packet: CoalescedPacket): number {
    return this.#isOver ? Drop.no_session : this.#port.write(packet);
  }

  /** The packet of `length` bytes in the outbound arena does not fit its link: its sender is told the size that does. */
  tooBig(now: Instant, arena: Arena, offset: number, length: number, mtu: number): void {
    if (parsePacket(arena.bytes, offset, length, this.#parsed) !== Drop.none) return;
    this.#replies.report(now, arena, this.#parsed, 'too_big', Math.max(mtu, ALWAYS_CARRIED));
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
