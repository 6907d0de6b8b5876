/**
 * What a tracer needs from an operating system: whole IP packets in both directions, the ports that make answers ours, and,
 * for a user without privileges, sockets whose error queue tells who answered. `os/linux/packet-io` implements it; engines
 * know only this file, and tests replace it by a simulated network.
 *
 *   engine ─► RawSink ─► (network) ─► PacketSource ─► handler(bytes, at)         raw: CAP_NET_RAW
 *   engine ─► ProbeSocket ─────────► replies and errors                          unprivileged
 *
 * Rules: nothing blocks; packets and errors are pushed, with the time at which the kernel received them; `drain` hands over
 * what waits at once, so that a timer never judges before it has seen everything. Handlers are called only from within the
 * loop or `drain`. What is opened here belongs to the caller, who closes it.
 */
import type { IpAddress, SocketAddress } from '../base/address.js';
import type { Instant } from '../base/time.js';
import type { IoResult } from './io.js';

/**
 * Which incoming packets are wanted, seen from the packet: `source` is who answers, `destination` is here.
 *
 *   nothing   none at all                         none     every IP packet
 *   icmp      ICMP and ICMPv6                     udp      those and UDP
 *   tcp       ICMP, and TCP of one tuple          syn-ack  TCP with SYN and ACK, nothing else
 *   ports     ICMP, and TCP or UDP to one of these local ports (what many traces at once need)
 */
export type FilterSpec =
  | { readonly kind: 'nothing' | 'none' | 'icmp' | 'udp' | 'syn-ack' }
  | { readonly kind: 'tcp'; readonly source: SocketAddress; readonly destination: SocketAddress }
  | { readonly kind: 'ports'; readonly ports: readonly number[] };

/** One whole IP packet (header first, link-layer padding possibly behind it) that arrived at `at`; the bytes are reused afterwards. */
export type PacketHandler = (bytes: Uint8Array, offset: number, length: number, at: Instant) => void;

/** Sees incoming packets of every device. A new one has the filter `nothing`. */
export interface PacketSource {
  /** Takes the former one's place; what passed that and waits is still handed over. @throws FILTER_FAILED (environment) */
  filter(spec: FilterSpec): void;
  /** Hands over what waits. */
  drain(): void;
  readonly counters: PacketCounters;
  close(): void;
}

export interface PacketCounters {
  packets: number;
  /** Longer than the receive buffer, without a time stamp, or not readable. */
  unusable: number;
}

/** How packets leave. */
export interface SendPath {
  readonly source?: IpAddress;
  /** Device name; undefined: as the kernel routes. */
  readonly device?: string | undefined;
  /** SO_MARK. */
  readonly mark?: number | undefined;
}

/** Sends whole IP packets, one family each. */
export interface RawSink {
  /** Sends the packet, header included. Returns its length or a negated errno (EMSGSIZE: larger than the device takes). */
  send(bytes: Uint8Array, offset: number, length: number, to: IpAddress): IoResult;
  /** Just before the last packet was handed to the kernel. */
  readonly sentAt: Instant;
  close(): void;
}

/** A local port that nobody else gets while it is held, and the address packets to the target leave from. */
export interface PortReservation {
  readonly local: SocketAddress;
  close(): void;
}

/** A TCP connection of the host's own stack, for probes inside a session. */
export interface SessionConnection {
  readonly local: SocketAddress;
  /** Starts to connect; `done` is called once: 0 when established, else a negated errno. */
  connect(done: (result: IoResult) => void): void;
  close(): void;
}

/** What the error queue says about one probe. Objects are reused from call to call. */
export interface ProbeError {
  from: IpAddress;
  icmpType: number;
  icmpCode: number;
  /** The MTU that a "too big" announces; 0 otherwise. */
  mtu: number;
  at: Instant;
  /** What the error quoted of the payload (UDP) or of the message (ICMP): bytes [0, quoted). */
  readonly quote: Uint8Array;
  quoted: number;
}

export interface ProbeHandlers {
  onError(error: ProbeError): void;
  /** UDP and ICMP: a datagram from `from`; `hopLimit` −1 where unknown. */
  onReply(bytes: Uint8Array, length: number, from: IpAddress, at: Instant, hopLimit: number): void;
  /** TCP: 0 = connected, −ECONNREFUSED = reset, or another negated errno that came without an ICMP error. */
  onConnect(result: IoResult, at: Instant): void;
}

/** A socket an ordinary user may open. */
export interface ProbeSocket {
  readonly local: SocketAddress;
  /** Sends one datagram (UDP, ICMP: without the identifier, which is the kernel's), or connects (TCP: no bytes). */
  send(ttl: number, bytes: Uint8Array, length: number): IoResult;
  drain(): void;
  close(): void;
}

export interface ProbeSocketOptions extends SendPath {
  readonly protocol: 'udp' | 'icmp' | 'tcp';
  readonly to: SocketAddress;
  /** 0: any. */
  readonly localPort: number;
  /** TOS or traffic class. */
  readonly tos: number;
}

/** Errors of opening are SallyportErrors of kind `environment`; RAW_NOT_PERMITTED where privileges are missing. */
export interface PacketIo {
  /** False: the system sends no TCP from raw sockets; connection attempts take the place of SYNs. */
  readonly rawTcp?: boolean;
  now(): Instant;
  /** Calls `handler` once at or after `at` (milliseconds late at most); returns its cancellation. */
  at(at: Instant, handler: () => void): () => void;
  source(handler: PacketHandler): PacketSource;
  sink(family: 4 | 6, path: SendPath): RawSink;
  reserveUdp(to: SocketAddress, localPort: number, path: SendPath): PortReservation;
  reserveTcp(to: SocketAddress, localPort: number, path: SendPath): PortReservation;
  session(to: SocketAddress, path: SendPath): SessionConnection;
  probeSocket(options: ProbeSocketOptions, handlers: ProbeHandlers): ProbeSocket;
  /** The MTU of the device that packets to `to` leave by; 1500 where the system does not tell. */
  deviceMtu(to: IpAddress, path: SendPath): number;
  close(): void;
}
