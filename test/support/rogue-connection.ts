/** One QUIC connection of a node that speaks as a test wants it, and all it was told on it. */
import type { CloseReason, ConnectionHandler, DatagramBatch, QuicConnection } from '../../src/quic/connection.js';
import type { ControlStream } from '../../src/quic/control-stream.js';

/** A decoded control message, as JSON says it. */
export type Message = { readonly type: string } & Readonly<Record<string, unknown>>;

export class RogueConnection implements ConnectionHandler {
  connection!: QuicConnection;
  control: ControlStream | undefined;
  connected = false;
  closed: CloseReason | undefined;
  readonly messages: Message[] = [];
  readonly datagrams: Uint8Array[] = [];
  /** Called with each message; for answers at once. */
  onMessage: ((message: Message) => void) | undefined;
  /** Called when it stands, with each batch of datagrams, and when it is over. */
  onOpen: (() => void) | undefined;
  onPackets: (() => void) | undefined;
  onEnd: ((reason: CloseReason) => void) | undefined;

  onConnected(_now: number, connection: QuicConnection): void {
    this.connection = connection;
    this.connected = true;
    if (!connection.isServer) this.control = connection.openControl();
    this.onOpen?.();
  }

  onControl(_now: number, stream: ControlStream): void {
    this.control = stream;
  }

  onControlMessage(_now: number, bytes: Uint8Array): void {
    const message = JSON.parse(new TextDecoder().decode(bytes)) as Message;
    this.messages.push(message);
    this.onMessage?.(message);
  }

  onPush(now: number, bytes: Uint8Array): void {
    this.onControlMessage(now, bytes);
  }

  onDatagrams(_now: number, batch: DatagramBatch): void {
    for (let i = 0; i < batch.count; i++) {
      const offset = batch.table[i * 2]!;
      this.datagrams.push(batch.bytes.slice(offset, offset + batch.table[i * 2 + 1]!));
    }
    this.onPackets?.();
  }

  onClosed(_now: number, reason: CloseReason): void {
    this.closed = reason;
    this.onEnd?.(reason);
  }

  say(message: object | string): boolean {
    const text = typeof message === 'string' ? message : JSON.stringify(message);
    return this.control?.send(new TextEncoder().encode(text)) ?? false;
  }

  of(type: string): Message[] {
    return this.messages.filter((message) => message.type === type);
  }
}
