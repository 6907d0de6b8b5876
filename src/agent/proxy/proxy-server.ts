/**
 * The proxy mode of a rootless agent: local listeners in the packet thread's reactor, whose clients are joined with
 * connections of the agent's own stack.
 *
 *   SOCKS 5 listener ──┐                                       ┌─ resolve: who may reach what
 *   HTTP CONNECT ──────┼─► ProxyConnection (one per client) ───┤
 *   forwards ──────────┘                                       └─ connect: the stack, and so the session and its link
 *
 * Synchronous and non-blocking throughout. The listeners ask for no password: whoever can reach them acts as this agent, so
 * they belong on loopback addresses; `isExposed` tells which do not.
 */
import { IpAddress, Prefix, type SocketAddress } from '../../base/address.js';
import { Counters } from '../../base/counters.js';
import { later, Millis } from '../../base/time.js';
import { READABLE, type Sockets, type TcpListener, type TcpStream, type Watch } from '../../os/io.js';
import type { Forward } from './forward.js';
import { HttpConnect } from './http-connect.js';
import { FixedTarget, type Negotiation } from './negotiation.js';
import {
  ProxyConnection,
  type ProxyContext,
  type ProxyOutcome,
  type ProxyState,
  READ_SIZE,
} from './proxy-connection.js';
import { Socks5 } from './socks5.js';

/** Clients at once; a browser alone can pass a hundred, and each takes two buffers and a descriptor. */
export const MAX_CLIENTS = 1024;
/** Connections accepted from one listener before others get their turn. */
const ACCEPTS_PER_TURN = 64;
/**
 * A listener that is readable but gives no connection is left alone for this long: out of descriptors it stays readable, and
 * the loop would do nothing else.
 */
const ACCEPT_PAUSE = Millis(100);

const LOOPBACK_4 = Prefix.parse('127.0.0.0/8')!;
const LOOPBACK_6 = IpAddress.parse('::1')!;

export const PROXY_COUNTERS = [
  'socks_clients',
  'http_clients',
  'forward_clients',
  /** Closed at once because `MAX_CLIENTS` were there. */
  'clients_over_limit',
  'accept_pauses',
  'dials',
  'bridged',
  // How visits ended (`ProxyOutcome`).
  'finished',
  'broken',
  'abandoned',
  'malformed',
  'silent',
  'not_allowed',
  'net_unreachable',
  'host_unreachable',
  'refused',
  'timeout',
  'failed',
  // Of ended visits.
  'bytes_in',
  'bytes_out',
] as const;
export type ProxyCounterName = (typeof PROXY_COUNTERS)[number];

const COUNTER_OF: Readonly<Record<ProxyOutcome, ProxyCounterName>> = {
  finished: 'finished',
  broken: 'broken',
  abandoned: 'abandoned',
  malformed: 'malformed',
  silent: 'silent',
  'not-allowed': 'not_allowed',
  'net-unreachable': 'net_unreachable',
  'host-unreachable': 'host_unreachable',
  refused: 'refused',
  timeout: 'timeout',
  failed: 'failed',
};

/** What the proxy needs of the program around it. */
export interface ProxyParts extends Pick<ProxyContext, 'reactor' | 'connect' | 'resolve' | 'onActivity'> {
  readonly sockets: Pick<Sockets, 'listen'>;
  /** A client's visit is over; its `outcome`, `asked`, `service`, `detail` and byte counts stand. For logs. */
  readonly onEnded?: (client: ProxyConnection) => void;
  /** Memory for the counters, shared with another thread; their own when absent. */
  readonly counterMemory?: ArrayBufferLike;
}

/** Where to listen; port 0 = any free one. */
export interface ProxyListeners {
  readonly socks?: SocketAddress;
  readonly http?: SocketAddress;
  readonly forwards?: readonly Forward[];
}

/** A listener as it stands. */
export interface OpenListener {
  readonly kind: 'socks' | 'http' | 'forward';
  readonly local: SocketAddress;
  /** Whether other machines may reach it. */
  readonly isExposed: boolean;
}

interface Listener extends OpenListener {
  readonly socket: TcpListener;
  readonly negotiate: () => Negotiation;
  watch: Watch | undefined;
  cancelPause: (() => void) | undefined;
}

export class ProxyServer {
  readonly counters: Counters<ProxyCounterName>;
  readonly #parts: ProxyParts;
  readonly #context: ProxyContext;
  readonly #listeners: Listener[] = [];
  readonly #clients = new Set<ProxyConnection>();

  /** Listens at once. @throws SallyportError of the sockets (environment), and then none of the listeners stays open. */
  constructor(parts: ProxyParts, listeners: ProxyListeners) {
    this.#parts = parts;
    this.counters = new Counters(PROXY_COUNTERS, parts.counterMemory);
    this.#context = {
      reactor: parts.reactor,
      connect: (now, to, handlers) => parts.connect(now, to, handlers),
      resolve: (host, port) => parts.resolve(host, port),
      onActivity: () => parts.onActivity(),
      scratch: new Uint8Array(READ_SIZE),
      onState: (client, from) => this.#onState(client, from),
    };
    try {
      if (listeners.socks !== undefined) this.#listen('socks', listeners.socks, () => new Socks5());
      if (listeners.http !== undefined) this.#listen('http', listeners.http, () => new HttpConnect());
      for (const { listen, target } of listeners.forwards ?? []) {
        this.#listen('forward', listen, () => new FixedTarget(target));
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** In the order: SOCKS, HTTP, forwards as given. */
  get listeners(): readonly OpenListener[] {
    return this.#listeners;
  }

  /** Clients now, refused ones that still read their answer included. */
  get clients(): ReadonlySet<ProxyConnection> {
    return this.#clients;
  }

  /** Stops listening; clients stay. */
  stopListening(): void {
    for (const listener of this.#listeners.splice(0)) {
      listener.cancelPause?.();
      listener.watch?.close();
      listener.socket.close();
    }
  }

  /** Stops listening and resets every client. */
  close(): void {
    this.stopListening();
    for (const client of [...this.#clients]) client.abort();
  }

  #listen(kind: Listener['kind'], address: SocketAddress, negotiate: () => Negotiation): void {
    const socket = this.#parts.sockets.listen(address);
    const { local } = socket;
    const isExposed = !(LOOPBACK_4.contains(local.ip) || local.ip.equals(LOOPBACK_6));
    const listener: Listener = { kind, local, isExposed, socket, negotiate, watch: undefined, cancelPause: undefined };
    this.#listeners.push(listener);
    listener.watch = this.#parts.reactor.watch(socket.fd, READABLE, () => this.#accept(listener));
  }

  #accept(listener: Listener): void {
    for (let accepted = 0; accepted < ACCEPTS_PER_TURN; accepted++) {
      const next = listener.socket.accept();
      if (next === undefined) {
        if (accepted === 0) this.#pause(listener);
        return;
      }
      if (this.#clients.size >= MAX_CLIENTS) {
        this.counters.add('clients_over_limit');
        next.stream.abort();
      } else this.#admit(listener, next.stream, next.peer);
    }
  }

  #admit(listener: Listener, stream: TcpStream, peer: SocketAddress): void {
    const client = new ProxyConnection(this.#context, listener.kind, peer, stream, listener.negotiate());
    this.counters.add(`${listener.kind}_clients`);
    this.#clients.add(client);
    client.start();
  }

  #pause(listener: Listener): void {
    const { reactor } = this.#parts;
    this.counters.add('accept_pauses');
    listener.watch?.interest(0);
    listener.cancelPause = reactor.at(later(reactor.now(), ACCEPT_PAUSE), () => listener.watch?.interest(READABLE));
  }

  #onState(client: ProxyConnection, _from: ProxyState): void {
    if (client.state === 'dialling') this.counters.add('dials');
    else if (client.state === 'bridged') this.counters.add('bridged');
    else if (client.state === 'closed') this.#ended(client);
  }

  #ended(client: ProxyConnection): void {
    this.#clients.delete(client);
    this.counters.add(COUNTER_OF[client.outcome!]);
    this.counters.add('bytes_in', client.bytesIn);
    this.counters.add('bytes_out', client.bytesOut);
    this.#parts.onEnded?.(client);
  }
}
