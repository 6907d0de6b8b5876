/**
 * The UDP flows of one session: one host socket per 5-tuple, so that answers can never reach another flow or agent; they
 * leave with the virtual address the client asked for as their source.
 */
import { ADDRESS_WORDS, sameWords } from '../base/address.js';
import { elapsed, type Instant } from '../base/time.js';
import type { Stack } from '../netstack/stack.js';
import type { Rejection } from '../netstack/types.js';
import { EAGAIN, ECONNREFUSED, READABLE, type UdpFlowSocket, type Watch } from '../os/io.js';
import { type FlowTarget, PROTOCOL_UDP } from './flow-options.js';
import type { FlowHost } from './tcp-flows.js';

/** Largest UDP payload (RFC 768 over IPv4). */
const MAX_DATAGRAM = 65_507;
/** Datagrams taken from one socket before others get their turn. */
const READ_BUDGET = 64;

const scratch = new Uint8Array(MAX_DATAGRAM + 1);

interface UdpFlow {
  readonly words: Uint32Array;
  readonly target: FlowTarget;
  readonly socket: UdpFlowSocket;
  readonly watch: Watch;
  lastUsed: Instant;
  answered: boolean;
  /** The next flow of the same hash. */
  next: UdpFlow | undefined;
}

export class UdpFlows {
  readonly #host: FlowHost;
  readonly #stack: Stack;
  /** By hash of the 5-tuple; chains for collisions. */
  readonly #flows = new Map<number, UdpFlow>();
  readonly #seed: number;
  #size = 0;

  /** @param seed of the hash, unknown to the client: its ports must not be able to pile up in one chain. */
  constructor(host: FlowHost, stack: Stack, seed: number) {
    this.#host = host;
    this.#stack = stack;
    this.#seed = seed;
  }

  get size(): number {
    return this.#size;
  }

  /** A datagram of the client; the answer is what the stack sends back as ICMP. */
  onUdp(
    now: Instant,
    addresses: Uint32Array,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): Rejection | undefined {
    const flow = this.#find(addresses) ?? this.#admit(now, addresses);
    if (typeof flow === 'string') return flow;
    flow.lastUsed = now;
    const result = flow.socket.write(bytes, offset, length);
    if (result >= 0 || result === -EAGAIN) return undefined;
    this.#host.counters.add('udp_send_fail');
    // The kernel reports an ICMP error of an earlier datagram on the next call: it is about this backend, not this datagram.
    return result === -ECONNREFUSED ? 'port-unreachable' : undefined;
  }

  #find(addresses: Uint32Array): UdpFlow | undefined {
    let flow = this.#flows.get(this.#hashOf(addresses));
    while (flow !== undefined && !sameTuple(flow.words, addresses)) flow = flow.next;
    return flow;
  }

  #admit(now: Instant, addresses: Uint32Array): UdpFlow | Rejection {
    const { router, limits, counters, sockets, reactor } = this.#host;
    const target = router.route(PROTOCOL_UDP, addresses);
    if (target === undefined) {
      counters.add('flow_denied');
      return 'admin-prohibited';
    }
    if (target.address === undefined) return 'host-unreachable';
    if (this.#size >= limits.udpFlows) this.expire(now);
    if (this.#size >= limits.udpFlows) {
      counters.add('udp_admission_fail');
      return 'ignore';
    }
    if (!this.#host.admitNew(now)) {
      counters.add('flow_rate_limited');
      return 'ignore';
    }
    let socket: UdpFlowSocket;
    try {
      socket = sockets.udpFlow(target.address);
    } catch {
      counters.add('udp_send_fail');
      return 'host-unreachable';
    }
    const words = addresses.slice(0, 2 * ADDRESS_WORDS);
    const flow: UdpFlow = {
      words,
      target,
      socket,
      watch: reactor.watch(socket.fd, READABLE, () => this.#read(flow)),
      lastUsed: now,
      answered: false,
      next: undefined,
    };
    const hash = this.#hashOf(words);
    flow.next = this.#flows.get(hash);
    this.#flows.set(hash, flow);
    this.#size++;
    counters.add('udp_opened');
    return flow;
  }

  #read(flow: UdpFlow): void {
    const now = this.#host.reactor.now();
    for (let budget = READ_BUDGET; budget > 0; budget--) {
      const n = flow.socket.read(scratch, 0, scratch.length);
      if (n === -EAGAIN) break;
      if (n < 0) {
        this.#host.counters.add('udp_send_fail');
        continue;
      }
      flow.lastUsed = now;
      flow.answered = true;
      this.#stack.sendUdp(now, flow.words, 1, 0, scratch, 0, n);
    }
    this.#host.onActivity();
  }

  /** Ends the flows whose time is up. */
  expire(now: Instant): void {
    const { udpIdle, udpUnanswered } = this.#host.limits;
    for (const flow of this.#all()) {
      if (elapsed(flow.lastUsed, now) < (flow.answered ? udpIdle : udpUnanswered)) continue;
      this.#host.counters.add('udp_expired');
      this.#remove(flow);
    }
  }

  /** Asks the router again about every flow and ends those that it no longer routes to the same service. */
  reevaluate(): void {
    for (const flow of this.#all()) {
      if (this.#host.router.route(PROTOCOL_UDP, flow.words)?.service !== flow.target.service) this.#remove(flow);
    }
  }

  close(): void {
    for (const flow of this.#all()) this.#remove(flow);
  }

  #all(): UdpFlow[] {
    const result: UdpFlow[] = [];
    for (const first of this.#flows.values()) {
      for (let flow: UdpFlow | undefined = first; flow !== undefined; flow = flow.next) result.push(flow);
    }
    return result;
  }

  #remove(flow: UdpFlow): void {
    const hash = this.#hashOf(flow.words);
    const first = this.#flows.get(hash);
    if (first === flow) {
      if (flow.next === undefined) this.#flows.delete(hash);
      else this.#flows.set(hash, flow.next);
    } else {
      let before = first;
      while (before !== undefined && before.next !== flow) before = before.next;
      if (before === undefined) return;
      before.next = flow.next;
    }
    this.#size--;
    flow.watch.close();
    flow.socket.close();
  }

  #hashOf(words: Uint32Array): number {
    let hash = this.#seed;
    for (let i = 0; i < 2 * ADDRESS_WORDS; i++) {
      hash = Math.imul(hash ^ words[i]!, 0x01000193);
      hash ^= hash >>> 15;
    }
    return hash >>> 0;
  }
}

function sameTuple(a: Uint32Array, b: Uint32Array): boolean {
  return sameWords(a, 0, b, 0) && sameWords(a, 1, b, 1);
}
