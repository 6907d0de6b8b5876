/**
 * A local UDP port that stands for one service: every client address is a flow of its own, with a port of the agent's stack, so
 * that answers find their way back.
 */
import { ADDRESS_WORDS, SocketAddress, sameWords } from '../../base/address.js';
import { Drop } from '../../base/drop.js';
import { elapsed, type Instant, later, Seconds } from '../../base/time.js';
import type { UdpSocket } from '../../os/io.js';
import { packed, type UdpPortOwner } from '../udp-ports.js';
import type { ProxyAccess } from './access.js';
import { NO_BYTES, type Target } from './negotiation.js';
import { ClientSocket, UDP_IDLE, UDP_UNANSWERED, type UdpContext } from './udp-context.js';

const SWEEP = Seconds(30);

interface ForwardFlow extends UdpPortOwner {
  readonly client: Uint32Array;
  /** The address of ours that it asked, from which it is answered. */
  readonly asked: Uint32Array;
  readonly remote: Uint32Array;
  readonly port: number;
  lastUsed: Instant;
  answered: boolean;
  /** The next flow of the same hash. */
  next: ForwardFlow | undefined;
}

export class UdpForward {
  readonly #context: UdpContext;
  readonly #socket: ClientSocket;
  readonly #access: () => ProxyAccess;
  readonly #flows = new Map<number, ForwardFlow>();
  #target: Target;
  #cancelSweep: (() => void) | undefined;

  /** @throws SallyportError of the sockets (environment). */
  constructor(context: UdpContext, listen: SocketAddress, target: Target, access: () => ProxyAccess) {
    this.#context = context;
    this.#target = target;
    this.#access = access;
    this.#socket = new ClientSocket(context, listen, (socket, entry) => this.#fromClient(socket, entry));
  }

  get local(): SocketAddress {
    return this.#socket.socket.local;
  }

  /** Another service from now on: flows to the former one end. */
  retarget(target: Target): void {
    if (target.host === this.#target.host && target.port === this.#target.port) return;
    this.#target = target;
    for (const flow of this.#all()) this.#remove(flow);
  }

  close(): void {
    this.#cancelSweep?.();
    for (const flow of this.#all()) this.#remove(flow);
    this.#socket.close();
  }

  /** The policy may have changed: flows that it leads elsewhere, or nowhere, end. */
  reevaluate(): void {
    const resolution = this.#context.resolve(this.#target.host, this.#target.port);
    for (const flow of this.#all()) {
      if (!resolution.ok || !resolution.address.matches(flow.remote, 0)) this.#remove(flow);
    }
  }

  #fromClient(socket: UdpSocket, entry: number): void {
    const { counters, ports, reactor } = this.#context;
    const { memory, offsets, lengths, sources } = socket.rx;
    const now = reactor.now();
    const flow = this.#find(sources, entry) ?? this.#open(now, socket, entry);
    if (flow === undefined) return;
    flow.lastUsed = now;
    const drop = ports.send(now, flow.port, flow.remote, memory, offsets[entry]!, lengths[entry]!);
    counters.add(drop === Drop.none ? 'udp_out' : 'udp_dropped');
  }

  #find(sources: Uint32Array, entry: number): ForwardFlow | undefined {
    let flow = this.#flows.get(hashOf(sources, entry));
    while (flow !== undefined && !sameWords(flow.client, 0, sources, entry)) flow = flow.next;
    return flow;
  }

  #open(now: Instant, { rx }: UdpSocket, entry: number): ForwardFlow | undefined {
    const { counters, ports } = this.#context;
    const client = rx.sources.slice(entry * ADDRESS_WORDS, (entry + 1) * ADDRESS_WORDS);
    const asked = rx.locals.slice(entry * ADDRESS_WORDS, (entry + 1) * ADDRESS_WORDS);
    if (!this.#access().admits(SocketAddress.read(client, 0).ip)) {
      counters.add('udp_foreign');
      return undefined;
    }
    const resolution = this.#context.resolve(this.#target.host, this.#target.port);
    if (!resolution.ok) {
      counters.add('udp_not_allowed');
      return undefined;
    }
    const remote = packed(resolution.address);
    const owner: UdpPortOwner = {
      onDatagram: (addresses, bytes, offset, length) => this.#toClient(flow, addresses, bytes, offset, length),
      onUndelivered: () => counters.add('udp_undelivered'),
    };
    const port = ports.open(owner);
    if (port === 0) {
      counters.add('udp_flows_over_limit');
      return undefined;
    }
    const hash = hashOf(client, 0);
    const next = this.#flows.get(hash);
    const flow: ForwardFlow = { ...owner, client, asked, remote, port, lastUsed: now, answered: false, next };
    this.#flows.set(hash, flow);
    counters.add('udp_flows');
    this.#cancelSweep ??= this.#sweepLater();
    return flow;
  }

  #toClient(flow: ForwardFlow, addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): void {
    const { counters, outbox, reactor } = this.#context;
    const isOurs = sameWords(flow.remote, 0, addresses, 0);
    if (!isOurs || !outbox.add(this.#socket.socket, flow.client, NO_BYTES, bytes, offset, length, flow.asked)) {
      counters.add('udp_dropped');
      return;
    }
    flow.lastUsed = reactor.now();
    flow.answered = true;
    counters.add('udp_in');
  }

  #expire(now: Instant): void {
    for (const flow of this.#all()) {
      if (elapsed(flow.lastUsed, now) < (flow.answered ? UDP_IDLE : UDP_UNANSWERED)) continue;
      this.#context.counters.add('udp_flows_expired');
      this.#remove(flow);
    }
  }

  #sweepLater(): () => void {
    const { reactor } = this.#context;
    return reactor.at(later(reactor.now(), SWEEP), (now) => {
      this.#expire(now);
      this.#cancelSweep = this.#flows.size > 0 ? this.#sweepLater() : undefined;
    });
  }

  #all(): ForwardFlow[] {
    const result: ForwardFlow[] = [];
    for (const first of this.#flows.values()) {
      for (let flow: ForwardFlow | undefined = first; flow !== undefined; flow = flow.next) result.push(flow);
    }
    return result;
  }

  #remove(flow: ForwardFlow): void {
    const hash = hashOf(flow.client, 0);
    const first = this.#flows.get(hash);
    if (first === flow) {
      if (flow.next === undefined) this.#flows.delete(hash);
      else this.#flows.set(hash, flow.next);
    } else {
      let before = first;
      while (before !== undefined && before.next !== flow) before = before.next;
      if (before !== undefined) before.next = flow.next;
    }
    this.#context.ports.close(flow.port);
  }
}

/** 31 bits of a packed address: whoever may use the listener is no enemy of its table. */
function hashOf(words: Uint32Array, index: number): number {
  let hash = 0;
  for (let i = index * ADDRESS_WORDS; i < (index + 1) * ADDRESS_WORDS; i++)
    hash = Math.imul(hash ^ words[i]!, 0x01000193);
  return (hash ^ (hash >>> 16)) & 0x7fffffff;
}
