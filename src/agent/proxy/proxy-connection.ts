/**
 * One client of the proxy, from its first byte to its last.
 *
 *   negotiating ◄─────────── kept ──────────────────────────────────────────────── exchanging (an HTTP request and its answer)
 *       │                                                                              ▲ established
 *   negotiating ─asked─► dialling ─established─► joining ─answer and early bytes gone─► bridged ─► closed
 *       │                   │                      └──────────── error on either side ────────────►▲
 *       └──────────────► refusing (the answer goes out, FIN, the rest is read over) ───────────────►│
 *       └─ UDP association asked ─► associated ─ either end of this connection ─► closed
 *       └─ no answer to give (not our protocol, a forward), client gone, closed by the owner ──────►┘
 *
 * The client hears "succeeded" only once the service's end is established. While dialling the client is not read: what it
 * sends waits in the kernel, and what came together with its request is kept and sent first.
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { describeError, SallyportError } from '../../base/error.js';
import { type Duration, type Instant, later, Seconds } from '../../base/time.js';
import { TcpBridge } from '../../engine/tcp-bridge.js';
import type { TcpConnection } from '../../netstack/tcp/connection.js';
import type { CloseReason, TcpHandlers } from '../../netstack/types.js';
import { BROKEN, EAGAIN, READABLE, type Reactor, type TcpStream, type Watch, WRITABLE } from '../../os/io.js';
import { Farewell } from './farewell.js';
import { type ExchangeEnd, HttpExchange } from './http-exchange.js';
import { type Failure, type Negotiation, NO_BYTES, type PlainRequest, type Target } from './negotiation.js';
import type { Resolution } from './resolve.js';

/** From accept to a complete request; a local program needs milliseconds. */
export const NEGOTIATION_TIMEOUT = Seconds(10);
/** From request to established: a session may have to be set up first, and a SYN to be repeated. */
export const DIAL_TIMEOUT = Seconds(30);
/** How long a client may be silent between two requests; browsers keep connections about as long. */
export const KEPT_TIMEOUT = Seconds(60);
/** Most bytes one client's negotiation reads in a turn. */
export const READ_SIZE = 16 * 1024;

export type ProxyState =
  | 'negotiating'
  | 'dialling'
  | 'joining'
  | 'exchanging'
  | 'bridged'
  | 'associated'
  | 'refusing'
  | 'closed';

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
  /** Opens a UDP association beside `local` for datagrams from `client` (port 0: of any port). Undefined: none can be opened. */
  associate(local: SocketAddress, client: SocketAddress): Association | undefined;
  /** Something was queued in the stack outside its own calls: it is to be flushed this turn. */
  onActivity(): void;
  /** `READ_SIZE` bytes for reading; no client keeps anything in it between two calls. */
  readonly scratch: Uint8Array;
  /** Every change of state. */
  onState(connection: ProxyConnection, from: ProxyState): void;
}

export interface Association {
  /** Where the client is to send its datagrams. */
  readonly local: SocketAddress;
  close(): void;
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
  readonly #negotiate: () => Negotiation;
  #negotiation: Negotiation;
  #exchange: HttpExchange | undefined;
  /** Bytes of exchanges that are over. */
  #exchangedIn = 0;
  #exchangedOut = 0;
  #watch: Watch | undefined;
  #cancelTimer: (() => void) | undefined;
  #connection: TcpConnection | undefined;
  #bridge: TcpBridge | undefined;
  #farewell: Farewell | undefined;
  #association: Association | undefined;
  /** Bytes due to the client. */
  #output: Uint8Array = NO_BYTES;
  /** Bytes of the client that belong to the service. */
  #early: Uint8Array = NO_BYTES;
  /** How many of them the stack has taken. */
  #earlySent = 0;
  #serviceEnded = false;
  /** A request has been answered. */
  #served = false;

  constructor(
    context: ProxyContext,
    readonly kind: 'socks' | 'http' | 'forward',
    /** The client's address. */
    readonly peer: SocketAddress,
    stream: TcpStream,
    /** Makes what reads a request: the first, and each one after it on a connection that is kept. */
    negotiate: () => Negotiation,
  ) {
    this.#context = context;
    this.#stream = stream;
    this.#negotiate = negotiate;
    this.#negotiation = negotiate();
  }

  /** Bytes from the service to the client. */
  get bytesIn(): number {
    return this.#exchangedIn + (this.#exchange?.bytesIn ?? 0) + (this.#bridge?.bytesIn ?? 0);
  }

  /** Bytes from the client to the service. */
  get bytesOut(): number {
    const exchanged = this.#exchangedOut + (this.#exchange?.bytesOut ?? 0);
    return exchanged + this.#earlySent + (this.#bridge?.bytesOut ?? 0);
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
    else if (this.#exchange !== undefined) this.#exchange.abort();
    else if (this.#farewell !== undefined) this.#farewell.abort();
    else this.#end('abandoned');
  }

  // ---- the service's side, until the bridge takes over

  onConnected(): void {
    if (this.state !== 'dialling') return;
    if (this.#negotiation.plain !== undefined) {
      this.#exchangeWith(this.#negotiation.plain);
      return;
    }
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
      case 'associated':
        this.#readAssociated(ready);
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
      if (n === 0 && this.#served) this.#leave();
      else this.#end('abandoned');
      return;
    }
    this.#take(n);
  }

  /** The first `length` bytes of the scratch memory belong to the negotiation. */
  #take(length: number): void {
    const { scratch } = this.#context;
    const taken = this.#negotiation.feed(scratch, 0, length);
    if (taken < length) this.#early = scratch.slice(taken, length);
    this.#advance();
  }

  /** Goes on as far as the negotiation has come. */
  #advance(): void {
    this.#output = concat(this.#output, this.#negotiation.takeReply());
    const { state, target, association } = this.#negotiation;
    if (state === 'failed') {
      this.#answerRefusal('malformed');
      return;
    }
    if (!this.#writeOutput()) this.#end('abandoned');
    else if (state === 'asked' && association !== undefined) this.#associate(association);
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

  /** Only the client's own address may use the association; a name or another address says nothing about its port. */
  #associate({ host, port }: Target): void {
    const said = IpAddress.parse(host);
    const isOwn = said !== undefined && (said.equals(this.peer.ip) || /^(?:0\.0\.0\.0|::)$/.test(said.toString()));
    const client = new SocketAddress(this.peer.ip, isOwn ? (port ?? 0) : 0);
    this.asked = 'udp';
    this.#association = this.#context.associate(this.#stream.local, client);
    if (this.#association === undefined) {
      this.#refuse('failed', 'no UDP association can be opened now');
      return;
    }
    this.#output = concat(this.#output, this.#negotiation.accept(this.#association.local));
    this.#enter('associated');
    this.#readAssociated(WRITABLE);
  }

  /** The association ends with this connection, on which nothing more is said. */
  #readAssociated(ready: number): void {
    if (!this.#writeOutput()) this.#end('abandoned');
    else if ((ready & (READABLE | BROKEN)) !== 0) {
      const { scratch } = this.#context;
      const n = this.#stream.read(scratch, 0, READ_SIZE);
      if (n === 0) this.#leave();
      else if (n < 0 && n !== -EAGAIN) this.#end('finished');
    } else this.#watch!.interest(this.#output.length > 0 ? READABLE | WRITABLE : READABLE);
  }

  /** The client has ended its stream, and nothing is due to it. */
  #leave(): void {
    this.outcome = 'finished';
    this.#releaseWatch();
    this.#stream.close();
    this.#enter('closed');
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

  #exchangeWith(request: PlainRequest): void {
    const connection = this.#connection!;
    const { reactor, scratch } = this.#context;
    this.#connection = undefined;
    this.#releaseWatch();
    const early = this.#early;
    this.#early = NO_BYTES;
    this.#enter('exchanging');
    this.#exchange = new HttpExchange({
      reactor,
      connection,
      stream: this.#stream,
      request,
      early,
      scratch,
      onActivity: () => this.#context.onActivity(),
      onEnd: (end, rest) => this.#exchanged(end, rest),
    });
    this.#exchange.start();
  }

  #exchanged(end: ExchangeEnd, rest: Uint8Array): void {
    const exchange = this.#exchange!;
    this.#exchange = undefined;
    this.#exchangedIn += exchange.bytesIn;
    this.#exchangedOut += exchange.bytesOut;
    if (end.kind === 'kept') this.#nextRequest(rest);
    else if (end.kind === 'ending') this.#answerRefusal('finished', true);
    else {
      this.detail = end.detail;
      if (end.told) this.#end('broken');
      else {
        this.#output = this.#negotiation.refuse('failed', end.detail);
        this.#answerRefusal('failed');
      }
    }
  }

  /** The connection is kept: what came behind the last request is the beginning of the next. */
  #nextRequest(rest: Uint8Array): void {
    const { reactor, scratch } = this.#context;
    this.service = '';
    this.#negotiation = this.#negotiate();
    this.#served = true;
    this.#enter('negotiating');
    this.#watch = reactor.watch(this.#stream.fd, READABLE, (ready) => this.#onReady(ready));
    this.#setTimer(KEPT_TIMEOUT, () => this.#end('finished'));
    if (rest.length === 0) return;
    scratch.set(rest);
    this.#take(rest.length);
  }

  #refuse(failure: Failure, detail: string): void {
    if (this.state !== 'negotiating' && this.state !== 'dialling') return;
    this.detail = detail;
    this.#output = concat(this.#output, this.#negotiation.refuse(failure, detail));
    this.#answerRefusal(failure);
  }

  /** A protocol without an answer can only reset, which tells the client more than an empty stream would. */
  #answerRefusal(outcome: ProxyOutcome, isAnswered = false): void {
    if (this.#output.length === 0 && !isAnswered) {
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
    if (to === 'closed') this.#association?.close();
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
