/**
 * The TCP flows of one session that end here: each SYN is routed, its backend dialled, and only then answered.
 *
 *   SYN ─► routed ─► dialling ──connected──► SYN-ACK, bridged ─► closed              (a name may decide: first-bytes.ts before the bridge)
 *            │           ├─ refused ──► RST
 *            │           ├─ unreachable ──► ICMP
 *            │           └─ timeout ──► silence
 *            ├ not allowed, too many ──► ICMP admin-prohibited (or as the router says), RST
 *            └ the engine's own service ──► handed over
 */
import { sameWords } from '../base/address.js';
import type { Counters } from '../base/counters.js';
import { elapsed, type Instant, later } from '../base/time.js';
import type { TcpConnection } from '../netstack/tcp/connection.js';
import type { TcpRequest } from '../netstack/tcp/request.js';
import type { CloseReason, Rejection, TcpHandlers } from '../netstack/types.js';
import { ETIMEDOUT, type Reactor, type TcpStream } from '../os/io.js';
import { dialErrorKind, dialRejection } from './dial-error.js';
import type { Dialer } from './dialer.js';
import { FirstBytes } from './first-bytes.js';
import type { LiveFlow } from './flow-list.js';
import {
  type FlowCounter,
  type FlowLimits,
  type FlowRouter,
  type FlowTarget,
  type Hold,
  PROTOCOL_TCP,
  targetOf,
} from './flow-options.js';
import { type FlowShape, UNSHAPED } from './shaping/rate.js';
import { ShapedStream } from './shaping/shaped-stream.js';
import type { Shaper } from './shaping/shaper.js';
import { TcpBridge } from './tcp-bridge.js';

export interface FlowHost {
  readonly reactor: Reactor;
  /** For targets that name none of their own. */
  readonly dialer: Dialer;
  readonly router: FlowRouter;
  readonly limits: FlowLimits;
  readonly counters: Counters<FlowCounter>;
  readonly shaper: Shaper | undefined;
  /** Whether one more new flow is within the session's rate. */
  admitNew(now: Instant): boolean;
  /** The session's stack has something to send. */
  onActivity(): void;
}

/** A flow whose backend is being dialled. */
interface DiallingFlow {
  readonly target: FlowTarget;
  readonly words: Uint32Array;
  readonly request: TcpRequest;
  /** How it will be held back. */
  shape: FlowShape | undefined;
}

interface OpenFlow {
  readonly target: FlowTarget;
  readonly words: Uint32Array;
  readonly connection: TcpConnection;
  readonly bridge: TcpBridge;
  /** In front of the bridge, once what it says may change the decision. */
  first: FirstBytes | undefined;
  /** Where its bytes wait, if they are held back. */
  shaped: ShapedStream | undefined;
}

export class TcpFlows {
  readonly #host: FlowHost;
  readonly #open = new Map<TcpBridge, OpenFlow>();
  readonly #dialling = new Map<Dial, DiallingFlow>();

  constructor(host: FlowHost) {
    this.#host = host;
  }

  get size(): number {
    return this.#open.size + this.#dialling.size;
  }

  /** Open flows in the order they began, then those being dialled; `most` at most. */
  list(most: number): LiveFlow[] {
    const flows: LiveFlow[] = [];
    for (const { words, bridge } of this.#open.values()) {
      if (flows.length >= most) return flows;
      const { sendPaused, bytesIn, bytesOut } = bridge;
      flows.push({ protocol: 'tcp', state: 'open', words, sendPaused, bytesIn, bytesOut });
    }
    for (const { words } of this.#dialling.values()) {
      if (flows.length >= most) return flows;
      flows.push({ protocol: 'tcp', state: 'dialling', words, sendPaused: false, bytesIn: 0, bytesOut: 0 });
    }
    return flows;
  }

  /** Open flows whose programs wait for the host's side. */
  get sendPaused(): number {
    let count = 0;
    for (const bridge of this.#open.keys()) if (bridge.sendPaused) count++;
    return count;
  }

  onSyn(now: Instant, request: TcpRequest): void {
    const host = this.#host;
    const addresses = requestAddresses(request);
    const target = host.router.route(PROTOCOL_TCP, addresses);
    if (target === undefined || typeof target === 'string') {
      host.counters.add('flow_denied');
      request.reject(target ?? 'admin-prohibited');
    } else if (target.serve !== undefined) target.serve(request);
    else if (!this.#hasRoom(now)) {
      host.counters.add('tcp_admission_fail');
      request.reject('reset');
    } else if (!host.admitNew(now)) {
      host.counters.add('flow_rate_limited');
      request.reject('ignore');
    } else if (target.address === undefined) {
      host.counters.add('tcp_dial_unreachable');
      request.reject('host-unreachable');
    } else this.#dial(now, request, target, addresses);
  }

  #hasRoom(now: Instant): boolean {
    const { tcpFlows, tcpDials, tcpEvictIdle } = this.#host.limits;
    if (this.#dialling.size >= tcpDials) return false;
    if (this.size < tcpFlows) return true;
    if (tcpEvictIdle === 0) return false;
    let oldest: TcpBridge | undefined;
    for (const bridge of this.#open.keys()) {
      if (oldest === undefined || bridge.lastUsed < oldest.lastUsed) oldest = bridge;
    }
    if (oldest === undefined || elapsed(oldest.lastUsed, now) < tcpEvictIdle) return false;
    this.#host.counters.add('tcp_evicted');
    oldest.abort();
    return this.size < tcpFlows;
  }

  #dial(now: Instant, request: TcpRequest, target: FlowTarget, words: Uint32Array): void {
    const host = this.#host;
    const flow: DiallingFlow = { target, words, request, shape: target.shape };
    const dial = new Dial(host, (result, stream) => {
      this.#dialling.delete(dial);
      if (stream !== undefined) this.#established(stream, flow);
      else {
        host.counters.add(`tcp_dial_${dialErrorKind(result)}`);
        request.reject(dialRejection(result, 'reset'));
        host.onActivity();
      }
    });
    try {
      dial.start(now, target);
    } catch {
      host.counters.add('tcp_dial_unreachable');
      request.reject('host-unreachable');
      return;
    }
    this.#dialling.set(dial, flow);
    request.onCancelled = () => {
      if (this.#dialling.delete(dial)) dial.cancel();
    };
  }

  #established(stream: TcpStream, { request, target, words, shape }: DiallingFlow): void {
    const host = this.#host;
    const connection = request.accept(WAITING);
    if (connection === undefined) {
      stream.abort();
      return;
    }
    const owner = {
      onActivity: () => host.onActivity(),
      onBridgeClosed: (closed: TcpBridge, reason: CloseReason) => {
        this.#open.delete(closed);
        host.counters.add('tcp_closed');
        target.onClosed?.(reason, closed.bytesIn, closed.bytesOut);
      },
    };
    const { shaper, reactor } = host;
    const isShaped = shaper !== undefined && shape !== undefined;
    const shaped = isShaped ? new ShapedStream(reactor, stream, shaper, shape) : undefined;
    if (isShaped) host.counters.add('flow_shaped');
    const bridge = new TcpBridge(
      shaped ?? reactor,
      connection,
      shaped ?? stream,
      owner,
      target.tap,
      host.limits.tcpReadBudget,
    );
    const flow: OpenFlow = { target, words, connection, bridge, first: undefined, shaped };
    this.#open.set(bridge, flow);
    this.#holdFirst(flow, target);
    host.counters.add('tcp_opened');
    host.onActivity();
  }

  /**
   * Asks the router again about every flow and resets those that it no longer routes to the same service; the others are held
   * back as it says now.
   * @param only packed as for the router: asks about this one alone.
   */
  reevaluate(only?: Uint32Array): void {
    const isAsked = ({ words }: { readonly words: Uint32Array }): boolean =>
      only === undefined || (sameWords(words, 0, only, 0) && sameWords(words, 1, only, 1));
    for (const flow of [...this.#open.values()].filter(isAsked)) {
      const target = targetOf(this.#host.router.route(PROTOCOL_TCP, flow.words));
      if (target?.service !== flow.target.service) {
        flow.first?.refused();
        flow.bridge.abort();
      } else {
        this.#shape(flow, target.shape);
        this.#holdFirst(flow, target);
      }
    }
    for (const [dial, flow] of [...this.#dialling].filter(([, flow]) => isAsked(flow))) {
      const route = this.#host.router.route(PROTOCOL_TCP, flow.words);
      if (targetOf(route)?.service !== flow.target.service) {
        this.#giveUp(dial, flow, typeof route === 'string' ? route : 'admin-prohibited');
      } else flow.shape = targetOf(route)?.shape;
    }
  }

  /** Nothing of it leaves while what it says first may change the decision; nothing is in its way where that cannot be. */
  #holdFirst(flow: OpenFlow, { hold = NEVER }: FlowTarget): void {
    const { connection, bridge } = flow;
    if (flow.first !== undefined) flow.first.judged(hold);
    else if (bridge.bytesIn === 0 && hold() !== 'none') {
      flow.first = new FirstBytes(this.#host, connection, bridge, hold);
    }
  }

  /** A live flow is held back otherwise, or begins to be. */
  #shape(flow: OpenFlow, shape: FlowShape | undefined): void {
    const { shaper, reactor, counters } = this.#host;
    if (flow.shaped !== undefined) flow.shaped.change(shape ?? UNSHAPED);
    else if (shape !== undefined && shaper !== undefined) {
      counters.add('flow_shaped');
      flow.bridge.wrap((inner, isShut) => {
        flow.shaped = new ShapedStream(reactor, inner, shaper, shape, isShut);
        return flow.shaped;
      });
    }
  }

  #giveUp(dial: Dial, flow: DiallingFlow, how: Rejection): void {
    this.#dialling.delete(dial);
    dial.cancel();
    flow.request.reject(how);
  }

  /** The way out has changed: every dial begins anew, with what is left of its time. */
  redial(): void {
    for (const [dial, flow] of [...this.#dialling]) {
      try {
        dial.again(flow.target);
      } catch {
        this.#giveUp(dial, flow, 'host-unreachable');
      }
    }
  }

  /** Resets every open flow: sockets of a way out that is gone. */
  abortOpen(): void {
    for (const bridge of [...this.#open.keys()]) bridge.abort();
  }

  /** Resets every flow and stops every dial. */
  close(): void {
    for (const [dial, flow] of [...this.#dialling]) this.#giveUp(dial, flow, 'reset');
    this.abortOpen();
  }
}

/** A connection attempt, with its time limit. */
class Dial {
  readonly #host: FlowHost;
  readonly #done: (result: number, stream: TcpStream | undefined) => void;
  #giveUp: () => void = () => {};
  #stopTimer: () => void = () => {};
  #over = false;

  constructor(host: FlowHost, done: (result: number, stream: TcpStream | undefined) => void) {
    this.#host = host;
    this.#done = done;
  }

  /** @throws what the dialer throws. */
  start(now: Instant, target: FlowTarget): void {
    this.#begin(target);
    const { reactor, limits } = this.#host;
    this.#stopTimer = reactor.at(later(now, limits.dialTimeout), () => {
      this.cancel();
      this.#done(-ETIMEDOUT, undefined);
    });
  }

  /** @throws what the dialer throws. */
  again(target: FlowTarget): void {
    this.#giveUp();
    this.#giveUp = () => {};
    this.#begin(target);
  }

  #begin(target: FlowTarget): void {
    this.#giveUp = (target.dialer ?? this.#host.dialer).tcp(target.address!, (result, stream) => {
      this.#stopTimer();
      this.#over = true;
      this.#done(result, stream);
    });
  }

  cancel(): void {
    if (this.#over) return;
    this.#over = true;
    this.#stopTimer();
    this.#giveUp();
  }
}

const NEVER = (): Hold => 'none';
/** Until the bridge stands nothing is taken. */
const WAITING: TcpHandlers = { onData: () => 0, onClosed: () => {} };

/** Source = the client, destination = the address it asked for: the request's remote and local. */
function requestAddresses(request: TcpRequest): Uint32Array {
  const words = new Uint32Array(10);
  request.remote.write(words, 0);
  request.local.write(words, 1);
  return words;
}
