/**
 * The TCP flows of one session that end here: each SYN is routed, its backend dialled, and only then answered.
 *
 *   SYN ─► routed ─► dialling ──connected──► SYN-ACK, bridged ─► closed
 *            │           ├─ refused ──► RST
 *            │           ├─ unreachable ──► ICMP
 *            │           └─ timeout ──► silence
 *            └ not allowed, too many ──► ICMP admin-prohibited, RST
 */
import type { Counters } from '../base/counters.js';
import { type Instant, later } from '../base/time.js';
import type { TcpRequest } from '../netstack/tcp/request.js';
import type { CloseReason, Rejection, TcpHandlers } from '../netstack/types.js';
import {
  ECONNREFUSED,
  ECONNRESET,
  ENETUNREACH,
  ETIMEDOUT,
  type Reactor,
  type Sockets,
  type TcpStream,
  type Watch,
  WRITABLE,
} from '../os/io.js';
import { type FlowCounter, type FlowLimits, type FlowRouter, type FlowTarget, PROTOCOL_TCP } from './flow-options.js';
import { TcpBridge } from './tcp-bridge.js';

export interface FlowHost {
  readonly reactor: Reactor;
  readonly sockets: Sockets;
  readonly router: FlowRouter;
  readonly limits: FlowLimits;
  readonly counters: Counters<FlowCounter>;
  /** Whether one more new flow is within the session's rate. */
  admitNew(now: Instant): boolean;
  /** The session's stack has something to send. */
  onActivity(): void;
}

/** One flow for `status`. */
export interface TcpFlowInfo {
  readonly service: string;
  readonly client: string;
  readonly destination: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** A flow whose backend is being dialled. */
interface DiallingFlow {
  readonly target: FlowTarget;
  readonly words: Uint32Array;
  readonly request: TcpRequest;
  readonly stream: TcpStream;
}

interface OpenFlow {
  readonly target: FlowTarget;
  readonly words: Uint32Array;
  readonly bridge: TcpBridge;
  readonly info: () => TcpFlowInfo;
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

  get flows(): TcpFlowInfo[] {
    return [...this.#open.values()].map((flow) => flow.info());
  }

  onSyn(now: Instant, request: TcpRequest): void {
    const host = this.#host;
    const addresses = requestAddresses(request);
    const target = host.router.route(PROTOCOL_TCP, addresses);
    if (target === undefined) {
      host.counters.add('flow_denied');
      request.reject('admin-prohibited');
    } else if (this.size >= host.limits.tcpFlows || this.#dialling.size >= host.limits.tcpDials) {
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

  #dial(now: Instant, request: TcpRequest, target: FlowTarget, words: Uint32Array): void {
    const host = this.#host;
    let stream: TcpStream;
    try {
      stream = host.sockets.connect(target.address!);
    } catch {
      host.counters.add('tcp_dial_unreachable');
      request.reject('host-unreachable');
      return;
    }
    const dial = new Dial(host, now, stream, (result) => {
      this.#dialling.delete(dial);
      if (result === 0) this.#established(request, stream, target, words);
      else {
        stream.close();
        host.counters.add(counterOf(result));
        request.reject(rejectionOf(result));
        host.onActivity();
      }
    });
    this.#dialling.set(dial, { target, words, request, stream });
    request.onCancelled = () => {
      if (!this.#dialling.delete(dial)) return;
      dial.cancel();
      stream.abort();
    };
  }

  #established(request: TcpRequest, stream: TcpStream, target: FlowTarget, words: Uint32Array): void {
    const host = this.#host;
    const connection = request.accept(WAITING);
    if (connection === undefined) {
      stream.abort();
      return;
    }
    const bridge = new TcpBridge(host.reactor, connection, stream, {
      onActivity: () => host.onActivity(),
      onBridgeClosed: (closed: TcpBridge, _reason: CloseReason) => {
        this.#open.delete(closed);
        host.counters.add('tcp_closed');
      },
    });
    const info = (): TcpFlowInfo => ({
      service: target.service,
      client: connection.remote.toString(),
      destination: connection.local.toString(),
      bytesIn: bridge.bytesIn,
      bytesOut: bridge.bytesOut,
    });
    this.#open.set(bridge, { target, words, bridge, info });
    host.counters.add('tcp_opened');
    host.onActivity();
  }

  /** Asks the router again about every flow and resets those that it no longer routes to the same service. */
  reevaluate(): void {
    for (const flow of [...this.#open.values()]) {
      const target = this.#host.router.route(PROTOCOL_TCP, flow.words);
      if (target?.service !== flow.target.service) flow.bridge.abort();
    }
    for (const [dial, flow] of [...this.#dialling]) {
      const target = this.#host.router.route(PROTOCOL_TCP, flow.words);
      if (target?.service !== flow.target.service) this.#giveUp(dial, flow, 'admin-prohibited');
    }
  }

  #giveUp(dial: Dial, flow: DiallingFlow, how: Rejection): void {
    this.#dialling.delete(dial);
    dial.cancel();
    flow.stream.abort();
    flow.request.reject(how);
  }

  /** Resets every flow and stops every dial. */
  close(): void {
    for (const [dial, flow] of [...this.#dialling]) this.#giveUp(dial, flow, 'reset');
    for (const bridge of [...this.#open.keys()]) bridge.abort();
  }
}

/** A connection attempt to a backend, with its time limit. */
class Dial {
  readonly #watch: Watch;
  readonly #stopTimer: () => void;
  #over = false;

  constructor(host: FlowHost, now: Instant, stream: TcpStream, done: (result: number) => void) {
    const finish = (result: number): void => {
      if (this.#over) return;
      this.cancel();
      done(result);
    };
    this.#watch = host.reactor.watch(stream.fd, WRITABLE, () => finish(stream.connectResult()));
    this.#stopTimer = host.reactor.at(later(now, host.limits.dialTimeout), () => finish(-ETIMEDOUT));
  }

  cancel(): void {
    this.#over = true;
    this.#watch.close();
    this.#stopTimer();
  }
}

/** Until the bridge stands nothing is taken. */
const WAITING: TcpHandlers = { onData: () => 0, onClosed: () => {} };

/** Source = the client, destination = the address it asked for: the request's remote and local. */
function requestAddresses(request: TcpRequest): Uint32Array {
  const words = new Uint32Array(10);
  request.remote.write(words, 0);
  request.local.write(words, 1);
  return words;
}

function counterOf(result: number): FlowCounter {
  if (result === -ECONNREFUSED || result === -ECONNRESET) return 'tcp_dial_refused';
  return result === -ETIMEDOUT ? 'tcp_dial_timeout' : 'tcp_dial_unreachable';
}

function rejectionOf(result: number): Rejection {
  if (result === -ECONNREFUSED || result === -ECONNRESET) return 'reset';
  if (result === -ETIMEDOUT) return 'ignore';
  return result === -ENETUNREACH ? 'net-unreachable' : 'host-unreachable';
}
