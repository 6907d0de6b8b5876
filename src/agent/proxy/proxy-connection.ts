/**
 * One client of the proxy, from its first byte to its last.
 *
 *   negotiating ─asked─► dialling ─established─► joining ─answer and early bytes gone─► bridged ─► closed
 *       │                   │                      └──────────── error on either side ────────────►▲
 *       └──────────────► refusing (the answer goes out, FIN, the rest is read over) ───────────────►│
 *       └─ no answer to give (not our protocol, a forward), client gone, closed by the owner ──────►┘
 *
 * The client hears "succeeded" only once the service's end is established. While dialling the client is not read: what it
 * sends waits in the kernel, and what came together with its request is kept and sent first.
 */
import { SocketAddress } from '../../base/address.js';
import { describeError, SallyportError } from '../../base/error.js';
import { type Duration, type Instant, later, Seconds } from '../../base/time.js';
import { TcpBridge } from '../../engine/tcp-bridge.js';
import type { TcpConnection } from '../../netstack/tcp/connection.js';
import type { CloseReason, TcpHandlers } from '../../netstack/types.js';
import { BROKEN, EAGAIN, READABLE, type Reactor, type TcpStream, type Watch, WRITABLE } from '../../os/io.js';
import { Farewell } from './farewell.js';
import { type Failure, type Negotiation, NO_BYTES } from './negotiation.js';
import type { Resolution } from './resolve.js';

/** From accept to a complete request; a local program needs milliseconds. */
export const NEGOTIATION_TIMEOUT = Seconds(10);
/** From request to established: a session may have to be set up first, and a SYN to be repeated. */
export const DIAL_TIMEOUT = Seconds(30);
/** Most bytes one client's negotiation reads in a turn. */
export const READ_SIZE = 16 * 1024;

export type ProxyState = 'negotiating' | 'dialling' | 'joining' | 'bridged' | 'refusing' | 'closed';

/** How a client's visit ended. */
export type ProxyOutcome =
  /** Bridged, and both sides ended their streams. */
  | 'finished'
  /** Bridged, and one side reset, timed out, or the owner closed. */
  | 'broken'
  /** The client went away before it was served. */
  | 'abandoned'
  /** Not a request of this listener's protocol. */
  | 'malformed'
  /** No complete request within `NEGOTIATION_TIMEOUT`. */
  | 'silent'
  | Failure;

/** What a client needs from the proxy around it. */
export interface ProxyContext {
  readonly reactor: Reactor;
  /**
   * Opens a connection of the stack, whose handlers are set at once. Undefined, or a SallyportError, when none can be opened
   * now. Must not call the handlers before it returns.
   */
  connect(now: Instant, to: SocketAddress, handlers: TcpHandlers): TcpConnection | undefined;
  resolve(host: string, port: number | undefined): Resolution;
  /** Something was queued in the stack outside its own calls: it is to be flushed this turn. */
  onActivity(): void;
  /** `READ_SIZE` bytes for reading; no client keeps anything in it between two calls. */
  readonly scratch: Uint8Array;
  /** Every change of state. */
  onState(connection: ProxyConnection, from: ProxyState): void;
}

export class ProxyConnection implements TcpHandlers {
  state: ProxyState = 'negotiating';
  /** Set when `state` is `closed`, or is bound to be (`refusing`). */
  outcome: ProxyOutcome | undefined;
  /** What the client asked for, `host:port`; empty until then. For logs. */
  asked = '';
  /** Id of the service it was given; empty until then. */
  service = '';
  /** Why it was refused, one line; empty otherwise. */
  detail = '';
  readonly #context: ProxyContext;
  readonly #stream: TcpStream;
  readonly #negotiation: Negotiation;
  #watch: Watch | undefined;
  #cancelTimer: (() => void) | undefined;
  #connection: TcpConnection | undefined;
  #bridge: TcpBridge | undefined;
  #farewell: Farewell | undefined;
  /** Bytes due to the client. */
  #output: Uint8Array = NO_BYTES;
  /** Bytes of the client that belong to the service. */
  #early: Uint8Array = NO_BYTES;
  /** How many of them the stack has taken. */
  #earlySent = 0;
  #serviceEnded = false;

  constructor(
    context: ProxyContext,
    readonly kind: 'socks' | 'http' | 'forward',
    /** The client's address. */
    readonly peer: SocketAddress,
    stream: TcpStream,
    negotiation: Negotiation,
  ) {
    this.#context = context;
    this.#stream = stream;
    this.#negotiation = negotiation;
  }

  /** Bytes from the service to the client. */
  get bytesIn(): number {
    return this.#bridge?.bytesIn ?? 0;
  }

  /** Bytes from the client to the service. */
  get bytesOut(): number {
    return this.#earlySent + (this.#bridge?.bytesOut ?? 0);
  }

  /** Begins; called once. @throws SallyportError when the descriptor cannot be watched. */
  start(): void {
    this.#watch = this.#context.reactor.watch(this.#stream.fd, READABLE, (ready) => this.#onReady(ready));
    this.#setTimer(NEGOTIATION_TIMEOUT, () => this.#end('silent'));
    if (this.#negotiation.state !== 'reading') this.#advance();
  }

  /** Ends both sides at once: RST to each. */
  abort(): void {
    if (this.state === 'closed') return;
    if (this.#bridge !== undefined) this.#bridge.abort();
    else if (this.#farewell !== undefined) this.#farewell.abort();
    else this.#end('abandoned');
  }

  // ---- the service's side, until the bridge takes over

  onConnected(): void {
    if (this.state !== 'dialling') return;
    this.#enter('joining');
    this.#output = this.#negotiation.accept(SocketAddress.read(this.#connection!.words, 0));
    this.#join();
  }

  /** What the service says before the bridge stands waits in the receive buffer. */
  onData(): number {
    return 0;
  }

  onPeerClosed(): void {
    this.#serviceEnded = true;
  }

  onWritable(): void {
    if (this.state === 'joining') this.#join();
  }

  onClosed(reason: CloseReason): void {
    this.#connection = undefined;
    if (this.state === 'dialling') this.#refuse(failureOf(reason), `the service's end: ${reason}`);
    else if (this.state === 'joining') this.#end('broken');
  }

  // ---- the bridge's owner

  onActivity(): void {
    this.#context.onActivity();
  }

  onBridgeClosed(_bridge: TcpBridge, reason: CloseReason): void {
    this.#connection = undefined;
    this.outcome = reason === 'finished' ? 'finished' : 'broken';
    this.#enter('closed');
  }

  // ---- the client's side

  #onReady(ready: number): void {
    switch (this.state) {
      case 'negotiating':
        if ((ready & (READABLE | BROKEN)) !== 0) this.#read();
        else this.#advance();
        break;
      case 'dialling':
        // Nothing is asked for: only an error or a full close is told.
        if ((ready & BROKEN) !== 0) this.#end('abandoned');
        break;
      case 'joining':
        if ((ready & BROKEN) !== 0) this.#end('broken');
        else this.#join();
        break;
      default:
    }
  }

  #read(): void {
    const { scratch } = this.#context;
    const n = this.#stream.read(scratch, 0, READ_SIZE);
    if (n === -EAGAIN) return;
    if (n <= 0) {
      this.#end('abandoned');
      return;
    }
    const taken = this.#negotiation.feed(scratch, 0, n);
    if (taken < n) this.#early = scratch.slice(taken, n);
    this.#advance();
  }

  /** Goes on as far as the negotiation has come. */
  #advance(): void {
    this.#output = concat(this.#output, this.#negotiation.takeReply());
    const { state, target } = this.#negotiation;
    if (state === 'failed') {
      this.#answerRefusal('malformed');
      return;
    }
    if (!this.#writeOutput()) this.#end('abandoned');
    else if (state === 'asked' && target !== undefined) this.#dial(target.host, target.port);
    else this.#watch!.interest(this.#output.length > 0 ? READABLE | WRITABLE : READABLE);
  }

  #dial(host: string, port: number | undefined): void {
    this.asked = port === undefined ? host : `${host}:${port}`;
    const resolution = this.#context.resolve(host, port);
    if (!resolution.ok) {
      this.#refuse(resolution.failure, resolution.detail);
      return;
    }
    this.service = resolution.service.id;
    this.#enter('dialling');
    this.#watch!.interest(0);
    this.#setTimer(DIAL_TIMEOUT, () => this.#dialTimedOut());
    try {
      this.#connection = this.#context.connect(this.#context.reactor.now(), resolution.address, this);
    } catch (error) {
      this.#refuse('net-unreachable', describeError(error));
      if (!(error instanceof SallyportError)) throw error;
      return;
    }
    if (this.#connection === undefined) this.#refuse('net-unreachable', 'no connection can be opened now');
    else this.#context.onActivity();
  }

  #dialTimedOut(): void {
    this.#refuse('timeout', `${this.service} did not answer`);
    this.#dropConnection();
  }

  /** Answer and early bytes go first; then the bridge takes both ends. */
  #join(): void {
    const connection = this.#connection!;
    if (!this.#writeOutput()) {
      this.#end('broken');
      return;
    }
    if (this.#early.length > 0) {
      const sent = connection.write(this.#early, 0, this.#early.length);
      this.#earlySent += sent;
      this.#early = sent === this.#early.length ? NO_BYTES : this.#early.slice(sent);
      this.#context.onActivity();
    }
    if (this.#output.length > 0 || this.#early.length > 0) {
      this.#watch!.interest(this.#output.length > 0 ? WRITABLE : 0);
      return;
    }
    this.#releaseWatch();
    this.#bridge = new TcpBridge(this.#context.reactor, connection, this.#stream, this);
    this.#enter('bridged');
    this.#bridge.start();
    if (this.#serviceEnded && this.state === 'bridged') this.#bridge.onPeerClosed();
    this.#context.onActivity();
  }

  #refuse(failure: Failure, detail: string): void {
    if (this.state !== 'negotiating' && this.state !== 'dialling') return;
    this.detail = detail;
    this.#output = concat(this.#output, this.#negotiation.refuse(failure, detail));
    this.#answerRefusal(failure);
  }

  /** A protocol without an answer can only reset, which tells the client more than an empty stream would. */
  #answerRefusal(outcome: ProxyOutcome): void {
    if (this.#output.length === 0) {
      this.#end(outcome);
      return;
    }
    this.outcome = outcome;
    this.#releaseWatch();
    const { reactor, scratch } = this.#context;
    this.#farewell = new Farewell(reactor, this.#stream, this.#output, scratch, () => this.#enter('closed'));
    this.#enter('refusing');
    this.#farewell.start();
  }

  /** Writes what the socket takes. False: the client is gone. */
  #writeOutput(): boolean {
    if (this.#output.length === 0) return true;
    const n = this.#stream.write(this.#output, 0, this.#output.length);
    if (n < 0) return n === -EAGAIN;
    this.#output = n === this.#output.length ? NO_BYTES : this.#output.slice(n);
    return true;
  }

  // ---- ends

  /** Resets the client and, if there is one, the connection. */
  #end(outcome: ProxyOutcome): void {
    this.outcome = outcome;
    this.#releaseWatch();
    this.#stream.abort();
    this.#enter('closed');
    this.#dropConnection();
  }

  #dropConnection(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    if (connection === undefined) return;
    connection.abort();
    this.#context.onActivity();
  }

  /** The only way the state changes. What belonged to the old state alone ends here. */
  #enter(to: ProxyState): void {
    const from = this.state;
    this.state = to;
    if (to !== 'dialling') this.#clearTimer();
    this.#context.onState(this, from);
  }

  #releaseWatch(): void {
    this.#watch?.close();
    this.#watch = undefined;
  }

  #setTimer(span: Duration, handler: () => void): void {
    this.#clearTimer();
    const { reactor } = this.#context;
    this.#cancelTimer = reactor.at(later(reactor.now(), span), handler);
  }

  #clearTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }
}

function failureOf(reason: CloseReason): Failure {
  switch (reason) {
    case 'refused':
    case 'reset':
      return 'refused';
    case 'unreachable':
      return 'host-unreachable';
    case 'timeout':
      return 'timeout';
    default:
      return 'failed';
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.length === 0) return b;
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
