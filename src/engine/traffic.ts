/**
 * What the engine itself decides and learns about flows, in front of the host's hooks:
 *
 *   flow ─► port 53, ours? ─► the resolver answers
 *     └─► fake address without a name? ─► refused
 *     └─► name of the address ─► rules ─► the host's hook ─► dialled; its first bytes tell its own name ─► rules again
 *
 * A flow whose own name a rule does not allow ends as soon as it has said it.
 */
import { type IpAddress, SocketAddress } from '../base/address.js';
import { Counters } from '../base/counters.js';
import type { Crypto } from '../base/crypto.js';
import { Drop } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import type { Duration } from '../base/time.js';
import type { Stack } from '../netstack/stack.js';
import type { Reactor, TlsClient } from '../os/io.js';
import { ParsedPacket, parsePacket } from '../wire/inner.js';
import type { Dialer } from './dialer.js';
import type { FakeIpPool } from './dns/fake-ip.js';
import { FlowDialer } from './dns/flow-dialer.js';
import { type DnsHook, Resolver } from './dns/resolver.js';
import { type DnsMode, DnsService } from './dns/service.js';
import { DnsTcpService } from './dns/tcp-service.js';
import { checkTls, withTls } from './dns/tls-dialer.js';
import { DNS_COUNTERS, type DnsDialer } from './dns/transport.js';
import type { DnsServer } from './dns/upstream.js';
import type { Hold } from './flow-options.js';
import { type EngineHooks, type FlowDecision, type FlowRequest, flowProtocol, type HookFailed } from './hooks.js';
import type { TrafficCounts } from './metrics.js';
import { type FlowName, NameTracker } from './names/tracker.js';
import { isRefusal, refusalOf } from './rules/refusal.js';
import { formatRule, type Rule, type RuleShape } from './rules/rule.js';
import { type RuleHits, RuleSet } from './rules/rule-set.js';
import type { FlowShape } from './shaping/rate.js';
import { EventStream, type FlowEvent } from './taps/events.js';

/** Live flows whose names are remembered; the one begun longest ago is forgotten first. */
const FLOWS_MAX = 16_384;
/** Events that wait for whoever logs them. */
const EVENTS_MAX = 1024;

export interface TrafficParts {
  readonly reactor: Reactor;
  /** The resolver's questions leave by it. */
  readonly dialer: Dialer;
  readonly entropy: Entropy;
  readonly crypto: Crypto;
  readonly tracker?: NameTracker;
  readonly rules?: RuleSet;
  readonly dns?: DnsParts | undefined;
  /** False: nobody takes events of flows, so none are made. Default true. */
  readonly hasListener?: boolean;
}

export interface DnsParts {
  readonly mode: DnsMode;
  readonly servers: readonly DnsServer[];
  /** Ours inside: queries to them are answered. */
  readonly addresses: readonly IpAddress[];
  readonly hook?: DnsHook;
  readonly staleTime?: Duration;
  readonly pool?: FakeIpPool;
  /** Streams inside TLS, where the host has them. */
  readonly tls?: TlsClient;
}

interface FlowState {
  readonly name: FlowName;
  /** Its name was told to the host when it began. */
  isTold: boolean;
  /** What decided about it last. */
  rule: Rule | undefined;
  /** It has said what may change that, and is about to be judged again. */
  isJudging: boolean;
}

/** The parts of the engine's core that are needed here. */
interface TrafficHost {
  readonly flows: { readonly stack: Stack };
  readonly hookFailed: HookFailed;
  reevaluate(only?: FlowRequest): void;
}

export class Traffic {
  readonly tracker: NameTracker;
  readonly events = new EventStream(EVENTS_MAX);
  readonly resolver: Resolver | undefined;
  readonly #parts: TrafficParts;
  readonly #dnsCounters = new Counters(DNS_COUNTERS);
  readonly #service: DnsService | undefined;
  readonly #tcpService: DnsTcpService | undefined;
  readonly #flows = new Map<string, FlowState>();
  readonly #names: Record<string, number> = {};
  readonly #decisions: Record<string, number> = {};
  readonly #packet = new ParsedPacket();
  #rules: RuleSet;
  #host: TrafficHost | undefined;
  #onMetadata: EngineHooks['onMetadata'];
  #isJudgingAgain = false;

  constructor(parts: TrafficParts) {
    this.#parts = parts;
    this.#rules = parts.rules ?? new RuleSet();
    const { reactor, dns, entropy } = parts;
    this.tracker = parts.tracker ?? new NameTracker({ crypto: parts.crypto });
    if (dns === undefined || dns.mode === 'off') return;
    checkTls(dns.servers, dns.tls);
    const dialer: DnsDialer = new FlowDialer(reactor, parts.dialer);
    const shared = { timers: reactor, counters: this.#dnsCounters, tracker: this.tracker };
    this.resolver = new Resolver({
      ...shared,
      dialer: dns.tls === undefined ? dialer : withTls(dialer, reactor, dns.tls),
      entropy,
      servers: dns.servers,
      ...(dns.hook === undefined ? {} : { hook: dns.hook }),
      ...(dns.staleTime === undefined ? {} : { staleTime: dns.staleTime }),
    });
    this.#service = new DnsService({
      ...shared,
      mode: dns.mode,
      addresses: dns.addresses,
      resolver: this.resolver,
      ...(dns.pool === undefined ? {} : { pool: dns.pool }),
    });
    this.#tcpService = new DnsTcpService(this.#service, reactor);
  }

  get counts(): TrafficCounts {
    const dns: Record<string, number> = {};
    for (const [name, value] of Object.entries(this.#dnsCounters.snapshot())) dns[name.slice('dns_'.length)] = value;
    return {
      names: { ...this.#names },
      rules: { ...this.#decisions },
      dns,
      dnsLatency: this.resolver?.latency,
      eventsDropped: this.events.dropped,
    };
  }

  /** How often each rule decided since there is this set. */
  get ruleHits(): readonly RuleHits[] {
    return this.#rules.decided();
  }

  /** Other rules from now on, for live flows too: those that are refused end, the others are held back as the rules say now. */
  setRules(rules: RuleSet): void {
    this.#rules = rules;
    this.#host?.reevaluate();
  }

  /** The host's hooks with what is decided here before them. */
  join(hooks: EngineHooks, host: TrafficHost): EngineHooks {
    this.#host = host;
    this.#onMetadata = hooks.onMetadata;
    return { ...hooks, onFlow: (flow) => this.#onFlow(flow, hooks) };
  }

  /** Live flows are asked about by `ask`: with the names they have by now. */
  judgeAgain(ask: () => void): void {
    this.#isJudgingAgain = true;
    try {
      ask();
    } finally {
      this.#isJudgingAgain = false;
    }
  }

  /** The name of the flow that a packet belongs to, as logs show it; empty when there is none. */
  labelOf(toEngine: boolean, bytes: Uint8Array, offset: number, length: number): string {
    const packet = this.#packet;
    if (parsePacket(bytes, offset, length, packet) !== Drop.none) return '';
    const p = packet;
    const ends = new Uint32Array(10);
    ends.set([p.source0, p.source1, p.source2, p.source3, p.sourcePort]);
    ends.set([p.destination0, p.destination1, p.destination2, p.destination3, p.destinationPort], 5);
    const source = SocketAddress.read(ends, toEngine ? 0 : 1);
    const destination = SocketAddress.read(ends, toEngine ? 1 : 0);
    return this.nameOf({ protocol: flowProtocol(p.protocol), source, destination });
  }

  /** The name of a live flow, as logs show it; empty when there is none. */
  nameOf(flow: FlowRequest): string {
    return this.#flows.get(keyOf(flow))?.name.toString() ?? '';
  }

  pathChanged(): void {
    this.resolver?.pathChanged();
  }

  close(): void {
    this.resolver?.close();
    this.#flows.clear();
  }

  #onFlow(flow: FlowRequest, hooks: EngineHooks): FlowDecision | undefined {
    const { protocol, destination } = flow;
    if (protocol !== 'icmp' && this.#service?.intercepts(destination) === true) return this.#serveDns(this.#service);
    const pool = this.#parts.dns?.pool;
    if (pool?.isFake(destination.ip) === true && pool.hostOf(destination.ip) === undefined) {
      return { action: 'block', how: 'host-unreachable' };
    }
    const key = keyOf(flow);
    const state = this.#stateOf(flow, key);
    const rule = this.#judge(flow, state);
    state.isJudging = false;
    if (rule !== undefined && isRefusal(rule)) return { action: 'block', how: refusalOf(rule, protocol) };
    const decision = hooks.onFlow?.(flow) ?? { action: 'allow' };
    if (decision.action === 'block') this.#tell('refused', flow, state.name, undefined);
    if (decision.action !== 'allow') return decision;
    const shape = rule?.shape && shapeOf(rule.shape, formatRule(rule), state.name, flow);
    // What a flow calls itself may be refused: until then none of it leaves.
    const hold = (): Hold => {
      if (state.isJudging) return 'judging';
      if (this.#rules.namesMatter && state.name.isWatching) return 'watching';
      return decision.hold?.() ?? 'none';
    };
    const allowed = { ...decision, ...(shape === undefined ? {} : { shape }), hold };
    if (this.#isJudgingAgain) return allowed;
    this.#tell('opened', flow, state.name, rule);
    if (state.name.name !== undefined && !state.isTold) this.#report(flow, state.name);
    state.isTold = true;
    const { tap: hostTap, onClosed } = decision;
    const watches = protocol !== 'icmp';
    return {
      ...allowed,
      tap: (toHost, bytes, offset, length) => {
        const hostWants = hostTap?.(toHost, bytes, offset, length) === true;
        if (watches && toHost) this.#learn(flow, state, bytes, offset, length);
        return hostWants || (watches && state.name.isWatching);
      },
      onClosed: (reason, bytesIn, bytesOut) => {
        if (this.#flows.get(key) === state) this.#flows.delete(key);
        this.#tell('closed', flow, state.name, undefined, { bytesIn, bytesOut });
        onClosed?.(reason, bytesIn, bytesOut);
      },
    };
  }

  /** What is known of a flow: of a live one, or of the same client port and destination over UDP, what it has said. */
  #stateOf(flow: FlowRequest, key: string): FlowState {
    const old = this.#flows.get(key);
    if (old !== undefined && (this.#isJudgingAgain || flow.protocol === 'udp')) return old;
    const name = this.tracker.follow(this.#parts.reactor.now(), flow.destination.ip);
    const state: FlowState = { name, isTold: false, rule: undefined, isJudging: false };
    this.#flows.delete(key);
    this.#flows.set(key, state);
    if (this.#flows.size > FLOWS_MAX) this.#flows.delete(this.#flows.keys().next().value!);
    return state;
  }

  #learn(flow: FlowRequest, state: FlowState, bytes: Uint8Array, offset: number, length: number): void {
    const { name } = state;
    if (!name.isWatching) return;
    const now = this.#parts.reactor.now();
    const hasChanged =
      flow.protocol === 'tcp' ? name.onStream(now, bytes, offset, length) : name.onDatagram(now, bytes, offset, length);
    if (name.hello !== undefined) {
      if (name.name !== undefined) increment(this.#names, name.name.source);
      this.#report(flow, name);
    }
    if (hasChanged) this.#tell('named', flow, name, undefined);
    // Its first datagrams may wait for this.
    const mayBeHeld = name.isQuic && !name.isWatching && this.#rules.namesMatter;
    if (!mayBeHeld) {
      if (!hasChanged) return;
      const rule = this.#ruleFor(flow, name);
      const changesNothing = !isRefusal(rule) && rule?.shape === undefined && state.rule?.shape === undefined;
      if (rule === state.rule || changesNothing) return;
    }
    // Not within the flow's own call: it may end.
    state.isJudging = true;
    this.#parts.reactor.at(now, () => this.#host?.reevaluate(flow));
  }

  #ruleFor(flow: FlowRequest, name: FlowName): Rule | undefined {
    const index = this.#rules.find(judged(flow, name));
    return index < 0 ? undefined : this.#rules.rules[index];
  }

  /** Tells the host what is known of a flow. */
  #report(flow: FlowRequest, { name, hello, quicVersion }: FlowName): void {
    if (this.#onMetadata === undefined) return;
    const { protocol, source, destination } = flow;
    try {
      this.#onMetadata({
        protocol,
        source,
        destination,
        host: name?.host,
        outer: name?.outer ?? false,
        nameSource: name?.source,
        hello: hello && { ...hello, quicVersion },
      });
    } catch (error) {
      this.#host?.hookFailed('onMetadata', error);
    }
  }

  #judge(flow: FlowRequest, state: FlowState): Rule | undefined {
    const index = this.#rules.find(judged(flow, state.name));
    const rule = index < 0 ? undefined : this.#rules.rules[index];
    const before = state.rule;
    state.rule = rule;
    if (rule === undefined) return undefined;
    const isRefused = isRefusal(rule);
    const isNew = !this.#isJudgingAgain || isRefused;
    // A live flow that stays with its rule was counted when it began, and one that is treated alike has been decided about.
    if (isNew || rule !== before) this.#rules.hits[index]!++;
    if (isNew || rule.action !== before?.action) increment(this.#decisions, rule.action);
    if (isRefused) this.#tell('refused', flow, state.name, rule);
    return rule;
  }

  #serveDns(service: DnsService): FlowDecision {
    return {
      action: 'serve',
      tcp: this.#tcpService!.serve,
      udp: (addresses, bytes, offset, length) => {
        const words = addresses.slice(0, 10);
        service.onQuery(bytes.slice(offset, offset + length), false, (answer) => {
          this.#host?.flows.stack.sendUdp(this.#parts.reactor.now(), words, 1, 0, answer, 0, answer.length);
        });
      },
    };
  }

  #tell(
    kind: FlowEvent['kind'],
    flow: FlowRequest,
    name: FlowName,
    rule: Rule | undefined,
    bytes?: { readonly bytesIn: number; readonly bytesOut: number },
  ): void {
    if (this.#parts.hasListener === false || !this.events.admits()) return;
    this.events.push({
      at: this.#parts.reactor.now(),
      kind,
      protocol: flow.protocol,
      source: flow.source.toString(),
      destination: flow.destination.toString(),
      name: name.toString(),
      rule: rule === undefined ? '' : formatRule(rule),
      ...bytes,
    });
  }
}

/** What a rule holds a flow to, with the key of those that share its rates. */
function shapeOf(rule: RuleShape, text: string, { name }: FlowName, { destination }: FlowRequest): FlowShape {
  const { per, ...shape } = rule;
  const key = { rule: text, host: `${text} ${name?.host ?? destination.ip}`, flow: undefined }[per];
  return { ...shape, key };
}

function judged(flow: FlowRequest, { name }: FlowName) {
  const { protocol, destination } = flow;
  // The name in front of an encrypted hello is not where the flow goes.
  const host = name === undefined || name.outer ? undefined : name.host;
  return { protocol, address: destination.ip, port: destination.port, host };
}

function keyOf({ protocol, source, destination }: FlowRequest): string {
  return `${protocol} ${source} ${destination}`;
}

function increment(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1;
}
