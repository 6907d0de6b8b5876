/**
 * The binding to `native/quic`, as TypeScript sees it. Calls pass numbers; everything larger lies in memory that was shared
 * at construction (`SharedMemory`), whose layout is written at the top of `native/quic/src/lib.rs`.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { SallyportError } from '../base/error.js';

/** Words of one received run: memory, offset, length, segment, skip, and the five of the address. */
export const RUN_WORDS = 10;
/** Word of `out` where the address begins. */
export const OUT_ADDRESS = 5;
/** Numbers of one event: kind, connection, a, b. */
export const EVENT_WORDS = 4;
/** Numbers of `state`: next deadline (µs, −1 for none), events that wait, 1 while `transmit` may find something, connections that hold lent memory. */
export const STATE_WORDS = 4;
export const STATE_DEADLINE = 0;
export const STATE_EVENTS = 1;
export const STATE_SENDS = 2;
export const STATE_LENT = 3;
/** Added to the count of `readDatagrams` when more wait. */
export const MORE = 0x1_0000;

/** Results of `transmit`. */
export const TRANSMIT_RUN = 1;

/** Kinds of events (a and b in parentheses). */
export const EventKind = {
  /** (1 on the server side) */
  connected: 1,
  /** (reason, code) */
  closed: 2,
  datagrams: 3,
  /** (stream) */
  streamOpened: 4,
  /** (stream) */
  streamReadable: 5,
  /** (stream) */
  streamWritable: 6,
  /** (stream) */
  streamFinished: 7,
  /** (stream, code) */
  streamStopped: 8,
  /** (0 bidirectional, 1 unidirectional) */
  streamsAvailable: 9,
  datagramsUnblocked: 10,
  addressChanged: 11,
  /** (bytes) */
  datagramSize: 12,
} as const;

/** What the crate counts, in its order; then its gauges. */
export const NATIVE_COUNTERS = [
  'packets',
  'ignored',
  'accepted',
  'retried',
  'refusedTotal',
  'refusedSource',
  'invalidInitial',
  'handshakeFailed',
  'suppressed',
  'resets',
  'connected',
  'closed',
  'handshakes',
  'connections',
  'sources',
] as const;

export interface NativeOptions {
  server: boolean;
  client: boolean;
  alpn: string;
  ca: string;
  certificate?: string;
  key?: string;
  suite?: string;
  wallTime: number;
  migration: boolean;
  idleTimeout: number;
  keepAlive?: number;
  handshakeTimeout: number;
  initialMtu: number;
  mtuUpperBound?: number;
  datagramReceiveBuffer: number;
  datagramSendBuffer: number;
  streamWindow: number;
  connectionWindow: number;
  bidirectionalStreams: number;
  unidirectionalStreams: number;
  controller: string;
  inFlightCap?: number;
  virtualPrefixBytes: number;
  retryAbove: number;
  maxHandshakes: number;
  maxHandshakesPerSource: number;
  answerUnknown: boolean;
  resetKey?: Uint8Array;
  connectionIdKey?: number[];
  connectionIdLifetime?: number;
  seed?: number;
}

export interface SharedMemory {
  readonly runs: Uint32Array;
  readonly out: Uint32Array;
  readonly tx: Uint8Array;
  readonly events: Float64Array;
  readonly inbound: Uint8Array;
  readonly inboundTable: Uint32Array;
  readonly outboundTable: Uint32Array;
  readonly results: Uint32Array;
  readonly figures: Float64Array;
  readonly state: Float64Array;
  readonly scratch: Uint8Array;
}

export interface NativeEndpoint {
  attach(memory: Uint8Array): number;
  setWallTime(millis: number): void;
  setIdentity(certificate: string, key: string): void;
  connect(now: number, serverName: string): number;
  receive(now: number, count: number): number;
  expire(now: number): void;
  events(): number;
  closeText(connection: number): string;
  transmit(now: number, offset: number, maxSegments: number): number;
  readDatagrams(connection: number): number;
  writeDatagrams(connection: number, memory: number, count: number, lend: boolean): number;
  openStream(connection: number, unidirectional: boolean): number;
  readStream(connection: number, stream: number, max: number): number;
  writeStream(connection: number, stream: number, length: number): number;
  finishStream(connection: number, stream: number): boolean;
  resetStream(connection: number, stream: number, code: number): boolean;
  stopStream(connection: number, stream: number, code: number): boolean;
  close(now: number, connection: number, code: number, text: string): void;
  ping(connection: number): void;
  forceKeyUpdate(connection: number): void;
  localAddressChanged(connection: number): void;
  peerCertificates(connection: number): Uint8Array[];
  remote(connection: number): boolean;
  silentFor(now: number, connection: number): number;
  stats(connection: number): boolean;
  counters(): void;
}

interface Binding {
  readonly NativeEndpoint: new (options: NativeOptions, shared: SharedMemory) => NativeEndpoint;
}

/**
 * Where the module may be, best first; two folders up is the package's root from `src/quic` and from `dist/quic` alike. A
 * package that was installed without running its install script has the prebuilt one only.
 */
const BUILT = '../../native/quic/sallyport-quic.linux-x64-gnu.node';
const PREBUILT = '../../native/quic/prebuilt/linux-x64-gnu.node';

let binding: Binding | undefined;

/**
 * Loads the native module once and makes an endpoint.
 * @throws SallyportError QUIC_NATIVE_MISSING, QUIC_NATIVE_STALE (environment), QUIC_OPTIONS (caller: certificate, key or a value is wrong).
 */
export function makeNative(options: NativeOptions, shared: SharedMemory): NativeEndpoint {
  binding ??= load();
  shared.state.fill(Number.NaN);
  let native: NativeEndpoint;
  try {
    native = new binding.NativeEndpoint(options, shared);
  } catch (cause) {
    throw new SallyportError('caller', 'QUIC_OPTIONS', `QUIC endpoint: ${(cause as Error).message}`, { cause });
  }
  // A module from before the state cells takes them without a word and never writes them: it would send nothing.
  if (Number.isNaN(shared.state[STATE_DEADLINE])) {
    throw new SallyportError('environment', 'QUIC_NATIVE_STALE', 'the native QUIC module is older than this program', {
      hint: 'build it in the package’s folder with: node scripts/build-native.mjs',
    });
  }
  return native;
}

function load(): Binding {
  const require = createRequire(import.meta.url);
  const isBuilt = existsSync(new URL(BUILT, import.meta.url));
  try {
    return require(isBuilt ? BUILT : PREBUILT) as Binding;
  } catch (cause) {
    const why = (cause as Error).message.split('\n', 1)[0];
    throw new SallyportError('environment', 'QUIC_NATIVE_MISSING', `the native QUIC module cannot be loaded: ${why}`, {
      cause,
      hint: 'build it in the package’s folder with: node scripts/build-native.mjs --from-source',
    });
  }
}
