/**
 * What a packet thread needs from an operating system. `os/linux` implements it with epoll and batches; another system
 * implements the same interfaces. Cores and roles know only this file.
 *
 * Rules: nothing here blocks (the reactor's wait excepted), nothing throws on the packet path (results are counts or negated
 * errno values), and every buffer the kernel points to is owned by the object that made it and lives as long as it does.
 */
import type { IpAddress, Prefix, SocketAddress } from '../base/address.js';
import type { Clock, Duration, Instant } from '../base/time.js';

/** A negated errno as returned by reads and writes here; 0 and above are counts. */
export type IoResult = number;

/** errno values the cores look at. */
export const EAGAIN = 11;
export const EACCES = 13;
export const EMSGSIZE = 90;
export const ENETUNREACH = 101;
export const ECONNRESET = 104;
export const ENOBUFS = 105;
export const ETIMEDOUT = 110;
export const ECONNREFUSED = 111;
export const EHOSTUNREACH = 113;

/** Interest and readiness bits (the same in both directions). */
export const READABLE = 1;
export const WRITABLE = 2;
/** Reported, never asked for: error or hang-up. */
export const BROKEN = 4;

/** Called with the readiness bits. Must drain, or the (level-triggered) reactor calls again. */
export type ReadyHandler = (ready: number) => void;

/** A descriptor under watch. */
export interface Watch {
  /** Changes what is asked for; 0 keeps the watch but asks for nothing. No syscall when nothing changes. */
  interest(bits: number): void;
  /** Ends the watch; the handler is never called again, not even for readiness already collected in this turn. */
  close(): void;
}

/** The loop of a packet thread. */
export interface Reactor extends Clock {
  /** The monotonic clock as read at the start of this turn; `readClock` reads it afresh. */
  now(): Instant;
  readClock(): Instant;
  watch(fd: number, bits: number, handler: ReadyHandler): Watch;
  /** Calls `handler` once at or after `at`, before the turn's end hooks. Returns a cancel function. */
  at(at: Instant, handler: (now: Instant) => void): () => void;
  /**
   * A hook called at the end of every turn, after all ready handlers and timers: it runs the core, flushes sends, and
   * returns when it next wants to run (undefined = only when something happens).
   */
  onTurn(hook: (now: Instant) => Instant | undefined): void;
  /** Runs until `stop`. Resolves when the loop has ended; descriptors are the owners' to close. */
  run(): Promise<void>;
  stop(): void;
}

/** What a UDP socket and its network path can do; tests and benchmarks print it. */
export interface UdpCapabilities {
  readonly batch: boolean;
  readonly segmentationOffload: boolean;
  readonly receiveOffload: boolean;
  readonly dontFragment: boolean;
  readonly sourceAddress: boolean;
}

/** One batch of received UDP payloads. Entry i is a buffer of one or more equal datagrams (the last may be shorter). */
export interface UdpBatch {
  /** All payload memory; attach it once to whoever reads it (the QUIC endpoint). */
  readonly memory: Uint8Array;
  /** Byte offset of entry i in `memory`. */
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  /** Size of each datagram in entry i; equals `lengths[i]` when it is one datagram. */
  readonly segments: Uint32Array;
  /** Source of entry i, packed as `ADDRESS_WORDS` words. */
  readonly sources: Uint32Array;
  /** Destination (local) address of entry i: the address that was asked; port = the socket's. Packed likewise. */
  readonly locals: Uint32Array;
}

/** A UDP socket that moves batches. One per address family and port. */
export interface UdpSocket {
  readonly fd: number;
  readonly local: SocketAddress;
  readonly capabilities: UdpCapabilities;
  readonly rx: UdpBatch;
  /** Fills `rx`; returns the number of entries (0 when nothing waits) or a negated errno that is not EAGAIN. */
  receive(): IoResult;
  /**
   * Queues `length` bytes of `memory` at `offset` as datagrams of `segment` bytes (the last may be shorter) for the
   * destination at `index` of `addresses`. Copies nothing: `memory` must be registered with `registerTransmit` and must
   * not change until `flush` has returned (`send` itself flushes when the queue is full). At most `MAX_SEGMENTS` datagrams and 65,000 bytes a call. `source`, when
   * given, is the packed local address to send from.
   */
  send(
    memory: TransmitMemory,
    offset: number,
    length: number,
    segment: number,
    addresses: Uint32Array,
    index: number,
    sources?: Uint32Array,
    sourceIndex?: number,
  ): void;
  /**
   * Hands everything queued to the kernel. What the kernel refuses for good is dropped and counted in `counters`. When it has no
   * room within a millisecond, the rest is dropped and counted too, or, with `UdpOptions.keepsUnsent`, stays queued: `isBlocked`.
   * @param isPatient false: not even the millisecond. Default true.
   */
  flush(isPatient?: boolean): void;
  /**
   * Messages wait for room: their memory must not change, and nothing can be sent, until a `flush` has got rid of them. WRITABLE
   * says when to try.
   */
  readonly isBlocked: boolean;
  /** Times a flush found the buffer full and at least half of it free within its millisecond. */
  readonly waits: number;
  /** Drops and counts what waits. Until a flush finds room again, what finds none is dropped at once. */
  giveUp(): void;
  /** Bytes the kernel may hold for this socket, as it counts them; it may take less. */
  setSendRoom(bytes: number): void;
  registerTransmit(memory: Uint8Array): TransmitMemory;
  readonly counters: UdpCounters;
  close(): void;
}

/** Memory whose address the socket knows. */
export interface TransmitMemory {
  readonly bytes: Uint8Array;
}

export interface UdpCounters {
  datagramsIn: number;
  datagramsOut: number;
  bytesIn: number;
  bytesOut: number;
  /** Datagrams given up because EAGAIN or ENOBUFS did not clear in time. */
  sendBlocked: number;
  /** Datagrams the kernel refused: too large for the path, no route, and so on. */
  sendFailed: number;
  receiveErrors: number;
}

/** Most datagrams one `send` may hold (Linux UDP_MAX_SEGMENTS is 128, older kernels 64). */
export const MAX_SEGMENTS = 64;

/** Bytes of `struct virtio_net_hdr` before each packet of a TUN device with offload. */
export { VNET_HEADER as VNET_HEADER_SIZE } from '../wire/vnet.js';

/** A TUN device. Packets are preceded by a virtio-net header when `offload` is true. */
export interface TunDevice {
  readonly fd: number;
  readonly name: string;
  readonly offload: boolean;
  /** Whether runs of UDP datagrams may be written (and are read) as one super-packet. */
  readonly udpOffload: boolean;
  /** Reads one packet (with its header) into `target` at `offset`; returns its length, 0 when none waits, or −errno. */
  read(target: DeviceMemory, offset: number, length: number): IoResult;
  /** Writes one packet (with its header); returns the length or −errno. */
  write(source: DeviceMemory, offset: number, length: number): IoResult;
  /**
   * Writes one packet in two parts, its headers and what it carries; `source` has room for both, and behind the headers anything may
   * be in it afterwards.
   */
  writeParts(
    source: DeviceMemory,
    offset: number,
    length: number,
    payload: Uint8Array,
    payloadOffset: number,
    payloadLength: number,
  ): IoResult;
  /** Writes one packet in two parts, the second in `count` pieces: offset and length of each in `payload`. At most `MOST_PIECES`. */
  writeGathered(
    source: DeviceMemory,
    offset: number,
    length: number,
    payload: DeviceMemory,
    pieces: Uint32Array,
    count: number,
  ): IoResult;
  /** Memory the device may read into and write from (address taken once). */
  register(memory: Uint8Array): DeviceMemory;
  close(): void;
}

export interface DeviceMemory {
  readonly bytes: Uint8Array;
}

/** A non-blocking TCP connection of the host's own stack. */
export interface TcpStream {
  readonly fd: number;
  /** Its address here. */
  readonly local: SocketAddress;
  /** True: the next write will find no room, where that is known before. */
  readonly sendPaused?: boolean;
  /** After the first WRITABLE or BROKEN of a `connect`: 0 when established, else −errno. */
  connectResult(): IoResult;
  /** Bytes read into `target`; 0 = end of stream; −EAGAIN = nothing now; other negative = error. */
  read(target: Uint8Array, offset: number, length: number): IoResult;
  write(source: Uint8Array, offset: number, length: number): IoResult;
  /** Sends FIN; reading goes on. */
  shutdownWrite(): void;
  /** Closes; unsent data is still delivered by the kernel. */
  close(): void;
  /** Closes with RST. */
  abort(): void;
}

/** A byte stream that tells by handlers, which are never called inside the call that made it, and never after its `close`. */
export interface ByteStream {
  /** After `onOpen`; takes everything or closes. */
  write(bytes: Uint8Array): void;
  close(): void;
}

export interface HttpResponse {
  readonly status: number;
  readonly body: Uint8Array;
}

/** Requests on a connection that speaks HTTP/2, many at once. */
export interface HttpRequests {
  /**
   * `done` is called once, never inside this call: with the response; `refused`, when nobody has looked at the request and this
   * connection takes no more; `failed`. The returned function withdraws the request, and `done` is not called any more.
   * @param type media type of the body and of the response
   */
  post(
    host: string,
    path: string,
    type: string,
    body: Uint8Array,
    done: (response: HttpResponse | 'refused' | 'failed') => void,
  ): () => void;
}

export interface ByteStreamHandlers {
  /** @param requests what is to be used instead of `write` and `onData`, where the other end has chosen HTTP/2 (`h2`) */
  onOpen(requests?: HttpRequests): void;
  /** The bytes are only lent. */
  onData(bytes: Uint8Array, offset: number, length: number): void;
  /** The last call: refused, reset, timed out or ended. `untrusted`: the other end has not shown who it was to be. */
  onClosed(why?: 'untrusted'): void;
}

/**
 * Puts TLS around the stream that `open` makes: open once the certificate has shown `serverName` (a name, or an address as text),
 * with one of the application protocols, if the server chooses any. Undefined when `open` has none.
 */
export interface TlsClient {
  (
    open: (handlers: ByteStreamHandlers) => ByteStream | undefined,
    serverName: string,
    protocols: readonly string[],
    handlers: ByteStreamHandlers,
  ): ByteStream | undefined;
  /** `h2` may be among the protocols: `onOpen` then comes with requests if it was chosen. */
  readonly http2?: boolean;
}

export interface TcpListener {
  readonly fd: number;
  readonly local: SocketAddress;
  /** The next connection and its peer, or undefined when none waits. */
  accept(): { readonly stream: TcpStream; readonly peer: SocketAddress } | undefined;
  close(): void;
}

/** Is given one datagram; its bytes are only lent. */
export type TakeDatagram = (bytes: Uint8Array, offset: number, length: number) => void;

/** A small UDP socket for one backend flow. */
export interface UdpFlowSocket {
  readonly fd: number;
  /**
   * Gives `take` what waits, in order, as much as is one socket's share of a turn; how many datagrams that were, or −errno: a queued
   * ICMP error (−ECONNREFUSED), or a datagram that was lost (−EMSGSIZE). More may wait than was given. `take` may close the socket.
   */
  receive(take: TakeDatagram): IoResult;
  /** Takes one datagram, which leaves by `flushDatagrams` at the latest; its length, or why an earlier one did not leave: −EAGAIN, −errno. */
  write(source: Uint8Array, offset: number, length: number): IoResult;
  close(): void;
}

/** A small UDP socket for one client port: any peer of its family. */
export interface UdpPortSocket {
  readonly fd: number;
  /** As `UdpFlowSocket.write`, to the packed address at `index`. */
  sendTo(addresses: Uint32Array, index: number, bytes: Uint8Array, offset: number, length: number): IoResult;
  /** As `UdpFlowSocket.receive`; within `take`, `source` holds where the datagram is from. */
  receive(take: TakeDatagram): IoResult;
  /** Packed address. */
  readonly source: Uint32Array;
  close(): void;
}

/** An unprivileged ICMP echo socket (IPPROTO_ICMP / IPPROTO_ICMPV6, SOCK_DGRAM). */
export interface EchoSocket {
  readonly fd: number;
  readonly family: 4 | 6;
  /** Sends an echo request with this sequence number and data; the kernel chooses the identifier. */
  send(to: SocketAddress, sequence: number, data: Uint8Array, offset: number, length: number): IoResult;
  /** The next reply's data length (written to `target`), −EAGAIN or −errno; `lastSequence`, `lastSource` describe it. */
  read(target: Uint8Array, offset: number, length: number): IoResult;
  readonly lastSequence: number;
  readonly lastSource: SocketAddress;
  close(): void;
}

/** Everything a packet thread opens. Throws SallyportError of kind `environment` (never on the packet path). */
export interface Sockets {
  udp(local: SocketAddress, options?: UdpOptions): UdpSocket;
  tun(options: TunOptions): TunDevice;
  connect(to: SocketAddress): TcpStream;
  listen(local: SocketAddress): TcpListener;
  udpFlow(to: SocketAddress): UdpFlowSocket;
  udpPort(family: 4 | 6): UdpPortSocket;
  /** Sends what flows and ports have been given; to be called in every turn in which they may have been written to. */
  flushDatagrams(): void;
  /** Throws ICMP_NOT_PERMITTED where `net.ipv4.ping_group_range` excludes us. */
  echo(family: 4 | 6): EchoSocket;
}

export interface UdpOptions {
  /** Receive and send buffer sizes in bytes; the kernel may give less. */
  readonly bufferBytes?: number;
  /** Entries of one receive batch. */
  readonly batch?: number;
  /** Room of one entry; a datagram (or coalesced run) that is longer is dropped and counted. Default 65,536. */
  readonly entryBytes?: number;
  /** False: no segmentation and no coalescing by the kernel, even where it could. Default true. */
  readonly offload?: boolean;
  /** What finds no room stays queued instead of being dropped: `UdpSocket.isBlocked`. */
  readonly keepsUnsent?: boolean;
  /** A hint: another port when this one is taken (port 0 is always ephemeral). */
  readonly anyPortIfTaken?: boolean;
}

export interface TunOptions {
  /** Interface name (≤ 15 bytes); `%d` is replaced by the kernel. */
  readonly name: string;
  readonly offload: boolean;
}

/** A route of the host's main table. */
export interface HostRoute {
  readonly prefix: Prefix;
  /** Name of the device; for a route without one its type, for example `blackhole`. */
  readonly device: string;
}

/** How the host would reach an address. */
export interface RouteChoice {
  readonly device: string;
  readonly gateway: IpAddress | undefined;
  readonly source: IpAddress | undefined;
}

/**
 * Addresses, routes, settings and packet rules of the host, with undo: everything made through one journal is removed by `undo`. Errors are
 * SallyportError of kind `environment`.
 */
export interface NetworkConfig {
  /** @param queueLength packets the kernel holds for the device (txqueuelen); the kernel's default when absent. */
  linkUp(device: string, mtu: number, queueLength?: number): void;
  addAddress(device: string, address: string, prefixLength: number): void;
  /** Throws ROUTE_CONFLICT when another device already has a route for an equal prefix. */
  addRoute(device: string, prefix: string, sourceAddress?: string): void;
  removeRoute(device: string, prefix: string): void;
  /** Routes of both families in the main table, for conflict checks. */
  routes(): HostRoute[];
  /** Undefined when there is no route. */
  routeTo(address: IpAddress): RouteChoice | undefined;
  /** What a setting of the kernel is (`net/ipv4/ip_forward`); undefined when there is none of that name. */
  setting(key: string): string | undefined;
  /** Changes a setting; `undo` puts back what it was. One that does not exist is left out. */
  set(key: string, value: string): void;
  /** Runs a script of nft that makes or changes the table `inet TABLE` and nothing else; `undo` removes the table. */
  setTable(table: string, script: string): void;
  /** Packets that each named counter of the table has counted. */
  counters(table: string): Record<string, number>;
  /** Removes what was made and is still there; may be called any number of times. */
  undo(): void;
}

/** What the main thread tells a packet thread of its host's network. */
export interface HostNetwork {
  /** Addresses of interfaces that are up; no loopback, no link-local IPv6, no TUN device's. */
  readonly addresses: readonly string[];
  /** Unicast routes of the main table; `via` differs where device, next hop or metric do; `isTunnel`: into a TUN device. */
  readonly routes: readonly { readonly prefix: string; readonly via: string; readonly isTunnel: boolean }[];
}

export type { Clock, Duration, Instant };
