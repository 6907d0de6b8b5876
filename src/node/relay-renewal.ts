/**
 * A relay connection that is made beside the present one before its certificates end, and takes its place: the node's channels go on
 * on it, and nothing is lost.
 *
 *   none ──due──► connecting ──hello {resume}──► greeting ──relay's hello {resume}──► the client's connection; the former one
 *    ▲               │                             │                                  is closed when what was under way has come
 *    └─ 5/6 of what is left ◄── closed, refused, no answer ◄┘
 *
 * A relay that does not know `resume` is not asked: it would end the channels.
 */
import { type Duration, earliest, type Instant, later, Seconds, type WallTime } from '../base/time.js';
import type { ConnectionHandler, QuicConnection } from '../quic/connection.js';
import type { ControlStream } from '../quic/control-stream.js';
import { decodeMessage, FromRelay, RESUME } from '../tunnel/messages.js';
import { renewalOf } from './renewal.js';

/** An attempt that has not become ready by then is given up. */
const ATTEMPT: Duration = Seconds(8);
/** Answers that the relay has sent on the former connection have come by then, lost packets and all. */
const IN_FLIGHT: Duration = Seconds(2);

/** What it needs of the client whose connection it renews, which is the handler of both connections. */
export interface RenewalClient extends ConnectionHandler {
  readonly connection: QuicConnection | undefined;
  /** A connection to where the present one goes. @throws SallyportError QUIC_CONNECT */
  connectBeside(now: Instant, handler: ConnectionHandler): QuicConnection;
  sendHello(connection: QuicConnection, resume: boolean): ControlStream;
  /** The relay has moved everything of this node to this connection. */
  adopt(connection: QuicConnection, control: ControlStream): void;
}

export class RelayRenewal {
  readonly #client: RenewalClient;
  readonly #wall: () => WallTime;
  #due: Instant | undefined;
  #attempt: { readonly connection: QuicConnection; readonly endsAt: Instant } | undefined;
  #former: { readonly connection: QuicConnection; readonly endsAt: Instant } | undefined;

  constructor(client: RenewalClient, wall: () => WallTime) {
    this.#client = client;
    this.#wall = wall;
  }

  /** The client's connection is ready. @param capabilities of the relay. */
  ready(now: Instant, capabilities: readonly string[]): void {
    this.#due = undefined;
    if (capabilities.includes(RESUME)) this.#schedule(now);
  }

  /** The client's connection has ended. */
  lost(now: Instant): void {
    this.#due = undefined;
    this.#attempt?.connection.close(now, 0, 'the connection before is lost');
    this.#attempt = undefined;
    this.#endFormer(now);
  }

  /** Runs what is due. */
  turn(now: Instant): void {
    if (this.#former !== undefined && now >= this.#former.endsAt) this.#endFormer(now);
    if (this.#attempt !== undefined && now >= this.#attempt.endsAt) {
      this.#attempt.connection.close(now, 0, 'no answer');
      this.#failed(now);
    }
    if (this.#due !== undefined && now >= this.#due) this.#begin(now);
  }

  nextTimeout(): Instant | undefined {
    return earliest(this.#due, earliest(this.#attempt?.endsAt, this.#former?.endsAt));
  }

  #schedule(now: Instant): void {
    this.#due = renewalOf(now, this.#wall(), this.#client.connection!.certificateExpiry);
  }

  #failed(now: Instant): void {
    this.#attempt = undefined;
    this.#schedule(now);
  }

  #begin(now: Instant): void {
    this.#due = undefined;
    try {
      const connection = this.#client.connectBeside(now, this.#handler());
      this.#attempt = { connection, endsAt: later(now, ATTEMPT) };
    } catch {
      // The next attempt, or the end of the present connection, says more.
      this.#schedule(now);
    }
  }

  #handler(): ConnectionHandler {
    const client = this.#client;
    let control: ControlStream | undefined;
    const isAttempt = (connection: QuicConnection): boolean => this.#attempt?.connection === connection;
    return {
      onConnected: (_now, connection) => {
        if (isAttempt(connection)) control = client.sendHello(connection, true);
      },
      onControlMessage: (now, bytes, connection) => {
        if (isAttempt(connection)) this.#greeted(now, connection, control!, bytes);
        else client.onControlMessage(now, bytes, connection);
      },
      onPush: (now, bytes, connection) => client.onPush?.(now, bytes, connection),
      onDatagrams: (now, batch, connection) => client.onDatagrams(now, batch, connection),
      onClosed: (now, reason, connection) => {
        if (isAttempt(connection)) this.#failed(now);
        else client.onClosed(now, reason, connection);
      },
    };
  }

  #greeted(now: Instant, connection: QuicConnection, control: ControlStream, bytes: Uint8Array): void {
    const decoded = decodeMessage(FromRelay, bytes);
    if (!decoded.ok || decoded.message.type !== 'hello') return;
    if (decoded.message.resume !== true) {
      // It had forgotten this node: what it says on the connection before, or does not, leads to a new one.
      connection.close(now, 0, 'not resumed');
      this.#failed(now);
      return;
    }
    this.#former = { connection: this.#client.connection!, endsAt: later(now, IN_FLIGHT) };
    this.#attempt = undefined;
    this.#client.adopt(connection, control);
    this.#schedule(now);
  }

  #endFormer(now: Instant): void {
    this.#former?.connection.close(now, 0, 'renewed');
    this.#former = undefined;
  }
}
