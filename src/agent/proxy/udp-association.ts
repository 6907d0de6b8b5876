/**
 * One UDP ASSOCIATE: a socket for one client, whose datagrams name their targets, and one port of the agent's stack.
 *
 *   client ──header · data──► socket ──resolve (kept per target)──► stack port ──► services
 *   client ◄─header · data─── socket ◄── only from targets it has sent to ◄──────────┘
 *
 * It lives as long as the TCP connection that asked for it, and serves that connection's address alone; the port is the one the
 * client named, else that of its first datagram. RFC 1928 §6–7; fragments are dropped.
 */
import { ADDRESS_WORDS, SocketAddress, sameWords } from '../../base/address.js';
import { Drop } from '../../base/drop.js';
import { SallyportError } from '../../base/error.js';
import { elapsed, type Instant, later, Seconds } from '../../base/time.js';
import type { UdpSocket } from '../../os/io.js';
import { addressLength, encodeAddress, readAddress, UDP_HEAD } from '../../wire/socks.js';
import { packed, type UdpPortOwner } from '../udp-ports.js';
import { ClientSocket, UDP_IDLE, UDP_UNANSWERED, type UdpContext } from './udp-context.js';

/** Targets one association keeps: each is looked for by its bytes, one after another. */
export const MAX_TARGETS = 64;
const SWEEP = Seconds(30);

interface AssociationTarget {
  /** As the client writes it: type, address, port. */
  readonly written: Uint8Array;
  /** Undefined: it may not be reached. */
  remote: Uint32Array | undefined;
  /** In front of its answers. */
  readonly header: Uint8Array;
  readonly host: string;
  readonly port: number;
  lastUsed: Instant;
  answered: boolean;
}

export class UdpAssociation implements UdpPortOwner {
  readonly #context: UdpContext;
  readonly #socket: ClientSocket;
  readonly #port: number;
  /** The client's packed address; port 0 until it is known. */
  readonly #client: Uint32Array;
  #targets: AssociationTarget[] = [];
  #cancelSweep: () => void;
  bytesIn = 0;
  bytesOut = 0;

  /**
   * @param local address of the TCP connection here: the socket gets the same, on a port of its own.
   * @param client its peer; the port it will send from, or 0.
   * @throws SallyportError of the sockets (environment), UDP_PORTS_USED (caller).
   */
  constructor(context: UdpContext, local: SocketAddress, client: SocketAddress) {
    this.#context = context;
    this.#client = packed(client);
    this.#port = context.ports.open(this);
    if (this.#port === 0) throw new SallyportError('caller', 'UDP_PORTS_USED', 'too many UDP flows at once');
    try {
      const any = new SocketAddress(local.ip, 0);
      this.#socket = new ClientSocket(context, any, (socket, entry) => this.#fromClient(socket, entry));
    } catch (error) {
      context.ports.close(this.#port);
      throw error;
    }
    this.#cancelSweep = this.#sweepLater();
  }

  /** Where the client is to send its datagrams. */
  get local(): SocketAddress {
    return this.#socket.socket.local;
  }

  close(): void {
    this.#cancelSweep();
    this.#socket.close();
    this.#context.ports.close(this.#port);
  }

  /** The policy may have changed: what may be reached is asked again. */
  reevaluate(): void {
    for (const target of this.#targets) {
      const resolution = this.#context.resolve(target.host, target.port);
      const same = resolution.ok && target.remote !== undefined && resolution.address.matches(target.remote, 0);
      if (!same) target.lastUsed = -Number.MAX_VALUE as Instant;
    }
    this.#expire(this.#context.reactor.now());
  }

  // ---- from the network

  onDatagram(addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): void {
    const { counters, outbox, reactor } = this.#context;
    const target = this.#sentTo(addresses);
    if (target === undefined || !outbox.add(this.#socket.socket, this.#client, target.header, bytes, offset, length)) {
      counters.add('udp_dropped');
      return;
    }
    target.lastUsed = reactor.now();
    target.answered = true;
    this.bytesIn += length;
    counters.add('udp_in');
  }

  onUndelivered(): void {
    this.#context.counters.add('udp_undelivered');
  }

  #sentTo(addresses: Uint32Array): AssociationTarget | undefined {
    for (const target of this.#targets) {
      if (target.remote !== undefined && sameWords(target.remote, 0, addresses, 0)) return target;
    }
    return undefined;
  }

  // ---- from the client

  #fromClient(socket: UdpSocket, entry: number): void {
    const { counters, ports, reactor } = this.#context;
    const { memory, offsets, lengths, sources } = socket.rx;
    if (!this.#isClient(sources, entry)) {
      counters.add('udp_foreign');
      return;
    }
    const offset = offsets[entry]!;
    const length = lengths[entry]!;
    const named = addressLength(memory, offset + UDP_HEAD, length - UDP_HEAD);
    if (named < 0 || memory[offset] !== 0 || memory[offset + 1] !== 0) {
      counters.add('udp_malformed');
      return;
    }
    if (memory[offset + 2] !== 0) {
      counters.add('udp_fragments');
      return;
    }
    const now = reactor.now();
    const target = this.#target(now, memory, offset + UDP_HEAD, named);
    if (target === undefined) return;
    target.lastUsed = now;
    if (target.remote === undefined) {
      counters.add('udp_not_allowed');
      return;
    }
    const start = UDP_HEAD + named;
    const drop = ports.send(now, this.#port, target.remote, memory, offset + start, length - start);
    counters.add(drop === Drop.none ? 'udp_out' : 'udp_dropped');
    if (drop === Drop.none) this.bytesOut += length - start;
  }

  /** The first datagram of the right address says the port, unless the client has. */
  #isClient(sources: Uint32Array, entry: number): boolean {
    const client = this.#client;
    const at = entry * ADDRESS_WORDS;
    if (client[ADDRESS_WORDS - 1] === 0) {
      for (let i = 0; i < ADDRESS_WORDS - 1; i++) if (sources[at + i] !== client[i]) return false;
      client[ADDRESS_WORDS - 1] = sources[at + ADDRESS_WORDS - 1]!;
      return true;
    }
    return sameWords(client, 0, sources, entry);
  }

  #target(now: Instant, bytes: Uint8Array, offset: number, length: number): AssociationTarget | undefined {
    for (const target of this.#targets) if (isWritten(target.written, bytes, offset, length)) return target;
    const { counters } = this.#context;
    const named = readAddress(bytes, offset, length);
    if (named === undefined || named.port === undefined) {
      counters.add('udp_malformed');
      return undefined;
    }
    if (this.#targets.length >= MAX_TARGETS) this.#expire(now);
    if (this.#targets.length >= MAX_TARGETS) {
      counters.add('udp_flows_over_limit');
      return undefined;
    }
    const resolution = this.#context.resolve(named.host, named.port);
    const address = resolution.ok ? resolution.address : undefined;
    const target: AssociationTarget = {
      written: bytes.slice(offset, offset + length),
      remote: address === undefined ? undefined : packed(address),
      header: address === undefined ? new Uint8Array(0) : Uint8Array.of(0, 0, 0, ...encodeAddress(address)),
      host: named.host,
      port: named.port,
      lastUsed: now,
      answered: false,
    };
    this.#targets.push(target);
    if (address !== undefined) counters.add('udp_flows');
    return target;
  }

  #expire(now: Instant): void {
    this.#targets = this.#targets.filter(({ lastUsed, answered, remote }) => {
      const keep = elapsed(lastUsed, now) < (answered ? UDP_IDLE : UDP_UNANSWERED);
      if (!keep && remote !== undefined) this.#context.counters.add('udp_flows_expired');
      return keep;
    });
  }

  #sweepLater(): () => void {
    const { reactor } = this.#context;
    return reactor.at(later(reactor.now(), SWEEP), (now) => {
      this.#expire(now);
      this.#cancelSweep = this.#sweepLater();
    });
  }
}

function isWritten(written: Uint8Array, bytes: Uint8Array, offset: number, length: number): boolean {
  if (written.length !== length) return false;
  for (let i = 0; i < length; i++) if (written[i] !== bytes[offset + i]) return false;
  return true;
}
