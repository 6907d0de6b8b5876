/**
 * Joins a WebSocket and a UDP socket of this machine: each datagram becomes part of a message, each message datagrams. Both ends of
 * the way over TCP are this, so that neither relay nor node has a second packet path: each sees a UDP peer on its own host.
 *
 *   node's packet thread ══ UDP, loopback ══ bridge ── TLS, TCP ── bridge ══ UDP, loopback ══ relay's packet thread
 *
 * A stream that takes less than it is given is a full link. Of what has no room in it a few milliseconds' worth waits (`StreamSend`),
 * and a bridge with a `TcpCredit` says so to its packet thread, where packets wait by inner flow.
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import type { RawData, WebSocket } from 'ws';
import { type Duration, Millis, Seconds, toMillis } from '../base/time.js';
import { SystemClock } from '../os/clock.js';
import { unsentBytes } from '../os/linux/tcp-unsent.js';
import { MAX_BATCH, readDatagramBatch } from '../tunnel/datagram-batch.js';
import { StreamSend } from './stream-send.js';
import type { TcpBridgeCounters } from './tcp-counters.js';
import type { TcpCredit } from './tcp-credit.js';

/** The subprotocol both ends agree on; its number grows with the format. */
export const TCP_SUBPROTOCOL = 'sallyport-udp-1';
export const TCP_PATH = '/api/v1/relay';
/** What a stream has sent is looked at so often while it has something to send. */
const LOOK: Duration = Millis(2);
/** Long enough for a datagram to cross loopback and this thread to read it. */
const SETTLE: Duration = Millis(250);
/** Bytes; the kernel gives what net.core.rmem_max allows. */
const RECEIVE_BUFFER = 1024 * 1024;
/** Silence that ends a bridge; QUIC's keep-alives are ten times as frequent. */
const IDLE: Duration = Seconds(120);
/** Code of RFC 6455 §7.4.1 for what does not follow the subprotocol. */
const PROTOCOL_ERROR = 1002;

const NOTHING = new Uint8Array(0);
const CLOCK = new SystemClock();

export class TcpBridge {
  /** Resolves when both sockets are closed. */
  readonly closed: Promise<void>;
  readonly #stream: WebSocket;
  readonly #udp: Socket;
  readonly #send: StreamSend;
  readonly #credit: TcpCredit | undefined;
  readonly #watch: NodeJS.Timeout;
  readonly #settling: NodeJS.Timeout | undefined;
  #look: NodeJS.Timeout | undefined;
  #datagramsIn = 0;
  #isScheduled = false;
  #isAlive = true;

  private constructor(stream: WebSocket, udp: Socket, credit: TcpCredit | undefined) {
    this.#stream = stream;
    this.#udp = udp;
    this.#credit = credit;
    const socket = tcpSocket(stream);
    this.#send = new StreamSend({
      get unsent() {
        const fd = socket._handle?.fd ?? -1;
        return stream.bufferedAmount + (fd < 0 ? 0 : unsentBytes(fd));
      },
      write: (message) => {
        if (stream.readyState === stream.OPEN) stream.send(message, () => this.#pump());
      },
    });
    stream.binaryType = 'nodebuffer';
    stream.on('message', (message: RawData, isBinary) => this.#onMessage(message as Buffer, isBinary));
    stream.on('error', () => stream.terminate());
    udp.on('message', (payload) => this.#onDatagram(payload));
    // The peer's port is shut while it restarts: its packets are lost, as on any network.
    udp.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      stream.once('close', () => {
        clearInterval(this.#watch);
        clearInterval(this.#settling);
        clearTimeout(this.#look);
        if (credit?.close() === true) this.#wake();
        udp.close(() => resolve());
      });
    });
    this.#watch = setInterval(() => {
      if (!this.#isAlive) stream.terminate();
      this.#isAlive = false;
    }, toMillis(IDLE));
    this.#watch.unref();
    if (credit === undefined) return;
    this.#settling = setInterval(() => {
      credit.settle(this.#send.takenBytes);
      this.#pump();
    }, toMillis(SETTLE));
    this.#settling.unref();
    this.#pump();
  }

  /**
   * Joins an open stream with `peer`'s port on this machine; only that port is listened to.
   * @param credit by which whoever has that port is told to wait.
   */
  static async open(
    stream: WebSocket,
    peer: { readonly address: string; readonly port: number },
    credit?: TcpCredit,
  ): Promise<TcpBridge> {
    const type = peer.address.includes(':') ? 'udp6' : 'udp4';
    const udp = createSocket({ type, recvBufferSize: RECEIVE_BUFFER });
    try {
      udp.connect(peer.port, peer.address);
      await once(udp, 'connect');
    } catch (error) {
      udp.close();
      throw error;
    }
    return new TcpBridge(stream, udp, credit);
  }

  /** Where the UDP socket is. */
  get local(): { readonly address: string; readonly port: number } {
    return this.#udp.address();
  }

  get counters(): TcpBridgeCounters {
    return { datagramsIn: this.#datagramsIn, datagramsOut: this.#send.taken, dropped: this.#send.dropped };
  }

  close(): void {
    this.#stream.terminate();
  }

  #onMessage(message: Buffer, isBinary: boolean): void {
    this.#isAlive = true;
    const isWhole =
      isBinary &&
      readDatagramBatch(message, (payload) => {
        this.#datagramsIn++;
        this.#udp.send(payload, () => undefined);
      });
    if (!isWhole) this.#stream.close(PROTOCOL_ERROR);
  }

  #onDatagram(payload: Buffer): void {
    this.#isAlive = true;
    this.#send.take(CLOCK.now(), payload);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  /** What there is room for goes, the packet thread is told how much more may come, and another look is due if anything waits. */
  #pump(): void {
    if (this.#stream.readyState !== this.#stream.OPEN) return;
    const send = this.#send;
    send.pump(CLOCK.now());
    if (this.#credit?.grant(send.takenBytes, send.room, send.gone) === true) this.#wake();
    if (!send.isBusy || this.#look !== undefined) return;
    this.#look = setTimeout(() => {
      this.#look = undefined;
      this.#pump();
    }, toMillis(LOOK));
    this.#look.unref();
  }

  /** An empty datagram ends the packet thread's wait. */
  #wake(): void {
    this.#udp.send(NOTHING, () => undefined);
  }
}

/** The socket below, whose descriptor the kernel is asked about; neither library has a public name for either. */
function tcpSocket(stream: WebSocket): { readonly _handle?: { readonly fd?: number } | null } {
  return (stream as unknown as { readonly _socket: Duplex })._socket as { readonly _handle?: { readonly fd?: number } };
}

/** Options of every WebSocket of this kind. */
export const STREAM_OPTIONS = { perMessageDeflate: false, maxPayload: MAX_BATCH, skipUTF8Validation: true } as const;
