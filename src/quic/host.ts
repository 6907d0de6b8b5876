/**
 * What connections and their streams ask of the native side, by connection number.
 */
import { SocketAddress } from '../base/address.js';
import { Counters } from '../base/counters.js';
import type { Duration, Instant } from '../base/time.js';
import type { ConnectionHost, ConnectionStats } from './connection.js';
import { type NativeEndpoint, OUT_ADDRESS, type SharedMemory } from './native.js';

/** Memory of one datagram that is not the packet path's. */
const SINGLE_BYTES = 64 * 1024;

/** What the packet path of this side refuses, by reason. */
export const REFUSED = ['datagramsTooLarge', 'datagramsBlocked', 'datagramsUnsendable'] as const;

export class NativeHost implements ConnectionHost {
  readonly scratch: Uint8Array;
  readonly messagesPerSecond: number;
  readonly counters = new Counters(REFUSED);
  readonly #native: NativeEndpoint;
  readonly #shared: SharedMemory;
  readonly #address: Uint32Array;
  readonly #single = new Uint8Array(SINGLE_BYTES);
  readonly #singleId: number;

  constructor(native: NativeEndpoint, shared: SharedMemory, messagesPerSecond: number) {
    this.#native = native;
    this.#shared = shared;
    this.#address = shared.out.subarray(OUT_ADDRESS);
    this.scratch = shared.scratch;
    this.messagesPerSecond = messagesPerSecond;
    this.#singleId = native.attach(this.#single);
  }

  closeConnection(now: Instant, id: number, code: number, reason: string): void {
    this.#native.close(now, id, code, reason);
  }

  writeDatagrams(id: number, memory: number, count: number, isLent: boolean): number {
    const queued = this.#native.writeDatagrams(id, memory, count, isLent);
    if (queued < count) {
      const results = this.#shared.results;
      this.counters.add('datagramsTooLarge', results[1]!);
      this.counters.add('datagramsBlocked', results[2]!);
      this.counters.add('datagramsUnsendable', results[3]!);
    }
    return queued;
  }

  sendDatagram(id: number, bytes: Uint8Array): boolean {
    if (bytes.length > SINGLE_BYTES) return false;
    const table = this.#shared.outboundTable;
    // A packet path may be in the middle of filling the table: its first row is put back.
    const [offset, length] = [table[0]!, table[1]!];
    this.#single.set(bytes);
    table[0] = 0;
    table[1] = bytes.length;
    const queued = this.writeDatagrams(id, this.#singleId, 1, false);
    table[0] = offset;
    table[1] = length;
    return queued === 1;
  }

  openStream(id: number, unidirectional: boolean): number | undefined {
    const stream = this.#native.openStream(id, unidirectional);
    return stream < 0 ? undefined : stream;
  }

  readStream(id: number, stream: number, max: number): number {
    return this.#native.readStream(id, stream, max);
  }

  get readState(): number {
    return this.#shared.figures[0]!;
  }

  writeStream(id: number, stream: number, length: number): number {
    return this.#native.writeStream(id, stream, length);
  }

  finishStream(id: number, stream: number): void {
    this.#native.finishStream(id, stream);
  }

  resetStream(id: number, stream: number, code: number): void {
    this.#native.resetStream(id, stream, code);
  }

  stopStream(id: number, stream: number, code: number): void {
    this.#native.stopStream(id, stream, code);
  }

  remoteOf(id: number): SocketAddress {
    this.#native.remote(id);
    return SocketAddress.read(this.#address, 0);
  }

  silentFor(now: Instant, id: number): Duration {
    return this.#native.silentFor(now, id) as Duration;
  }

  ping(id: number): void {
    this.#native.ping(id);
  }

  forceKeyUpdate(id: number): void {
    this.#native.forceKeyUpdate(id);
  }

  localAddressChanged(id: number): void {
    this.#native.localAddressChanged(id);
  }

  statsOf(id: number): ConnectionStats | undefined {
    if (!this.#native.stats(id)) return undefined;
    const f = this.#shared.figures;
    return {
      rtt: f[0]! as Duration,
      minRtt: f[1]! as Duration,
      window: f[2]!,
      mtu: f[3]!,
      maxDatagramSize: f[4]!,
      packetsSent: f[5]!,
      packetsLost: f[6]!,
      bytesLost: f[7]!,
      datagramsIn: f[8]!,
      datagramsOut: f[9]!,
      udpPacketsIn: f[10]!,
      udpPacketsOut: f[11]!,
      udpBytesIn: f[12]!,
      udpBytesOut: f[13]!,
      blackHoles: f[14]!,
      sendSpace: f[15]!,
    };
  }
}
