/**
 * One relay connection as the relay sees it, from the verified certificate to the close.
 *
 *   greeting ──hello with a valid proof──► open ──close, loss, replacement──► closed
 *
 * Nothing but `hello` is accepted while greeting. Which node it is comes from certificate and proof alone.
 */

import type { SocketAddress } from '../base/address.js';
import { TokenBucket } from '../base/bucket.js';
import { Drop, type DropReason } from '../base/drop.js';
import { describeError, SallyportError } from '../base/error.js';
import { type Instant, later, Seconds } from '../base/time.js';
import type { PeerIdentity } from '../identity/peer-identity.js';
import { CloseCode as QuicCloseCode } from '../quic/close.js';
import type { CloseReason, ConnectionHandler, DatagramBatch, QuicConnection } from '../quic/connection.js';
import type { ControlStream } from '../quic/control-stream.js';
import { CloseCode } from '../tunnel/close-codes.js';
import { decodeNonce, encodeObserved, RelayDatagram, type Word64 } from '../tunnel/frames.js';
import { decodeMessage, encodeMessage, type FromRelay, ToRelay } from '../tunnel/messages.js';
import type { RelayNode } from './node.js';

/** A connection that has not said a valid hello by then is closed. */
export const GREETING_TIMEOUT = Seconds(5);

/** Messages a node may send unasked, on average and in one burst; a connector's answers to `channel` are bounded by those. */
export const UNBIDDEN_PER_SECOND = 50;

type Hello = Extract<ToRelay, { type: 'hello' }>;

/** What a connection asks of the relay's core. */
export interface ConnectionOwner {
  /** @throws SallyportError when the node is refused. */
  onHello(now: Instant, connection: NodeConnection, hello: Hello): void;
  onMessage(now: Instant, connection: NodeConnection, node: RelayNode, message: Exclude<ToRelay, Hello>): void;
  /** Whether the relay waits for this very message. */
  isAwaited(node: RelayNode, message: ToRelay): boolean;
  onRevalidated(now: Instant, node: RelayNode, nonce: Word64): void;
  /** The node's relay connection has another address now. */
  onMoved(now: Instant, node: RelayNode): void;
  onClosed(now: Instant, connection: NodeConnection, reason: CloseReason): void;
  countDrop(reason: DropReason): void;
}

export class NodeConnection implements ConnectionHandler {
  readonly quic: QuicConnection;
  readonly certificate: PeerIdentity;
  readonly deadline: Instant;
  /** Set once admitted. */
  node: RelayNode | undefined;
  #state: 'greeting' | 'open' | 'closed' = 'greeting';
  #control: ControlStream | undefined;
  readonly #unbidden = new TokenBucket(UNBIDDEN_PER_SECOND, UNBIDDEN_PER_SECOND);
  readonly #owner: ConnectionOwner;

  constructor(now: Instant, quic: QuicConnection, certificate: PeerIdentity, owner: ConnectionOwner) {
    this.quic = quic;
    this.certificate = certificate;
    this.deadline = later(now, GREETING_TIMEOUT);
    this.#owner = owner;
  }

  get state(): 'greeting' | 'open' | 'closed' {
    return this.#state;
  }

  /** The core has admitted the node. */
  open(node: RelayNode): void {
    this.node = node;
    this.#state = 'open';
  }

  send(message: FromRelay): void {
    this.#control?.send(encodeMessage(message));
  }

  /** Sends a large message on a unidirectional stream of its own. */
  push(message: FromRelay): void {
    if (this.#state === 'open') this.quic.push(encodeMessage(message));
  }

  tellObserved(address: SocketAddress): void {
    this.quic.sendDatagram(encodeObserved(address));
  }

  close(now: Instant, code: number, reason: string): void {
    if (this.#state === 'closed') return;
    this.quic.close(now, code, reason);
  }

  onConnected(): void {}

  onControl(_now: Instant, stream: ControlStream): void {
    this.#control = stream;
  }

  onControlMessage(now: Instant, bytes: Uint8Array): void {
    const decoded = decodeMessage(ToRelay, bytes);
    const isAwaited = decoded.ok && this.node !== undefined && this.#owner.isAwaited(this.node, decoded.message);
    if (!isAwaited && !this.#unbidden.take(now)) {
      this.close(now, QuicCloseCode.messageRate, 'too many control messages');
      return;
    }
    if (!decoded.ok) {
      if (this.#state === 'greeting') this.close(now, CloseCode.protocol, `hello expected: ${decoded.problem}`);
      else if (decoded.id !== undefined) {
        this.send({
          type: 'error',
          id: decoded.id,
          code: decoded.unknownType ? 'unknown' : 'invalid',
          message: decoded.problem,
        });
      } else if (!decoded.unknownType) this.close(now, CloseCode.protocol, decoded.problem);
      return;
    }
    const { message } = decoded;
    if (message.type === 'hello') this.#hello(now, message);
    else if (this.node === undefined || this.#state !== 'open') this.close(now, CloseCode.protocol, 'hello expected');
    else this.#owner.onMessage(now, this, this.node, message);
  }

  #hello(now: Instant, hello: Hello): void {
    if (this.#state !== 'greeting') {
      this.close(now, CloseCode.protocol, 'a second hello');
      return;
    }
    try {
      this.#owner.onHello(now, this, hello);
    } catch (error) {
      const code = error instanceof SallyportError ? error.code : 'REFUSED';
      // In the close itself: what a closing connection still had on its streams is not delivered.
      this.close(now, CloseCode.refused, `${code}: ${describeError(error)}`);
    }
  }

  onDatagrams(now: Instant, batch: DatagramBatch): void {
    const { bytes, table, count } = batch;
    for (let i = 0; i < count; i++) {
      const offset = table[i * 2]!;
      const length = table[i * 2 + 1]!;
      const nonce =
        length > 0 && bytes[offset] === RelayDatagram.revalidated ? decodeNonce(bytes, offset, length) : undefined;
      if (nonce === undefined || this.node === undefined) this.#owner.countDrop(Drop.unknown_frame);
      else this.#owner.onRevalidated(now, this.node, nonce);
    }
  }

  onAddressChanged(now: Instant): void {
    if (this.node !== undefined && this.#state === 'open') this.#owner.onMoved(now, this.node);
  }

  onClosed(now: Instant, reason: CloseReason): void {
    this.#state = 'closed';
    this.#owner.onClosed(now, this, reason);
  }
}
