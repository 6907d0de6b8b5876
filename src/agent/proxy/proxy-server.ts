/**
 * The proxy mode of a rootless agent: local listeners in the packet thread's reactor, whose clients are joined with
 * connections and UDP ports of the agent's own stack.
 *
 *   SOCKS 5 listener ──┐                                       ┌─ resolve: who may reach what
 *   HTTP listener ─────┼─► ProxyConnection (one per client) ───┤
 *   TCP forwards ──────┘        └─ UDP associations ──┐        └─ connect: the stack, and so the session and its link
 *   UDP forwards ─────────────────────────────────────┴─ ports of the stack
 *
 * Synchronous and non-blocking throughout. Whoever may use a listener acts as this agent: programs of this machine, and those that
 * `ProxyAccess` admits. The driver calls `flush` at the end of every turn.
 */
import type { SocketAddress } from '../../base/address.js';
import { Counters } from '../../base/counters.js';
import type { Sockets, TcpStream } from '../../os/io.js';
import type { UdpPorts } from '../udp-ports.js';
import { ProxyAccess } from './access.js';
import { ClientListener } from './client-listener.js';
import { HttpProxy } from './http-proxy.js';
import { FixedTarget, type Negotiation } from './negotiation.js';
import { ProxyConnection, type ProxyContext, type ProxyState, READ_SIZE } from './proxy-connection.js';
import { COUNTER_OF, PROXY_COUNTERS, type ProxyCounterName } from './proxy-counters.js';
import {
  ListenerSet,
  type ListenerSocket,
  type OpenListener,
  type ProxyListeners,
  type Purpose,
} from './proxy-listeners.js';
import type { ProxyProtocol, Resolution } from './resolve.js';
import { Socks5 } from './socks5.js';
import { UdpAssociation } from './udp-association.js';
import { UDP_COUNTERS, type UdpContext, type UdpCounterName } from './udp-context.js';
import { UdpForward } from './udp-forward.js';
import { UdpOutbox } from './udp-outbox.js';

/** Clients at once; a browser alone can pass a hundred, and each takes two buffers and a descriptor. */
export const MAX_CLIENTS = 1024;
/** UDP associations at once: each takes a socket and a port of the stack. */
export const MAX_ASSOCIATIONS = 256;

/** What the proxy needs of the program around it. */
export interface ProxyParts extends Pick<ProxyContext, 'reactor' | 'connect' | 'onActivity'> {
  readonly sockets: Pick<Sockets, 'listen' | 'udp'>;
  readonly udp: UdpPorts;
  resolve(host: string, port: number | undefined, protocol: ProxyProtocol): Resolution;
  /** A client's visit is over; its `outcome`, `asked`, `service`, `detail` and byte counts stand. For logs. */
  readonly onEnded?: (client: ProxyConnection) => void;
  /** Memory for the counters, shared with another thread; their own when absent. */
  readonly counterMemory?: ArrayBufferLike;
}

export class ProxyServer {
  readonly counters: Counters<ProxyCounterName>;
  readonly udpCounters = new Counters<UdpCounterName>(UDP_COUNTERS);
  readonly #parts: ProxyParts;
  readonly #context: ProxyContext;
  readonly #udp: UdpContext;
  readonly #outbox = new UdpOutbox();
  readonly #listeners: ListenerSet;
  readonly #clients = new Set<ProxyConnection>();
  readonly #associations = new Set<UdpAssociation>();
  readonly #forwards = new Set<UdpForward>();
  #access: ProxyAccess;

  /**
   * Listens at once.
   * @throws SallyportError PROXY_EXPOSED (caller), those of the sockets (environment); then none of the listeners stays open.
   */
  constructor(parts: ProxyParts, listeners: ProxyListeners, access = new ProxyAccess()) {
    this.#parts = parts;
    this.#access = access;
    this.counters = new Counters(PROXY_COUNTERS, parts.counterMemory);
    this.#context = {
      reactor: parts.reactor,
      connect: (now, to, handlers) => parts.connect(now, to, handlers),
      resolve: (host, port) => parts.resolve(host, port, 'tcp'),
      associate: (local, client) => this.#associate(local, client),
      onActivity: () => parts.onActivity(),
      scratch: new Uint8Array(READ_SIZE),
      onState: (client, from) => this.#onState(client, from),
    };
    this.#udp = {
      reactor: parts.reactor,
      sockets: parts.sockets,
      ports: parts.udp,
      outbox: this.#outbox,
      counters: this.udpCounters,
      resolve: (host, port) => parts.resolve(host, port, 'udp'),
      onActivity: () => parts.onActivity(),
    };
    this.#listeners = new ListenerSet((purpose, listen) => this.#open(purpose, listen));
    this.#listeners.replace(listeners, access);
  }

  /** In the order: SOCKS, HTTP, forwards as given. */
  get listeners(): readonly OpenListener[] {
    return this.#listeners.listeners;
  }

  /** Clients now, refused ones that still read their answer included. */
  get clients(): ReadonlySet<ProxyConnection> {
    return this.#clients;
  }

  /**
   * Other listeners and rules from now on; clients stay, unless their address may not be here any more.
   * @throws as the constructor; then everything stays as it was.
   */
  reconfigure(listeners: ProxyListeners, access: ProxyAccess): void {
    this.#listeners.replace(listeners, access);
    this.#access = access;
    for (const client of [...this.#clients]) if (!access.admits(client.peer.ip)) client.abort();
  }

  /** The policy, or what connectors remember, has changed: ends the flows to services that `isOver` names. */
  endFlows(isOver: (service: string) => boolean): void {
    for (const client of [...this.#clients]) if (client.service !== '' && isOver(client.service)) client.abort();
    for (const association of this.#associations) association.reevaluate();
    for (const forward of this.#forwards) forward.reevaluate();
  }

  /** Sends what waits for UDP clients. */
  flush(): void {
    this.#outbox.flush();
  }

  /** Stops listening; clients stay. */
  stopListening(): void {
    this.#listeners.close();
  }

  /** Stops listening and resets every client. */
  close(): void {
    this.stopListening();
    for (const client of [...this.#clients]) client.abort();
  }

  #open(purpose: Purpose, listen: SocketAddress): ListenerSocket {
    if (purpose.kind === 'udp-forward') return this.#openForward(purpose, listen);
    let present = purpose;
    const socket = new ClientListener(this.#parts.reactor, this.#parts.sockets, listen, {
      onClient: (stream, peer) => this.#admit(present, stream, peer),
      onPause: () => this.counters.add('accept_pauses'),
    });
    return {
      local: socket.local,
      close: () => socket.close(),
      retarget: (next) => {
        present = next;
      },
    };
  }

  #openForward(purpose: Purpose, listen: SocketAddress): ListenerSocket {
    const forward = new UdpForward(this.#udp, listen, purpose.target!, () => this.#access);
    this.#forwards.add(forward);
    return {
      local: forward.local,
      close: () => {
        this.#forwards.delete(forward);
        forward.close();
      },
      retarget: (next) => forward.retarget(next.target!),
    };
  }

  #admit(purpose: Purpose, stream: TcpStream, peer: SocketAddress): void {
    if (!this.#access.admits(peer.ip)) {
      this.counters.add('clients_not_allowed');
      stream.abort();
      return;
    }
    if (this.#clients.size >= MAX_CLIENTS) {
      this.counters.add('clients_over_limit');
      stream.abort();
      return;
    }
    const kind = purpose.kind === 'udp-forward' ? 'forward' : purpose.kind;
    const client = new ProxyConnection(this.#context, kind, peer, stream, () => this.#negotiation(purpose));
    this.counters.add(`${kind}_clients`);
    this.#clients.add(client);
    client.start();
  }

  #negotiation({ kind, target }: Purpose): Negotiation {
    if (kind === 'socks') return new Socks5(this.#access);
    return kind === 'http' ? new HttpProxy(this.#access) : new FixedTarget(target!);
  }

  #associate(
    local: SocketAddress,
    client: SocketAddress,
  ): { readonly local: SocketAddress; close(): void } | undefined {
    if (this.#associations.size >= MAX_ASSOCIATIONS) {
      this.udpCounters.add('udp_associations_refused');
      return undefined;
    }
    let association: UdpAssociation;
    try {
      association = new UdpAssociation(this.#udp, local, client);
    } catch {
      this.udpCounters.add('udp_associations_refused');
      return undefined;
    }
    this.udpCounters.add('udp_associations');
    this.#associations.add(association);
    return {
      local: association.local,
      close: () => {
        this.#associations.delete(association);
        association.close();
      },
    };
  }

  #onState(client: ProxyConnection, _from: ProxyState): void {
    if (client.state === 'dialling') this.counters.add('dials');
    else if (client.state === 'bridged') this.counters.add('bridged');
    else if (client.state === 'exchanging') this.counters.add('http_requests');
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
