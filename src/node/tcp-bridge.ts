/**
 * Joins a WebSocket and a UDP socket of this machine: each datagram becomes part of a message, each message datagrams. Both ends of
 * the way over TCP are this, so that neither relay nor node has a second packet path: each sees a UDP peer on its own host.
 *
 *   node's packet thread ══ UDP, loopback ══ bridge ── TLS, TCP ── bridge ══ UDP, loopback ══ relay's packet thread
 *
 * A stream that takes less than it is given is a full link: what comes then is dropped and counted, as a router would.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { RawData, WebSocket } from 'ws';
import { type Duration, Seconds, toMillis } from '../base/time.js';
import { DatagramBatchWriter, MAX_BATCH, readDatagramBatch } from '../tunnel/datagram-batch.js';

/** The subprotocol both ends agree on; its number grows with the format. */
export const TCP_SUBPROTOCOL = 'sallyport-udp-1';
export const TCP_PATH = '/api/v1/relay';
/** Bytes that may wait for the stream: some milliseconds of a fast one, and a bound on what a slow one delays. */
const MAX_WAITING = 512 * 1024;
/** Silence that ends a bridge; QUIC's keep-alives are ten times as frequent. */
const IDLE: Duration = Seconds(120);
/** Code of RFC 6455 §7.4.1 for what does not follow the subprotocol. */
const PROTOCOL_ERROR = 1002;

export interface TcpBridgeCounters {
  datagramsIn: number;
  datagramsOut: number;
  dropped: number;
}

export class TcpBridge {
  readonly counters: TcpBridgeCounters = { datagramsIn: 0, datagramsOut: 0, dropped: 0 };
  /** Resolves when both sockets are closed. */
  readonly closed: Promise<void>;
  readonly #stream: WebSocket;
  readonly #udp: Socket;
  readonly #batch = new DatagramBatchWriter();
  readonly #watch: NodeJS.Timeout;
  #isScheduled = false;
  #isAlive = true;

  private constructor(stream: WebSocket, udp: Socket) {
    this.#stream = stream;
    this.#udp = udp;
    stream.binaryType = 'nodebuffer';
    stream.on('message', (message: RawData, isBinary) => this.#onMessage(message as Buffer, isBinary));
    stream.on('error', () => stream.terminate());
    udp.on('message', (payload) => this.#onDatagram(payload));
    // The peer's port is shut while it restarts: its packets are lost, as on any network.
    udp.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      stream.once('close', () => {
        clearInterval(this.#watch);
        udp.close(() => resolve());
      });
    });
    this.#watch = setInterval(() => {
      if (!this.#isAlive) stream.terminate();
      this.#isAlive = false;
    }, toMillis(IDLE));
    this.#watch.unref();
  }

  /** Joins an open stream with `peer`'s port on this machine; only that port is listened to. */
  static async open(stream: WebSocket, peer: { readonly address: string; readonly port: number }): Promise<TcpBridge> {
    const udp = createSocket({ type: peer.address.includes(':') ? 'udp6' : 'udp4' });
    try {
      udp.connect(peer.port, peer.address);
      await once(udp, 'connect');
    } catch (error) {
      udp.close();
      throw error;
    }
    return new TcpBridge(stream, udp);
  }

  /** Where the UDP socket is. */
  get local(): { readonly address: string; readonly port: number } {
    return this.#udp.address();
  }

  close(): void {
    this.#stream.terminate();
  }

  #onMessage(message: Buffer, isBinary: boolean): void {
    this.#isAlive = true;
    const isWhole =
      isBinary &&
      readDatagramBatch(message, (payload) => {
        this.counters.datagramsIn++;
        this.#udp.send(payload, () => undefined);
      });
    if (!isWhole) this.#stream.close(PROTOCOL_ERROR);
  }

  #onDatagram(payload: Buffer): void {
    this.#isAlive = true;
    if (this.#stream.bufferedAmount > MAX_WAITING) {
      this.counters.dropped++;
      return;
    }
    if (!this.#batch.add(payload)) {
      this.#flush();
      if (!this.#batch.add(payload)) {
        this.counters.dropped++;
        return;
      }
    }
    this.counters.datagramsOut++;
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    if (this.#batch.isEmpty || this.#stream.readyState !== this.#stream.OPEN) return;
    this.#stream.send(this.#batch.take());
  }
}

/** Options of every WebSocket of this kind. */
export const STREAM_OPTIONS = { perMessageDeflate: false, maxPayload: MAX_BATCH, skipUTF8Validation: true } as const;
