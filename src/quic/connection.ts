/**
 * One QUIC connection, and what the layers above get told about it.
 *
 *   connecting ──onConnected──► open ──────────┐
 *       └──────────────┬──close, loss──────────┴──► closed ──► onClosed, once, at the next `process`
 *
 * A client is "connected" before the server has judged its certificate (RFC 8446 §4.4.4): upper layers wait for a hello.
 *
 *   stream 0 (bidirectional, the client's)      control messages, `ControlStream`
 *   unidirectional streams, one after another   one pushed message each, `Pusher` and `PushReader`
 *   DATAGRAM frames                             arena + table of [offset, length]
 */
import type { SocketAddress } from '../base/address.js';
import type { Duration, Instant, WallTime } from '../base/time.js';
import type { Arena } from '../wire/arena.js';
import type { CloseReason } from './close.js';
import { CloseCode } from './close.js';
import { ControlStream } from './control-stream.js';
import { MAX_PUSH, Pusher, PushReader } from './push.js';
import type { StreamHost } from './stream.js';

export type { CloseReason } from './close.js';

/** Datagrams received: valid during the call only. Entry i = `table[2i]` (offset, a multiple of 4) and `table[2i + 1]` (length). */
export interface DatagramBatch {
  readonly arena: Arena;
  readonly bytes: Uint8Array;
  readonly table: Uint32Array;
  readonly count: number;
}

/** Why a handler wants its connection closed. */
export interface CloseOrder {
  readonly code: number;
  readonly reason: string;
}

export interface ConnectionHandler {
  /** The handshake is complete and the peer's certificate verified. On the server side `accept` has just been called. */
  onConnected(now: Instant, connection: QuicConnection): void;
  /** Called exactly once for every connection that `connect` returned or `accept` took. */
  onClosed(now: Instant, reason: CloseReason, connection: QuicConnection): void;
  onDatagrams(now: Instant, batch: DatagramBatch, connection: QuicConnection): void;
  onControlMessage(now: Instant, bytes: Uint8Array, connection: QuicConnection): void;
  /** Server side: the client has opened stream 0. */
  onControl?(now: Instant, stream: ControlStream, connection: QuicConnection): void;
  /** A message pushed on a unidirectional stream, whole. A handler without this gets none: such streams are stopped. */
  onPush?(now: Instant, bytes: Uint8Array, connection: QuicConnection): void;
  /** The peer moved; `connection.remote` is its new address. */
  onAddressChanged?(now: Instant, connection: QuicConnection): void;
  /** `maxDatagramSize` has changed. */
  onDatagramSize?(now: Instant, connection: QuicConnection): void;
  /** Datagrams that were refused because the send buffer was full may be written again. */
  onUnblocked?(now: Instant, connection: QuicConnection): void;
  /** Asked by timer and by `QuicEndpoint.recheck`: whether this connection must end (policy, revocation). */
  recheck?(now: Instant, wall: WallTime, connection: QuicConnection): CloseOrder | undefined;
}

export interface ConnectionStats {
  readonly rtt: Duration;
  readonly minRtt: Duration;
  /** Congestion window in bytes; 2^33 is the open controller's. */
  readonly window: number;
  /** UDP payload in bytes that the path is known to carry. */
  readonly mtu: number;
  readonly maxDatagramSize: number;
  readonly packetsSent: number;
  readonly packetsLost: number;
  readonly bytesLost: number;
  readonly datagramsIn: number;
  readonly datagramsOut: number;
  readonly udpPacketsIn: number;
  readonly udpPacketsOut: number;
  readonly udpBytesIn: number;
  readonly udpBytesOut: number;
  readonly blackHoles: number;
  /** Free bytes of the datagram send buffer. */
  readonly sendSpace: number;
}

/** What a connection asks of its endpoint. */
export interface ConnectionHost extends StreamHost {
  readonly messagesPerSecond: number;
  closeConnection(now: Instant, id: number, code: number, reason: string): void;
  writeDatagrams(id: number, memory: number, count: number, isLent: boolean): number;
  sendDatagram(id: number, bytes: Uint8Array): boolean;
  openStream(id: number, unidirectional: boolean): number | undefined;
  remoteOf(id: number): SocketAddress;
  statsOf(id: number): ConnectionStats | undefined;
  silentFor(now: Instant, id: number): Duration;
  ping(id: number): void;
  forceKeyUpdate(id: number): void;
  localAddressChanged(id: number): void;
}

/** Bidirectional streams are the client's; this is the first (RFC 9000 §2.1). */
const CONTROL_STREAM = 0;
const isUnidirectional = (stream: number): boolean => (stream & 2) !== 0;

export class QuicConnection {
  /** Never used again within its endpoint. */
  readonly id: number;
  readonly isServer: boolean;
  /** Set by the endpoint. */
  handler: ConnectionHandler | undefined;
  state: 'connecting' | 'open' | 'closed' = 'connecting';
  /** The peer's certificates (DER), its own first. Empty until connected. */
  peerCertificates: readonly Uint8Array[] = [];
  /** When the earlier of the two ends' certificates expires; the endpoint closes the connection then. */
  certificateExpiry: WallTime = 0 as WallTime;
  /** Largest datagram in bytes that fits a packet now; 0 until connected. */
  maxDatagramSize = 0;
  /** The peer's address. */
  remote: SocketAddress;
  #control: ControlStream | undefined;
  readonly #pusher: Pusher;
  readonly #readers = new Map<number, PushReader>();
  /** Bytes of pushes in the making that this connection may still hold. */
  readonly #pushBudget = { left: MAX_PUSH };
  readonly #host: ConnectionHost;

  constructor(
    id: number,
    isServer: boolean,
    remote: SocketAddress,
    handler: ConnectionHandler | undefined,
    host: ConnectionHost,
  ) {
    this.id = id;
    this.isServer = isServer;
    this.remote = remote;
    this.handler = handler;
    this.#host = host;
    this.#pusher = new Pusher(id, host, () => host.openStream(id, true));
  }

  /** Client side: opens stream 0. Once, after `onConnected`. */
  openControl(): ControlStream {
    if (this.#control === undefined) {
      this.#host.openStream(this.id, false);
      this.#control = this.#makeControl();
    }
    return this.#control;
  }

  /** The control stream, when it is open. */
  get control(): ControlStream | undefined {
    return this.#control;
  }

  /** Sends `bytes` (≤ 8 MiB) on a unidirectional stream of their own, after those pushed before. False: queue full or closed. */
  push(bytes: Uint8Array): boolean {
    return this.state === 'open' && this.#pusher.push(bytes);
  }

  /**
   * Queues the first `count` datagrams of `endpoint.outbound.table`, whose payloads lie in the outbound arena (or in memory
   * `memory`, see `QuicEndpoint.attach`). Returns how many were queued; the others are counted by reason in the endpoint's counters.
   */
  writeDatagrams(_now: Instant, count: number, memory = 0): number {
    return this.state === 'open' ? this.#host.writeDatagrams(this.id, memory, count, false) : 0;
  }

  /** The same for the outbound arena, without a copy: the payloads stay as they are while `endpoint.isLent`. */
  lendDatagrams(_now: Instant, count: number): number {
    return this.state === 'open' ? this.#host.writeDatagrams(this.id, 0, count, true) : 0;
  }

  /** Sends one datagram; not for the packet path. */
  sendDatagram(bytes: Uint8Array): boolean {
    return this.state === 'open' && this.#host.sendDatagram(this.id, bytes);
  }

  /** Ends the connection; the peer is told. `onClosed` follows at the next `process`. Nothing happens when it is closed. */
  close(now: Instant, code: number, reason: string): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.#host.closeConnection(now, this.id, code, reason);
  }

  /** How long nothing has arrived that only the peer can have sent; since the beginning when nothing has. */
  silentFor(now: Instant): Duration {
    return this.#host.silentFor(now, this.id);
  }

  /** Asks the peer for a life sign. */
  ping(): void {
    this.#host.ping(this.id);
  }

  forceKeyUpdate(): void {
    this.#host.forceKeyUpdate(this.id);
  }

  /** Client side: our own address has changed; the peer is told at once. */
  localAddressChanged(): void {
    this.#host.localAddressChanged(this.id);
  }

  /** Undefined when the connection is gone. */
  stats(): ConnectionStats | undefined {
    return this.#host.statsOf(this.id);
  }

  /** For the endpoint. */
  streamOpened(now: Instant, stream: number): void {
    if (isUnidirectional(stream)) {
      if (this.handler?.onPush === undefined) {
        this.#host.stopStream(this.id, stream, CloseCode.streamProtocol);
        return;
      }
      this.#readers.set(stream, new PushReader(this.id, stream, this.#host, this.#pushBudget));
      this.streamReadable(now, stream);
    } else if (stream === CONTROL_STREAM && this.#control === undefined) {
      this.#control = this.#makeControl();
      this.handler?.onControl?.(now, this.#control, this);
      this.streamReadable(now, stream);
    } else this.close(now, CloseCode.streamProtocol, 'an unexpected stream');
  }

  /** For the endpoint. */
  streamReadable(now: Instant, stream: number): void {
    if (stream === CONTROL_STREAM) {
      const problem = this.#control?.readable(now);
      if (problem !== undefined) this.close(now, problem.code, problem.reason);
      return;
    }
    const reader = this.#readers.get(stream);
    if (reader === undefined) return;
    const result = reader.readable();
    if (result === undefined) return;
    this.#readers.delete(stream);
    if (result instanceof Uint8Array) this.handler?.onPush?.(now, result, this);
    else if (result !== 'abandoned') this.close(now, result.code, result.reason);
  }

  /** For the endpoint. */
  streamWritable(stream: number): void {
    if (stream === CONTROL_STREAM) this.#control?.writable();
    else this.#pusher.writable(stream);
  }

  /** For the endpoint: a stream of ours has been acknowledged to its end, or the peer wants no more of it. */
  streamEnded(now: Instant, stream: number): void {
    if (stream === CONTROL_STREAM) this.close(now, CloseCode.streamProtocol, 'the control stream was stopped');
    else this.#pusher.ended(stream);
  }

  /** For the endpoint: the peer allows more unidirectional streams. */
  streamsAvailable(): void {
    this.#pusher.resume();
  }

  #makeControl(): ControlStream {
    const deliver = (now: Instant, bytes: Uint8Array): boolean => {
      this.handler?.onControlMessage(now, bytes, this);
      return this.state === 'open';
    };
    return new ControlStream(this.id, CONTROL_STREAM, this.#host, this.#host.messagesPerSecond, deliver);
  }
}
