/**
 * The UDP flows that end here. Without a filtering mode (a connector): one outlet per 5-tuple, connected, so that answers can
 * never reach another flow or agent. With one (a NAT): one outlet per client port and dialer, whatever the destination.
 *
 *   datagram ─► peer (5-tuple) ─known──────────────────► its flow's outlet
 *                   └─ new ─► router ─► flow of client and dialer, or a new one ─► outlet
 *                        (QUIC whose name may decide: its first datagrams wait for it)
 *   outlet ─► source known (filtering)? ─► stack: from the address that the client asked for
 *   outlet ─► its dial has failed or takes too long, or an error of its one destination ─► ICMP about the last datagram
 *
 * RFC 4787 REQ-1 (mapping), REQ-8 (filtering), REQ-5 (timers: less for name servers, more for QUIC).
 */
import { ADDRESS_WORDS, sameWords } from '../base/address.js';
import { type Duration, elapsed, type Instant, later } from '../base/time.js';
import type { Stack } from '../netstack/stack.js';
import type { Rejection } from '../netstack/types.js';
import { EAGAIN, EMSGSIZE, ETIMEDOUT, type IoResult, READABLE, type TakeDatagram } from '../os/io.js';
import { dialErrorKind, dialRejection } from './dial-error.js';
import type { Dialer, UdpOutlet } from './dialer.js';
import type { LiveFlow } from './flow-list.js';
import {
  DNS_PORT,
  type FlowCounter,
  type FlowTarget,
  type PayloadTap,
  PROTOCOL_UDP,
  targetOf,
} from './flow-options.js';
import { HeldDatagrams, Holds } from './held-datagrams.js';
import { looksLikeInitial } from './names/quic-initial.js';
import { type FlowShape, UNSHAPED } from './shaping/rate.js';
import { ShapedDatagrams } from './shaping/shaped-datagrams.js';
import type { Lane } from './shaping/shaper.js';
import type { FlowHost } from './tcp-flows.js';
import {
  onlyPeer,
  PORT,
  sameAddress,
  sameTuple,
  TUPLE_WORDS,
  type UdpFlow,
  type UdpPeer,
  UdpPeers,
} from './udp-peers.js';

/** Flows that are compared when one has to make room: a flood of new ones must not cost a look at all. */
const LOOKED_AT = 64;
const NOTHING = (): void => {};
/** Where QUIC is known by its first packet (RFC 9114 §3.1). */
const QUIC_PORT = 443;

const isHeld = ({ hold }: FlowTarget): boolean => hold !== undefined && hold() !== 'none';

export class UdpFlows {
  readonly #host: FlowHost;
  readonly #stack: Stack;
  readonly #flows = new Set<UdpFlow>();
  readonly #peers: UdpPeers;
  /** The last flow of each client port, by hash: where a new destination looks first. */
  readonly #ports = new Map<number, UdpFlow>();
  /** Index 0 = the host that answers, 1 = the client. */
  readonly #holds = new Holds();
  readonly #answer = new Uint32Array(TUPLE_WORDS);
  readonly #lookup = new Uint32Array(TUPLE_WORDS);
  /** Whose outlet is being read. */
  #reading: UdpFlow | undefined;
  #from: UdpPeer | undefined;

  /** @param seed of the hash, unknown to the client: its ports must not be able to pile up in one chain. */
  constructor(host: FlowHost, stack: Stack, seed: number) {
    this.#host = host;
    this.#stack = stack;
    this.#peers = new UdpPeers(seed);
  }

  get size(): number {
    return this.#flows.size;
  }

  /** `most` at most. */
  list(most: number): LiveFlow[] {
    const flows: LiveFlow[] = [];
    for (const { words, outlet, bytesIn, bytesOut } of this.#flows) {
      if (flows.length >= most) break;
      const sendPaused = outlet.sendPaused === true;
      const state = outlet.isDialling === true ? 'dialling' : 'open';
      flows.push({ protocol: 'udp', state, words, sendPaused, bytesIn, bytesOut });
    }
    return flows;
  }

  /** A datagram of the client; the answer is what the stack sends back as ICMP. */
  onUdp(
    now: Instant,
    addresses: Uint32Array,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): Rejection | undefined {
    const peer = this.#peers.find(addresses) ?? this.#admit(now, addresses, bytes, offset, length);
    if (peer === undefined || typeof peer === 'string') return peer;
    const { flow } = peer;
    flow.lastUsed = now;
    flow.bytesIn += length;
    peer.length = length;
    if (peer.tap !== undefined && !peer.tap(true, bytes, offset, length)) peer.tap = undefined;
    if (peer.held !== undefined) {
      if (peer.held.add(bytes, offset, length)) return undefined;
      this.#release(now, peer, 'udp_holds_gave_up');
    }
    return this.#pass(now, peer, bytes, offset, length);
  }

  /** What the rules have nothing against: on its way, or into its queue. */
  #pass(now: Instant, peer: UdpPeer, bytes: Uint8Array, offset: number, length: number): Rejection | undefined {
    if (peer.shaped === undefined) return this.#send(peer.flow, peer.words, bytes, offset, length);
    this.#hold(peer.shaped.up, now, bytes, offset, length);
    return undefined;
  }

  /** What it says first waits until it is known whether that may leave. */
  #keep(now: Instant, peer: UdpPeer): void {
    const { counters, reactor, onActivity } = this.#host;
    if (!this.#holds.hasRoom) {
      counters.add('udp_holds_gave_up');
      return;
    }
    peer.held = new HeldDatagrams(this.#holds, reactor, now, (at) => {
      this.#release(at, peer, 'udp_holds_gave_up');
      onActivity();
    });
  }

  /** What waited for a name goes its way, before anything that comes later. */
  #release(now: Instant, peer: UdpPeer, how: FlowCounter): void {
    const { held } = peer;
    peer.held = undefined;
    this.#host.counters.add(how);
    held?.close((bytes) => {
      const refusal = this.#pass(now, peer, bytes, 0, bytes.length);
      if (refusal !== undefined) this.#stack.rejectUdp(now, peer.words, bytes.length, refusal);
    });
  }

  #send(
    flow: UdpFlow,
    addresses: Uint32Array,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): Rejection | undefined {
    const result = flow.outlet.write(addresses, bytes, offset, length);
    if (result >= 0) return undefined;
    if (result === -EAGAIN) {
      this.#host.counters.add('udp_send_blocked');
      return undefined;
    }
    this.#host.counters.add('udp_send_fail');
    // The kernel reports an error of an earlier datagram on the next call: it is about that one's destination.
    return onlyPeer(flow) === undefined || result === -EMSGSIZE ? undefined : dialRejection(result, 'port-unreachable');
  }

  /** Nothing passes the outlet any more: told about every destination of the flow, unless it has just ended. */
  #onOver(flow: UdpFlow, result: IoResult, stood: boolean): void {
    if (result !== 0) {
      this.#host.counters.add(stood ? 'udp_send_fail' : `udp_dial_${dialErrorKind(result)}`);
      for (const peer of flow.peers) this.#tell(peer, result);
    }
    this.#remove(flow);
    this.#host.onActivity();
  }

  /** Tells the client about the last datagram to `peer`. */
  #tell({ words, length }: UdpPeer, result: IoResult): void {
    if (words[PORT] === 0) return;
    this.#stack.rejectUdp(this.#host.reactor.now(), words, length, dialRejection(result, 'port-unreachable'));
  }

  /** Undefined: a service of the engine's own has taken the datagram. */
  #admit(
    now: Instant,
    addresses: Uint32Array,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): UdpPeer | Rejection | undefined {
    const { router, counters, limits } = this.#host;
    const target = router.route(PROTOCOL_UDP, addresses);
    if (target === undefined || typeof target === 'string') {
      counters.add('flow_denied');
      return target ?? 'admin-prohibited';
    }
    if (target.datagram !== undefined) {
      target.datagram(addresses, bytes, offset, length);
      return undefined;
    }
    if (target.address === undefined) {
      counters.add('udp_dial_unreachable');
      return 'host-unreachable';
    }
    const dialer = target.dialer ?? this.#host.dialer;
    const words = addresses.slice(0, TUPLE_WORDS);
    const flow = this.#flowOf(words, dialer) ?? this.#open(now, words, target, dialer);
    if (typeof flow === 'string') return flow;
    const port = words[PORT]!;
    if (port !== DNS_PORT) flow.isDns = false;
    if (port === QUIC_PORT && looksLikeInitial(bytes, offset, length)) flow.isQuic = true;
    const peer = this.#addPeer(flow, words, target.tap);
    this.#shape(peer, target.shape);
    if (isHeld(target) && looksLikeInitial(bytes, offset, length)) this.#keep(now, peer);
    if (limits.udpFiltering === 'address-dependent') {
      const whole = words.slice();
      whole[PORT] = 0;
      if (this.#peers.find(whole) === undefined) this.#addPeer(flow, whole, undefined);
    }
    return peer;
  }

  /** The flow of this client port, where one serves several destinations. */
  #flowOf(words: Uint32Array, dialer: Dialer): UdpFlow | undefined {
    if (this.#host.limits.udpFiltering === undefined) return undefined;
    const flow = this.#ports.get(this.#peers.hashOf(words, ADDRESS_WORDS));
    return flow !== undefined && flow.dialer === dialer && sameWords(flow.words, 0, words, 0) ? flow : undefined;
  }

  #open(now: Instant, words: Uint32Array, target: FlowTarget, dialer: Dialer): UdpFlow | Rejection {
    const { limits, counters, reactor } = this.#host;
    if (!this.#makeRoom(now)) {
      counters.add('udp_admission_fail');
      return 'ignore';
    }
    if (!this.#host.admitNew(now)) {
      counters.add('flow_rate_limited');
      return 'ignore';
    }
    let outlet: UdpOutlet | undefined;
    try {
      outlet = dialer.udp(words, target.address!);
    } catch {
      counters.add('udp_dial_unreachable');
      return 'host-unreachable';
    }
    if (outlet === undefined) {
      // What has another way (QUIC has TCP) takes it at once.
      counters.add('udp_unsupported');
      return 'port-unreachable';
    }
    const flow: UdpFlow = {
      words,
      target,
      dialer,
      outlet,
      watch: reactor.watch(outlet.fd, READABLE, () => this.#read(flow)),
      stopDialTimer: NOTHING,
      peers: [],
      lastUsed: now,
      answered: false,
      isDns: true,
      isQuic: false,
      bytesIn: 0,
      bytesOut: 0,
    };
    outlet.onOver = (result, stood) => this.#onOver(flow, result, stood);
    if (outlet.isDialling === true) {
      flow.stopDialTimer = reactor.at(later(now, limits.dialTimeout), () => {
        if (flow.outlet.isDialling === true) this.#onOver(flow, -ETIMEDOUT, false);
      });
    }
    this.#flows.add(flow);
    if (limits.udpFiltering !== undefined) this.#ports.set(this.#peers.hashOf(words, ADDRESS_WORDS), flow);
    counters.add('udp_opened');
    return flow;
  }

  #makeRoom(now: Instant): boolean {
    const { udpFlows, udpEvict } = this.#host.limits;
    if (this.size < udpFlows) return true;
    if (!udpEvict) {
      this.expire(now);
      return this.size < udpFlows;
    }
    const looked: UdpFlow[] = [];
    for (const flow of this.#flows) {
      looked.push(flow);
      if (looked.length === LOOKED_AT) break;
    }
    let oldest = looked[0]!;
    for (const flow of looked) {
      if (flow.lastUsed < oldest.lastUsed) oldest = flow;
      // Whoever was looked at comes last the next time.
      this.#flows.delete(flow);
      this.#flows.add(flow);
    }
    this.#host.counters.add('udp_evicted');
    this.#remove(oldest);
    return true;
  }

  #addPeer(flow: UdpFlow, words: Uint32Array, tap: PayloadTap | undefined): UdpPeer {
    const { udpPeers, udpFiltering } = this.#host.limits;
    const most = udpFiltering === 'address-dependent' ? Math.max(udpPeers, 2) : udpPeers;
    if (flow.peers.length >= most) this.#unlink(flow.peers.shift()!);
    const peer = this.#peers.add(flow, words, tap);
    flow.peers.push(peer);
    return peer;
  }

  #shape(peer: UdpPeer, shape: FlowShape | undefined): void {
    const { shaper, counters } = this.#host;
    peer.shaped?.change(shape ?? UNSHAPED);
    if (peer.shaped !== undefined || shape === undefined || shaper === undefined) return;
    counters.add('flow_shaped');
    const { flow, words } = peer;
    peer.shaped = new ShapedDatagrams(
      shaper,
      shape,
      (_now, bytes, offset, length) => void this.#send(flow, words, bytes, offset, length),
      (now, bytes, offset, length) => this.#stack.sendUdp(now, words, 1, 0, bytes, offset, length),
    );
  }

  #hold(lane: Lane, now: Instant, bytes: Uint8Array, offset: number, length: number): void {
    if (lane.loses()) this.#host.counters.add('shaped_losses');
    else if (!lane.hold(now, bytes, offset, length)) this.#host.counters.add('shaped_drops');
  }

  #read(flow: UdpFlow): void {
    this.#reading = flow;
    const result = flow.outlet.receive(this.#onAnswer);
    if (result < 0) {
      this.#host.counters.add('udp_send_fail');
      const peer = onlyPeer(flow);
      if (peer !== undefined && result !== -EMSGSIZE) this.#tell(peer, result);
    }
    this.#host.onActivity();
  }

  /** A datagram for the client of the flow that is being read. */
  readonly #onAnswer: TakeDatagram = (bytes, offset, length) => {
    const { counters, reactor } = this.#host;
    const flow = this.#reading!;
    if (!this.#lets(flow, bytes, offset, length)) {
      counters.add('udp_filtered');
      return;
    }
    const now = reactor.now();
    flow.lastUsed = now;
    flow.answered = true;
    flow.bytesOut += length;
    const shaped = this.#from?.shaped;
    if (shaped !== undefined) {
      this.#hold(shaped.down, now, bytes, offset, length);
      return;
    }
    const { source } = flow.outlet;
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      this.#answer[i] = source[i]!;
      this.#answer[ADDRESS_WORDS + i] = flow.words[i]!;
    }
    this.#stack.sendUdp(now, this.#answer, 0, 1, bytes, offset, length);
  };

  /** Whether a datagram may reach the client; `#from` is then the peer it came from, if known. */
  #lets(flow: UdpFlow, bytes: Uint8Array, offset: number, length: number): boolean {
    const filtering = this.#host.limits.udpFiltering;
    const { source } = flow.outlet;
    const words = this.#lookup;
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      words[i] = flow.words[i]!;
      words[ADDRESS_WORDS + i] = source[i]!;
    }
    const peer = this.#peers.find(words);
    this.#from = peer;
    if (peer?.tap !== undefined && !peer.tap(false, bytes, offset, length)) peer.tap = undefined;
    if (peer !== undefined || filtering === undefined || filtering === 'endpoint-independent') return true;
    if (filtering === 'address-and-port-dependent') return false;
    words[PORT] = 0;
    return this.#peers.find(words) !== undefined;
  }

  /** Ends the flows whose time is up. */
  expire(now: Instant): void {
    for (const flow of this.#flows) {
      if (elapsed(flow.lastUsed, now) < this.#idleOf(flow)) continue;
      this.#host.counters.add('udp_expired');
      this.#remove(flow);
    }
  }

  /** How long a flow may rest. */
  #idleOf({ answered, isDns, isQuic }: UdpFlow): Duration {
    const { udpIdle, udpUnanswered, udpDns, udpQuic } = this.#host.limits;
    if (isDns) return udpDns;
    if (!answered) return udpUnanswered;
    return isQuic ? udpQuic : udpIdle;
  }

  /**
   * Asks the router again about every destination and forgets those that it no longer routes to the same service; a flow without
   * any ends. The others are held back as it says now.
   * @param only packed as for the router: asks about this one alone.
   */
  reevaluate(only?: Uint32Array): void {
    for (const flow of only === undefined ? this.#flows : [this.#peers.find(only)?.flow]) {
      if (flow !== undefined) this.#judge(flow, only);
    }
  }

  #judge(flow: UdpFlow, only: Uint32Array | undefined): void {
    const { peers } = flow;
    const now = this.#host.reactor.now();
    for (const peer of [...peers]) {
      if (peer.words[PORT] === 0 || (only !== undefined && !sameTuple(peer.words, only))) continue;
      const route = this.#host.router.route(PROTOCOL_UDP, peer.words);
      const target = targetOf(route);
      if (target?.service === flow.target.service) {
        this.#shape(peer, target.shape);
        if (peer.held !== undefined && !isHeld(target)) this.#release(now, peer, 'udp_holds_decided');
      } else {
        if (peer.held !== undefined) this.#refuse(now, peer, typeof route === 'string' ? route : 'admin-prohibited');
        peers.splice(peers.indexOf(peer), 1);
        this.#unlink(peer);
      }
    }
    // An address stays open for its other ports as long as one of them is allowed.
    for (const peer of peers.filter(({ words }) => words[PORT] === 0)) {
      if (peers.some(({ words }) => words[PORT] !== 0 && sameAddress(words, peer.words))) continue;
      peers.splice(peers.indexOf(peer), 1);
      this.#unlink(peer);
    }
    if (peers.length === 0) this.#remove(flow);
  }

  /** Nothing of it has left: its program is told as if it had been refused at once. */
  #refuse(now: Instant, peer: UdpPeer, how: Rejection): void {
    peer.held?.close();
    peer.held = undefined;
    this.#host.counters.add('udp_holds_refused');
    this.#stack.rejectUdp(now, peer.words, peer.length, how);
    this.#host.onActivity();
  }

  /** Ends every flow; the next datagram of a client opens a new one. */
  close(): void {
    for (const flow of this.#flows) this.#remove(flow);
  }

  #remove(flow: UdpFlow): void {
    if (!this.#flows.delete(flow)) return;
    this.#forgetPeers(flow);
    const port = this.#peers.hashOf(flow.words, ADDRESS_WORDS);
    if (this.#ports.get(port) === flow) this.#ports.delete(port);
    flow.stopDialTimer();
    flow.watch.close();
    flow.outlet.close();
    this.#host.counters.add('udp_closed');
    flow.target.onClosed?.('finished', flow.bytesIn, flow.bytesOut);
  }

  #forgetPeers(flow: UdpFlow): void {
    for (const peer of flow.peers.splice(0)) this.#unlink(peer);
  }

  #unlink(peer: UdpPeer): void {
    if (peer.held !== undefined) {
      peer.held.close();
      peer.held = undefined;
      this.#host.counters.add('udp_holds_ended');
    }
    if (peer.shaped !== undefined) {
      this.#host.counters.add('shaped_drops', peer.shaped.count);
      peer.shaped.close();
    }
    this.#peers.remove(peer);
  }
}
