/**
 * Echo requests of one session, passed on to the backend through unprivileged ICMP sockets: one socket per identifier and
 * destination, so that answers find their way back. Where the host does not permit such sockets the echo is answered here,
 * and `answersHere` says so.
 */
import { SocketAddress, sameWords } from '../base/address.js';
import { elapsed, type Instant } from '../base/time.js';
import type { Stack } from '../netstack/stack.js';
import type { Rejection } from '../netstack/types.js';
import { EAGAIN, type EchoSocket, READABLE, type Watch } from '../os/io.js';
import { PROTOCOL_ICMP, PROTOCOL_ICMPV6, targetOf } from './flow-options.js';
import type { FlowHost } from './tcp-flows.js';

const MAX_ECHO = 65_507;
const scratch = new Uint8Array(MAX_ECHO);

interface EchoFlow {
  readonly words: Uint32Array;
  readonly identifier: number;
  readonly destination: SocketAddress;
  readonly target: SocketAddress;
  readonly service: string;
  readonly socket: EchoSocket;
  readonly watch: Watch;
  lastUsed: Instant;
  /** Requests without a reply, those included whose reply is lost. */
  awaited: number;
}

export class EchoFlows {
  /** True once the host has refused an ICMP socket. */
  answersHere = false;
  readonly #host: FlowHost;
  readonly #stack: Stack;
  readonly #flows = new Set<EchoFlow>();

  constructor(host: FlowHost, stack: Stack) {
    this.#host = host;
    this.#stack = stack;
  }

  get size(): number {
    return this.#flows.size;
  }

  /** An echo request; true when the stack is to answer it itself, false when it is not (yet) answered; or how it is refused. */
  onEcho(
    now: Instant,
    addresses: Uint32Array,
    identifier: number,
    sequence: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): boolean | Rejection {
    const { counters } = this.#host;
    counters.add('echo_requests');
    const flow = this.#find(addresses, identifier) ?? this.#admit(now, addresses, identifier);
    if (flow === undefined) return false;
    if (flow === 'here') {
      counters.add('echo_answered_here');
      return true;
    }
    if (typeof flow === 'string') return flow;
    flow.lastUsed = now;
    flow.awaited++;
    flow.socket.send(flow.target, sequence, bytes, offset, length);
    return false;
  }

  #find(addresses: Uint32Array, identifier: number): EchoFlow | undefined {
    for (const flow of this.#flows) {
      if (
        flow.identifier === identifier &&
        sameWords(flow.words, 1, addresses, 1) &&
        sameWords(flow.words, 0, addresses, 0)
      ) {
        return flow;
      }
    }
    return undefined;
  }

  #admit(now: Instant, addresses: Uint32Array, identifier: number): EchoFlow | 'here' | Rejection | undefined {
    const { router, limits, counters, dialer, reactor } = this.#host;
    const destination = SocketAddress.read(addresses, 1);
    const route = router.route(destination.ip.isV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6, addresses);
    const target = targetOf(route);
    if (target?.address === undefined) {
      counters.add('flow_denied');
      return typeof route === 'string' ? route : undefined;
    }
    if (this.answersHere) return 'here';
    if (this.#flows.size >= limits.echoFlows) this.expire(now);
    if (this.#flows.size >= limits.echoFlows || !this.#host.admitNew(now)) {
      counters.add('echo_admission_fail');
      return undefined;
    }
    let socket: EchoSocket;
    try {
      socket = (target.dialer ?? dialer).echo(target.address.ip.family);
    } catch {
      this.answersHere = true;
      return 'here';
    }
    const flow: EchoFlow = {
      words: addresses.slice(0, 10),
      identifier,
      destination,
      target: target.address,
      service: target.service,
      socket,
      watch: reactor.watch(socket.fd, READABLE, () => this.#read(flow)),
      lastUsed: now,
      awaited: 0,
    };
    this.#flows.add(flow);
    counters.add('echo_opened');
    return flow;
  }

  #read(flow: EchoFlow): void {
    const now = this.#host.reactor.now();
    for (;;) {
      const n = flow.socket.read(scratch, 0, scratch.length);
      if (n === -EAGAIN) break;
      if (n < 0) continue;
      if (!flow.socket.lastSource.ip.equals(flow.target.ip)) continue;
      flow.lastUsed = now;
      if (flow.awaited > 0) flow.awaited--;
      this.#host.counters.add('echo_replies');
      this.#stack.sendEchoReply(now, flow.words, flow.identifier, flow.socket.lastSequence, scratch, 0, n);
      // Nothing else is to come: a reply sent twice is read when the socket is found readable again.
      if (flow.awaited === 0) break;
    }
    this.#host.onActivity();
  }

  expire(now: Instant): void {
    for (const flow of this.#flows) {
      if (elapsed(flow.lastUsed, now) < this.#host.limits.echoIdle) continue;
      this.#host.counters.add('echo_expired');
      this.#remove(flow);
    }
  }

  reevaluate(): void {
    for (const flow of this.#flows) {
      const protocol = flow.destination.ip.isV4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6;
      if (targetOf(this.#host.router.route(protocol, flow.words))?.service !== flow.service) this.#remove(flow);
    }
  }

  close(): void {
    for (const flow of this.#flows) this.#remove(flow);
  }

  #remove(flow: EchoFlow): void {
    this.#flows.delete(flow);
    flow.watch.close();
    flow.socket.close();
  }
}
