/**
 * The connector's TUN device of `--mode kernel`: packets of sessions to the host's kernel, which routes and translates them to the
 * services (kernel-rules.ts), and back.
 *
 *   session ─► guard (session.ts) ─► service served here? ─► virtio header ─► write
 *   read (up to 64 KB) ─► session by overlay address ─► may it use this source? ─► segments in the outbound arena of its link
 *
 * Both directions are judged per packet by the policy in force, so a grant that is taken away ends a flow at once, whatever the kernel
 * still knows of it; the service's end is told by a reset. RFC 792, RFC 4443 (errors name the packet they are about), RFC 9293 §3.10.7.
 */
import { Prefix } from '../base/address.js';
import type { Counters } from '../base/counters.js';
import { Drop, type DropName } from '../base/drop.js';
import type { Instant } from '../base/time.js';
import { PrefixTrie } from '../base/trie.js';
import { type HostFlow, HostSegments } from '../node/host-segments.js';
import { IcmpReplies } from '../node/icmp-replies.js';
import { ALWAYS_CARRIED, type Outbound } from '../node/outbound.js';
import { TcpWatch, type WatchedFlow } from '../node/tcp-watch.js';
import { TunPort } from '../node/tun-port.js';
import type { TunDevice } from '../os/io.js';
import type { Arena } from '../wire/arena.js';
import { readU16, writeU16, writeU32 } from '../wire/bytes.js';
import { updateChecksum32, writeIpv4Checksum } from '../wire/checksum.js';
import type { CoalescedPacket } from '../wire/gro.js';
import { QuotedPacket, readQuote } from '../wire/icmp-quote.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import { PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP } from '../wire/ip.js';
import { TCP_ACK, TCP_RST } from '../wire/tcp.js';
import { isPathError } from './guard.js';
import type { ConnectorSession } from './session.js';

/** Offset of the checksum in an ICMP message. */
const ICMP_CHECKSUM = 2;
const ECHO_REPLY_V4 = 0;
const ECHO_REPLY_V6 = 129;

export interface KernelPathParts {
  readonly tun: TunDevice;
  readonly outbound: Outbound;
  readonly drops: Counters<DropName>;
  readonly innerMtu: number;
}

export class KernelPath {
  readonly port: TunPort;
  readonly #parts: KernelPathParts;
  /** By overlay address. */
  readonly #sessions = new PrefixTrie<ConnectorSession>();
  readonly #replies: IcmpReplies;
  readonly #segments: HostSegments;
  readonly #flows: TcpWatch;
  /** Answers to agents. */
  readonly #refusals: IcmpReplies;
  readonly #resets: HostSegments;
  readonly #quote = new QuotedPacket();
  readonly #parsed = new ParsedPacket();
  #now: Instant = 0 as Instant;
  #agent: ConnectorSession | undefined;

  constructor(parts: KernelPathParts) {
    this.#parts = parts;
    this.port = new TunPort(parts, { onPacket: (now) => this.#fromKernel(now) });
    const toKernel = (arena: Arena, offset: number, length: number): void =>
      this.port.writePlain(arena, offset, length);
    this.#replies = new IcmpReplies(toKernel);
    this.#segments = new HostSegments(toKernel);
    this.#flows = new TcpWatch(this.#segments);
    const toAgent = (arena: Arena, offset: number, length: number): void => {
      const agent = this.#agent;
      const link = agent?.linkOf(this.#now, arena.bytes, offset);
      if (link?.isLive) this.#parts.outbound.add(this.#now, link, arena.bytes, offset, length, agent!.isHeld);
    };
    this.#refusals = new IcmpReplies(toAgent);
    this.#resets = new HostSegments(toAgent);
  }

  /** Packets for the session's overlay addresses are its from now on, also when an older session had them. */
  add(session: ConnectorSession): void {
    for (const ip of [session.identity.overlay4, session.identity.overlay6]) {
      if (ip !== undefined) this.#sessions.set(Prefix.of(ip, ip.isV4 ? 32 : 128)!, session);
    }
  }

  /** A session has ended: so have its TCP flows at both ends, unless a newer session of the same agent carries them on. */
  remove(now: Instant, session: ConnectorSession): void {
    let isReplaced = false;
    for (const ip of [session.identity.overlay4, session.identity.overlay6]) {
      const prefix = ip === undefined ? undefined : Prefix.of(ip, ip.isV4 ? 32 : 128);
      if (prefix === undefined) continue;
      if (this.#sessions.get(prefix) === session) this.#sessions.delete(prefix);
      else isReplaced = true;
    }
    if (!isReplaced) this.#reset(now, session, () => true);
  }

  /**
   * The policy or the backends have changed: TCP flows that the session may no longer have are reset at both ends.
   * @param isSame whether the flow's address is still the same service's: what the kernel knows of it leads to that one
   */
  reevaluate(now: Instant, session: ConnectorSession, isSame: (flow: WatchedFlow) => boolean = () => true): void {
    this.#reset(now, session, (flow) => session.serves(PROTO_TCP, ...flow.local, flow.localPort) < 0 || !isSame(flow));
  }

  /** Takes what the device has, as far as one turn goes. */
  read(now: Instant): void {
    this.port.read(now);
  }

  /**
   * A packet of an agent that its session's guard let pass; `parsed` is what it found.
   * @param service index of the service, or negative where it does not show (errors, later fragments)
   * @returns why it was dropped, or `Drop.none`
   */
  deliver(
    now: Instant,
    session: ConnectorSession,
    packet: CoalescedPacket,
    parsed: ParsedPacket,
    service: number,
  ): number {
    if (service >= 0 && !session.isServed(service, parsed.family === 4)) {
      this.#refuse(now, session, packet.arena, parsed);
      return Drop.no_handler;
    }
    if (isPathError(parsed)) {
      // The kernel believes an error about any flow it knows: it has to be one of this agent's with that service.
      const quote = this.#quote;
      if (!readQuote(packet.arena.bytes, parsed, quote) || !isAnswer(parsed, quote)) return Drop.source_not_allowed;
    }
    return this.port.write(packet);
  }

  /** The packet of `length` bytes in the outbound arena does not fit its link: its sender is told the size that does. */
  tooBig(now: Instant, arena: Arena, offset: number, length: number, mtu: number): void {
    if (parsePacket(arena.bytes, offset, length, this.#parsed) !== Drop.none) return;
    this.#replies.report(now, arena, this.#parsed, 'too_big', Math.max(mtu, ALWAYS_CARRIED));
  }

  #fromKernel(now: Instant): number {
    const { packet, arena } = this.port;
    const { destination0, destination1, destination2, destination3 } = packet;
    const session = this.#sessions.lookupWords(destination0, destination1, destination2, destination3);
    if (session === undefined) {
      this.#end(now);
      return Drop.no_session;
    }
    const drop = this.#judge(session);
    if (drop !== Drop.none) {
      this.#end(now);
      return drop;
    }
    if (isPathError(packet)) speakFor(arena.bytes, packet, this.#quote);
    const link = session.linkOf(now, arena.bytes, packet.offset);
    if (packet.protocol === PROTO_TCP && packet.fragmentOffset === 0)
      this.#flows.note(packet, session.identity.invitationId);
    if (link === undefined || !link.isLive) {
      // So that the service's kernel does not back off while there is no link (RFC 6069).
      if (packet.protocol === PROTO_TCP) this.#replies.report(now, arena, packet, 'net_unreachable');
      return Drop.no_link;
    }
    return this.port.send(now, link, session.isHeld);
  }

  /** Whether the agent may have this packet: an answer of a service it may use. */
  #judge(session: ConnectorSession): number {
    const { packet, arena } = this.port;
    const { protocol, source0, source1, source2, source3, sourcePort, icmpType } = packet;
    if (packet.fragmentOffset > 0) {
      const found = session.serves(protocol, source0, source1, source2, source3, 0);
      return found >= 0 || found === -Drop.port_not_allowed ? Drop.none : -found;
    }
    if (isPathError(packet)) {
      const quote = this.#quote;
      if (!readQuote(arena.bytes, packet, quote)) return Drop.malformed;
      if (!isAbout(packet, quote)) return Drop.source_not_allowed;
      const { destination0, destination1, destination2, destination3, destinationPort } = quote;
      const found = session.serves(
        quote.protocol,
        destination0,
        destination1,
        destination2,
        destination3,
        destinationPort,
      );
      return found >= 0 ? Drop.none : -found;
    }
    const isIcmp = protocol === PROTO_ICMP || protocol === PROTO_ICMPV6;
    if (isIcmp && icmpType !== (protocol === PROTO_ICMP ? ECHO_REPLY_V4 : ECHO_REPLY_V6)) {
      return Drop.protocol_not_allowed;
    }
    const found = session.serves(protocol, source0, source1, source2, source3, sourcePort);
    return found >= 0 ? Drop.none : -found;
  }

  #reset(now: Instant, session: ConnectorSession, isOver: (flow: WatchedFlow) => boolean): void {
    const { invitationId } = session.identity;
    this.#now = now;
    this.#agent = session;
    this.#flows.reset(
      (flow) => flow.peer === invitationId && isOver(flow),
      (flow) => this.#resets.send(reversed(flow), TCP_RST | TCP_ACK, flow.sends, flow.expects),
    );
    this.#agent = undefined;
  }

  /** Nobody may have what was read: the service learns that its flow is over. */
  #end(now: Instant): void {
    const { packet, arena } = this.port;
    if (!this.#segments.dismiss(packet)) this.#replies.report(now, arena, packet, 'admin_prohibited');
  }

  /** The agent learns that the service is not served here. */
  #refuse(now: Instant, session: ConnectorSession, arena: Arena, parsed: ParsedPacket): void {
    this.#now = now;
    this.#agent = session;
    if (!this.#resets.dismiss(parsed)) this.#refusals.report(now, arena, parsed, 'host_unreachable');
    this.#agent = undefined;
  }
}

/**
 * Has an error come from where the packet that it quotes went: agents take nothing but from services, and a router on the way to one
 * is none. The same as NAT does to errors about translated packets (RFC 5508 §4.2).
 */
function speakFor(bytes: Uint8Array, error: ParsedPacket, quote: QuotedPacket): void {
  if (error.family === 4) {
    writeU32(bytes, error.offset + 12, quote.destination3);
    writeIpv4Checksum(bytes, error.offset);
    return;
  }
  const at = error.transportOffset + ICMP_CHECKSUM;
  let sum = readU16(bytes, at);
  sum = updateChecksum32(sum, error.source0, quote.destination0);
  sum = updateChecksum32(sum, error.source1, quote.destination1);
  sum = updateChecksum32(sum, error.source2, quote.destination2);
  sum = updateChecksum32(sum, error.source3, quote.destination3);
  writeU16(bytes, at, sum);
  writeU32(bytes, error.offset + 8, quote.destination0);
  writeU32(bytes, error.offset + 12, quote.destination1);
  writeU32(bytes, error.offset + 16, quote.destination2);
  writeU32(bytes, error.offset + 20, quote.destination3);
}

const reversed = ({ family, local, remote, localPort, remotePort }: HostFlow): HostFlow => ({
  family,
  local: remote,
  remote: local,
  localPort: remotePort,
  remotePort: localPort,
});

/** Whether an error quotes a packet to its own sender. */
const isAbout = (error: ParsedPacket, quote: QuotedPacket): boolean =>
  quote.source3 === error.destination3 &&
  quote.source2 === error.destination2 &&
  quote.source1 === error.destination1 &&
  quote.source0 === error.destination0;

/** Whether an agent's error is about a packet from where it goes, to the agent itself. */
const isAnswer = (error: ParsedPacket, quote: QuotedPacket): boolean =>
  isAbout(error, quote) &&
  quote.destination3 === error.source3 &&
  quote.destination2 === error.source2 &&
  quote.destination1 === error.source1 &&
  quote.destination0 === error.source0;
