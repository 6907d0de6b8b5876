/**
 * A userspace TCP/IP stack for one session: it ends TCP flows to any address and port, opens flows of its own, and passes
 * UDP and ICMP echo through.
 *
 *   packets ─ handlePacket ─► ┌───────┐ ─ handlers: onSyn, onData, onUdp, onEcho ─► application
 *   packets ◄── sink ─ flush ─┤ Stack │ ◄─ connect, accept, write, pull, sendUdp ── application
 *                             └───────┘ ◄─ pollTimeout / handleTimeout ─ time
 *
 * Order for a driver, per turn: `handlePacket` for each packet, commands, `handleTimeout(now)` when due, then `flush(now)`
 * once: acknowledgements and data leave there; then wait until `pollTimeout()`. A driver whose session has no link calls
 * none of them (time stands still for the flows) and calls `kick(now)` when a link is back.
 */
import { ADDRESS_WORDS, type SocketAddress } from '../base/address.js';
import { TokenBucket } from '../base/bucket.js';
import { Drop, type DropReason } from '../base/drop.js';
import { SallyportError } from '../base/error.js';
import { earliest, type Instant, instantAt, later } from '../base/time.js';
import { type Timer, TimerQueue } from '../base/timers.js';
import type { Arena } from '../wire/arena.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import { PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP } from '../wire/ip.js';
import { verifyChecksums } from '../wire/verify.js';
import { BufferPool } from './buffer-pool.js';
import { BufferStore } from './buffer-store.js';
import { Count, createStackCounters, type StackCounters } from './counters.js';
import { FLOW_WORDS } from './flow.js';
import { FlowTable } from './flow-table.js';
import { Icmp } from './icmp.js';
import { IpOutput } from './ip-output.js';
import { DEFAULT_LIMITS, type StackLimits, type StackOptions } from './options.js';
import { Reassembler } from './reassembly.js';
import { TcpConnection } from './tcp/connection.js';
import { TcpEmitter } from './tcp/emit.js';
import { openActive, openPassive } from './tcp/handshake.js';
import type { TcpHost } from './tcp/host.js';
import { InitialSequence } from './tcp/isn.js';
import { DEFAULT_TCP_OPTIONS, type TcpOptions } from './tcp/options.js';
import { transmit } from './tcp/output.js';
import { parseSegment } from './tcp/parse.js';
import { type RequestHost, TcpRequest } from './tcp/request.js';
import { ACK, RST, Segment, SYN } from './tcp/segment.js';
import { seqAfter } from './tcp/sequence.js';
import { State } from './tcp/state.js';
import type { Rejection, StackHandlers, TcpHandlers } from './types.js';
import { Udp } from './udp.js';

/** Ports `connect` chooses from (RFC 6335 §6: dynamic ports). */
const FIRST_PORT = 49_152;
const PORTS = 65_536 - FIRST_PORT;

export class Stack implements TcpHost, RequestHost {
  readonly options: TcpOptions;
  readonly limits: StackLimits;
  readonly mtu: number;
  readonly counters: StackCounters;
  readonly counts: Float64Array;
  readonly pool: BufferPool;
  readonly emitter: TcpEmitter;
  now: Instant = instantAt(0);
  readonly #handlers: StackHandlers;
  readonly #setup: StackOptions;
  readonly #flows: FlowTable;
  readonly #timers = new TimerQueue();
  readonly #isn: InitialSequence;
  readonly #packet = new ParsedPacket();
  readonly #segment = new Segment();
  readonly #key = new Uint32Array(FLOW_WORDS);
  readonly #reassembler: Reassembler;
  readonly #output: IpOutput;
  readonly #udp: Udp;
  readonly #icmp: Icmp;
  readonly #challenges: TokenBucket;
  readonly #errors: TokenBucket;
  /** Connections to serve at the next flush; the spare list takes what comes up during one. */
  #scheduled: TcpConnection[] = [];
  #serving: TcpConnection[] = [];
  #pending = 0;
  #connections = 0;
  /** Pending requests, oldest first, for expiry. */
  readonly #requests: TcpRequest[] = [];

  constructor(options: StackOptions) {
    if (!(options.mtu >= 576 && options.mtu <= 65_535)) {
      throw new SallyportError('caller', 'STACK_MTU', `MTU ${options.mtu} is not between 576 and 65535`);
    }
    this.#setup = options;
    this.options = { ...DEFAULT_TCP_OPTIONS, ...options.tcp };
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.mtu = options.mtu;
    this.counters = options.counters ?? createStackCounters();
    this.counts = this.counters.stack.values;
    const store = options.buffers ?? new BufferStore(this.limits.retainedBytes);
    this.pool = new BufferPool(store, this.limits.bufferBytes);
    this.emitter = new TcpEmitter(options.sink, this.counts);
    this.#handlers = options.handlers;
    this.#flows = new FlowTable(options.entropy.uint32());
    this.#isn = new InitialSequence(options.crypto, options.entropy);
    this.#challenges = new TokenBucket(this.limits.challengeRate, this.limits.challengeRate);
    this.#errors = new TokenBucket(this.limits.errorRate, this.limits.errorBurst);
    this.#reassembler = new Reassembler(this.limits, (first) => this.#icmp.reportLate(this.now, first));
    this.#output = new IpOutput(options.sink, this.mtu, this.counts, options.entropy);
    this.#icmp = new Icmp(this.#handlers, this.#flows, this.#output, this.counts, this.#errors);
    this.#udp = new Udp(this.#handlers, this.#output, this.counts, (packet, arena, how) =>
      this.#icmp.report(this.now, arena.bytes, packet, how),
    );
  }

  /** TCP flows in the table: connections in any state and pending requests. */
  get flows(): number {
    return this.#flows.size;
  }

  /**
   * One IP packet of `length` bytes, or a run of equal TCP segments (or datagrams) coalesced into one of up to 65,535:
   * then `segmentSize` is the payload size of its parts (0 = a single packet). `checked`: the checksums are known to be
   * right. Returns why it was dropped, `Drop.none` when it was not; drops are counted here. Never throws.
   */
  handlePacket(
    now: Instant,
    arena: Arena,
    offset: number,
    length: number,
    segmentSize = 0,
    checked = false,
  ): DropReason {
    this.now = now;
    const packet = this.#packet;
    this.counts[Count.packets_in]++;
    this.counts[Count.bytes_in] += length;
    let drop = parsePacket(arena.bytes, offset, length, packet);
    if (drop === Drop.none) drop = this.#dispatch(now, arena, packet, segmentSize, checked);
    if (drop !== Drop.none) this.counters.drops.values[drop]++;
    return drop;
  }

  /** Sends what is due: call once at the end of a batch of packets and commands. */
  flush(now: Instant): void {
    this.now = now;
    while (this.#scheduled.length > 0) {
      const serving = this.#scheduled;
      this.#scheduled = this.#serving;
      this.#serving = serving;
      for (const connection of serving) {
        connection.scheduled = false;
        transmit(connection, now);
      }
      serving.length = 0;
    }
  }

  /** When `handleTimeout` wants to be called; undefined = not by itself. */
  pollTimeout(): Instant | undefined {
    const next = earliest(this.#timers.next(), this.#reassembler.nextExpiry());
    const oldest = this.#requests[0];
    if (oldest === undefined) return next;
    const due = later(oldest.arrived, this.limits.pendingTime);
    return earliest(next, due);
  }

  /** Does what is due at `now`; packets leave at the `flush` that follows. */
  handleTimeout(now: Instant): void {
    this.now = now;
    this.#timers.expire(now);
    this.#expireFragments(now);
    for (let r = this.#requests[0]; r !== undefined; r = this.#requests[0]) {
      if (r.isPending && r.arrived + this.limits.pendingTime > now) break;
      if (r.isPending) r.cancel();
      else this.#requests.shift();
    }
  }

  /** A link is back after a pause: every flow with data outstanding sends again at once, with its back-off forgotten. */
  kick(now: Instant): void {
    this.now = now;
    this.#flows.forEach((flow) => {
      if (flow instanceof TcpConnection) flow.kick(now);
    });
  }

  /**
   * Opens a connection; the SYN leaves at the next flush. `from` defaults to the stack's own address of that family and a
   * free port. Throws STACK_NO_ADDRESS, STACK_NO_PORT or STACK_FLOW_EXISTS (kind `caller`).
   */
  connect(now: Instant, to: SocketAddress, handlers: TcpHandlers, from?: SocketAddress): TcpConnection {
    this.now = now;
    const words = new Uint32Array(FLOW_WORDS);
    to.write(words, 1);
    if (from !== undefined) {
      from.write(words, 0);
      if (this.#flows.find(words) !== undefined) {
        throw new SallyportError('caller', 'STACK_FLOW_EXISTS', `a flow from ${from} to ${to} exists`);
      }
    } else this.#choosePort(words, to);
    const connection = new TcpConnection(words, this);
    connection.setHandlers(handlers);
    this.#admit(connection);
    openActive(connection, now, this.#isn);
    return connection;
  }

  /**
   * Sends a datagram from the packed address at index `from` of `addresses` to that at `to`, fragmented when it exceeds the
   * MTU. `too_big`: longer than UDP can say (65,507 bytes of payload in IPv4, 65,527 in IPv6); `bad_address`: families differ.
   */
  sendUdp(
    now: Instant,
    addresses: Uint32Array,
    from: number,
    to: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): DropReason {
    this.now = now;
    return this.#udp.send(addresses, from, to, bytes, offset, length);
  }

  /** Refuses a datagram of `length` bytes that came some time ago from index 0 to index 1 of `addresses`. */
  rejectUdp(now: Instant, addresses: Uint32Array, length: number, how: Rejection): void {
    this.now = now;
    this.#icmp.reportUdp(now, addresses, length, how);
  }

  /** Answers an echo request; the arguments are those of `onEcho`, the data may differ. */
  sendEchoReply(
    now: Instant,
    addresses: Uint32Array,
    identifier: number,
    sequence: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): DropReason {
    this.now = now;
    return this.#icmp.reply(addresses, identifier, sequence, bytes, offset, length);
  }

  // ---- for connections and requests

  schedule(connection: TcpConnection): void {
    if (connection.scheduled) return;
    connection.scheduled = true;
    this.#scheduled.push(connection);
  }

  armNoLater(timer: Timer, at: Instant): void {
    this.#timers.armNoLater(timer, at);
  }

  forget(connection: TcpConnection): void {
    this.#timers.cancel(connection.timer);
    if (connection.slot >= 0) this.#connections--;
    this.#flows.remove(connection);
  }

  mayChallenge(now: Instant): boolean {
    return this.#challenges.take(now);
  }

  acceptRequest(request: TcpRequest, handlers: TcpHandlers): TcpConnection {
    this.cancelRequest(request);
    const connection = new TcpConnection(request.words, this);
    connection.setHandlers(handlers);
    connection.context = request.context;
    this.#admit(connection);
    openPassive(connection, this.now, this.#isn, request.syn);
    return connection;
  }

  rejectRequest(request: TcpRequest, how: Rejection): void {
    this.cancelRequest(request);
    this.counts[Count.tcp_requests_rejected]++;
    if (how === 'reset') this.emitter.reset(request.words, 0, (request.syn.seq + 1) | 0, true);
    else this.#icmp.reportSyn(this.now, request.words, request.syn.seq, how);
  }

  cancelRequest(request: TcpRequest): void {
    this.#flows.remove(request);
    this.#pending--;
    const at = this.#requests.indexOf(request);
    if (at >= 0) this.#requests.splice(at, 1);
  }

  // ---- input

  #dispatch(now: Instant, arena: Arena, packet: ParsedPacket, segmentSize: number, checked: boolean): DropReason {
    if (!isUnicast(packet)) return Drop.bad_address;
    if (!checked) {
      const drop = verifyChecksums(arena, packet);
      if (drop !== Drop.none) return drop;
    }
    if (packet.hasOptions && packet.family === 6) {
      const drop = this.#icmp.judge(now, arena.bytes, packet);
      if (drop !== Drop.none) return drop;
    }
    if (packet.isFragment) return this.#fragment(now, arena, packet);
    switch (packet.protocol) {
      case PROTO_TCP:
        return this.#tcp(now, arena, packet, segmentSize);
      case PROTO_UDP:
        return this.#udp.receive(arena, packet, segmentSize);
      case PROTO_ICMP:
      case PROTO_ICMPV6:
        if ((packet.family === 4) !== (packet.protocol === PROTO_ICMP)) return Drop.protocol_not_allowed;
        return this.#icmp.receive(now, arena, packet);
      default:
        this.#icmp.reportProtocol(now, arena.bytes, packet);
        return Drop.protocol_not_allowed;
    }
  }

  #fragment(now: Instant, arena: Arena, packet: ParsedPacket): DropReason {
    const r = this.#reassembler;
    this.counts[Count.fragments_in]++;
    this.#expireFragments(now);
    const drop = r.add(now, arena.bytes, packet);
    const whole = r.packet;
    if (drop !== Drop.none || whole === undefined) return drop;
    r.packet = undefined;
    this.counts[Count.reassembled]++;
    const broken = parsePacket(whole.bytes, 0, r.length, packet);
    return broken !== Drop.none ? broken : this.#dispatch(now, whole, packet, 0, false);
  }

  #expireFragments(now: Instant): void {
    const expired = this.#reassembler.expire(now);
    if (expired > 0) this.counters.drops.values[Drop.reassembly_timeout] += expired;
  }

  #tcp(now: Instant, arena: Arena, packet: ParsedPacket, segmentSize: number): DropReason {
    const parts = segmentSize > 0 ? Math.max(Math.ceil(packet.payloadLength / segmentSize), 1) : 1;
    this.counts[Count.tcp_segments_in] += parts;
    const seg = this.#segment;
    parseSegment(arena.bytes, packet, parts, seg);
    const key = this.#key;
    keyOf(packet, key);
    const flow = this.#flows.find(key);
    if (flow === undefined) return this.#unknown(now, key, seg);
    if ((seg.flags & (SYN | ACK | RST)) === SYN && flow instanceof TcpConnection && mayReplace(flow, seg)) {
      flow.close('finished');
      return this.#unknown(now, key, seg);
    }
    flow.segment(now, seg);
    return Drop.none;
  }

  /** RFC 9293 §3.10.7.1–2: no such connection; a SYN becomes a request, anything else is reset. */
  #unknown(now: Instant, key: Uint32Array, seg: Segment): DropReason {
    if ((seg.flags & RST) !== 0) return Drop.none;
    if ((seg.flags & (SYN | ACK)) === SYN && this.#handlers.onSyn !== undefined) {
      this.counts[Count.tcp_requests]++;
      if (this.#pending >= this.limits.pendingRequests || this.#connections >= this.limits.connections) {
        this.counts[Count.tcp_requests_refused]++;
        return Drop.flow_limit;
      }
      const request = new TcpRequest(key.slice(), seg, now, this);
      this.#flows.add(request);
      this.#pending++;
      this.#requests.push(request);
      this.#handlers.onSyn(request);
      return Drop.none;
    }
    if (!this.#errors.take(now)) return Drop.rate_limited;
    if ((seg.flags & ACK) !== 0) this.emitter.reset(key, seg.ack, 0, false);
    else this.emitter.reset(key, 0, (seg.seq + seg.space) | 0, true);
    return Drop.none;
  }

  #admit(connection: TcpConnection): void {
    this.#flows.add(connection);
    this.#connections++;
  }

  #choosePort(words: Uint32Array, to: SocketAddress): void {
    const local = to.ip.isV4 ? this.#setup.localV4 : this.#setup.localV6;
    if (local === undefined) {
      throw new SallyportError('caller', 'STACK_NO_ADDRESS', `the stack has no IPv${to.ip.family} address`);
    }
    words[0] = local.w0;
    words[1] = local.w1;
    words[2] = local.w2;
    words[3] = local.w3;
    // RFC 6056 §3.3.1: start anywhere, take the first port free for this destination.
    const start = this.#setup.entropy.uint32() % PORTS;
    for (let i = 0; i < PORTS; i++) {
      words[4] = FIRST_PORT + ((start + i) % PORTS);
      if (this.#flows.find(words) === undefined) return;
    }
    throw new SallyportError('caller', 'STACK_NO_PORT', `no free port towards ${to}`);
  }
}

/** The key of a packet's flow, seen from here: its destination is local. */
function keyOf(packet: ParsedPacket, key: Uint32Array): void {
  key[0] = packet.destination0;
  key[1] = packet.destination1;
  key[2] = packet.destination2;
  key[3] = packet.destination3;
  key[4] = packet.destinationPort;
  key[ADDRESS_WORDS] = packet.source0;
  key[ADDRESS_WORDS + 1] = packet.source1;
  key[ADDRESS_WORDS + 2] = packet.source2;
  key[ADDRESS_WORDS + 3] = packet.source3;
  key[ADDRESS_WORDS + 4] = packet.sourcePort;
}

/**
 * Both addresses are single hosts'. An IPv4-mapped address in an IPv6 packet is refused too: it would be taken for the
 * IPv4 flow of the same number (RFC 4942 §2.2).
 */
function isUnicast(p: ParsedPacket): boolean {
  if (p.family === 4) return isHostV4(p.source3) && isHostV4(p.destination3);
  return (
    isHostV6(p.source0, p.source1, p.source2, p.source3) &&
    isHostV6(p.destination0, p.destination1, p.destination2, p.destination3)
  );
}

/** Not 0/8, loopback, multicast, reserved or broadcast. */
function isHostV4(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

/** Not multicast, unspecified, loopback or IPv4-mapped. */
function isHostV6(w0: number, w1: number, w2: number, w3: number): boolean {
  if (w0 >>> 24 === 0xff) return false;
  return w0 !== 0 || w1 !== 0 || (w2 === 0 ? w3 > 1 : w2 !== 0xffff);
}

/** RFC 9293 §3.10.7.4 and RFC 6191: a SYN newer than what TIME-WAIT remembers begins a new connection. */
function mayReplace(connection: TcpConnection, seg: Segment): boolean {
  if (connection.state !== State.timeWait) return false;
  connection.wake();
  if (connection.receiver.ring.length > 0) return false;
  if (connection.timestamps && seg.options.hasTimestamps && seqAfter(seg.timestamp, connection.recent)) return true;
  return seqAfter(seg.seq, connection.receiver.nxt);
}
