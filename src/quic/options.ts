/**
 * What a QUIC endpoint is made of, and the defaults: those of protocol.md §2 and §4.
 */
import { type Duration, type Instant, Millis, Seconds, toMillis, type WallTime } from '../base/time.js';
import type { ConnectionHandler, QuicConnection } from './connection.js';
import type { NativeOptions } from './native.js';

/** Certificate chain (own first) and private key, PEM. */
export interface Identity {
  readonly certificate: string;
  readonly key: string;
}

export interface ServerOptions {
  /**
   * Called when a peer's handshake is complete, its certificate verified: nobody else ever gets here. Undefined refuses it
   * (close code 0 unless the function has closed it itself).
   */
  accept(now: Instant, connection: QuicConnection): ConnectionHandler | undefined;
  /** Whether a peer may move to another address. Default false. */
  readonly migration?: boolean;
  /** Unproved addresses get a Retry when more handshakes than this are in flight; 0 = always, Infinity = never. */
  readonly retryAbove?: number;
  /** Handshakes in flight: more are ignored (refused, when the address is proved). Default 1000. */
  readonly maxHandshakes?: number;
  /** The same per source (IPv4 address, IPv6 /64, or relay channel). Default 32. */
  readonly maxHandshakesPerSource?: number;
}

export interface QuicEndpointOptions {
  readonly alpn: string;
  /** The network's CA, PEM. */
  readonly ca: string;
  /** Undefined: a client that shows no certificate; every server of this network refuses it. */
  readonly identity: Identity | undefined;
  readonly wallTime: WallTime;
  /** Present: peers may connect. */
  readonly server?: ServerOptions;
  /** Whether `connect` is used. */
  readonly client: boolean;
  readonly idleTimeout?: Duration;
  /** Absent: no keep-alive; the driver pings. */
  readonly keepAlive?: Duration;
  readonly handshakeTimeout?: Duration;
  /** UDP payload in bytes before discovery has found more, 1200 … 2000. */
  readonly initialMtu?: number;
  /** Highest UDP payload searched for, ≤ 2000; `undefined` given explicitly = no search. */
  readonly mtuUpperBound?: number | undefined;
  readonly datagramReceiveBuffer?: number;
  readonly datagramSendBuffer?: number;
  /** Most unread bytes of one stream. */
  readonly streamWindow?: number;
  readonly controller?: 'open' | 'cubic';
  /** Bytes in flight at which the open controller stops. */
  readonly inFlightCap?: number;
  readonly suite?: 'aes128' | 'chacha20' | 'aes256';
  /** Free bytes before each packet to an address in fd53:616c:6c79::/48. */
  readonly virtualPrefixBytes?: number;
  /** Whether packets of no known connection are ever answered. Default: whether there is a server. */
  readonly answerUnknown?: boolean;
  /** 32 or more bytes and 8 bytes, kept across restarts so that a restarted process can reset old connections. */
  readonly resetKey?: Uint8Array;
  readonly connectionIdKey?: Uint8Array;
  readonly connectionIdLifetime?: Duration;
  /** How often handlers' `recheck` runs. Default 60 s. */
  readonly recheckInterval?: Duration;
  /** Control messages accepted per second and connection, on average and in one burst. Default 50. */
  readonly messagesPerSecond?: number;
  /** Bytes of transmit memory. Default 1 MiB. */
  readonly transmitBytes?: number;
  /** Tests only: seeds the endpoint's own generator (not TLS). */
  readonly seed?: number;
}

/** Bytes. Every path carries it (RFC 9000 §14). */
export const MIN_MTU = 1200;
/** Bytes of UDP payload over IPv6 on Ethernet: 1500 − 40 − 8. */
export const ETHERNET_MTU = 1452;
/** The largest `mtuUpperBound`: what `transmit` keeps free for one packet (2048), less room for prefixes. */
export const MAX_MTU_BOUND = 2000;
/** Bytes of one control message, and of what a peer may have unread on a stream. */
export const MAX_CONTROL_MESSAGE = 64 * 1024;
/** Bytes of a length before each control message. */
export const CONTROL_HEADER = 4;

const DEFAULTS = {
  idleTimeout: Seconds(90),
  handshakeTimeout: Seconds(10),
  recheckInterval: Seconds(60),
  datagramBuffer: 4 * 1024 * 1024,
  connectionWindow: 1024 * 1024,
  /** Stream 0 and one to spare: more are a protocol violation anyway. */
  bidirectionalStreams: 2,
  /** Pushes come one after another. */
  unidirectionalStreams: 4,
  retryAbove: 100,
  maxHandshakes: 1000,
  maxHandshakesPerSource: 32,
} as const;

export const DEFAULT_RECHECK_INTERVAL: Duration = DEFAULTS.recheckInterval;
export const DEFAULT_MESSAGES_PER_SECOND = 50;
export const DEFAULT_TRANSMIT_BYTES = 1024 * 1024;

const U32_MAX = 0xffff_ffff;
const millis = (span: Duration): number => Math.max(1, Math.round(toMillis(span)));

export function toNative(options: QuicEndpointOptions): NativeOptions {
  const server = options.server;
  const upperBound = 'mtuUpperBound' in options ? options.mtuUpperBound : ETHERNET_MTU;
  const native: NativeOptions = {
    server: server !== undefined,
    client: options.client,
    alpn: options.alpn,
    ca: options.ca,
    wallTime: options.wallTime,
    migration: server?.migration ?? false,
    idleTimeout: millis(options.idleTimeout ?? DEFAULTS.idleTimeout),
    handshakeTimeout: millis(options.handshakeTimeout ?? DEFAULTS.handshakeTimeout),
    initialMtu: options.initialMtu ?? MIN_MTU,
    datagramReceiveBuffer: options.datagramReceiveBuffer ?? DEFAULTS.datagramBuffer,
    datagramSendBuffer: options.datagramSendBuffer ?? DEFAULTS.datagramBuffer,
    streamWindow: options.streamWindow ?? MAX_CONTROL_MESSAGE,
    connectionWindow: DEFAULTS.connectionWindow,
    bidirectionalStreams: DEFAULTS.bidirectionalStreams,
    unidirectionalStreams: DEFAULTS.unidirectionalStreams,
    controller: options.controller ?? 'open',
    virtualPrefixBytes: options.virtualPrefixBytes ?? 0,
    retryAbove: Math.min(server?.retryAbove ?? DEFAULTS.retryAbove, U32_MAX),
    maxHandshakes: server?.maxHandshakes ?? DEFAULTS.maxHandshakes,
    maxHandshakesPerSource: server?.maxHandshakesPerSource ?? DEFAULTS.maxHandshakesPerSource,
    answerUnknown: options.answerUnknown ?? server !== undefined,
  };
  if (options.identity !== undefined) {
    native.certificate = options.identity.certificate;
    native.key = options.identity.key;
  }
  if (upperBound !== undefined) native.mtuUpperBound = Math.min(upperBound, MAX_MTU_BOUND);
  if (options.keepAlive !== undefined) native.keepAlive = millis(options.keepAlive);
  if (options.suite !== undefined) native.suite = options.suite;
  if (options.inFlightCap !== undefined) native.inFlightCap = options.inFlightCap;
  if (options.resetKey !== undefined) native.resetKey = options.resetKey;
  if (options.connectionIdKey !== undefined) native.connectionIdKey = words(options.connectionIdKey);
  if (options.connectionIdLifetime !== undefined) native.connectionIdLifetime = millis(options.connectionIdLifetime);
  if (options.seed !== undefined) native.seed = options.seed;
  return native;
}

function words(key: Uint8Array): number[] {
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  return [view.getUint32(0), view.getUint32(4)];
}

/** How far the wall clock may have moved before the crate is told: certificates are valid by the second. */
export const WALL_RESOLUTION = Millis(500);
