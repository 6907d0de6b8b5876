/**
 * The engine's core: packets of a device on one side, flows through dialers on the other, hooks in between. It owns no clock, no
 * socket and no device: a driver gives it packets and turns.
 *
 *   receive(packet) ─► stack ─► router (hook) ─► flows ─► dialer ─► host
 *   sink ◄──────────── stack ◄─────────────────── flows ◄─────────── host
 *
 * Order in a turn: `receive` for each packet, what the reactor calls, `turn(now)` once. Everything on one thread.
 */
import { ADDRESS_WORDS, SocketAddress } from '../base/address.js';
import { Counters } from '../base/counters.js';
import type { Crypto } from '../base/crypto.js';
import { Drop, type DropName, dropName } from '../base/drop.js';
import type { Entropy } from '../base/entropy.js';
import { SallyportError } from '../base/error.js';
import { earliest, type Instant, later, Micros } from '../base/time.js';
import { createStackCounters } from '../netstack/counters.js';
import type { Rejection, StackSink } from '../netstack/types.js';
import type { Reactor } from '../os/io.js';
import type { Arena } from '../wire/arena.js';
import { DelayedDialer, type Dialer } from './dialer.js';
import { describeFlow, type FlowInfo } from './flow-list.js';
import { FLOW_COUNTERS, type FlowCounter, type FlowRouter, type FlowTarget, PROTOCOL_TCP } from './flow-options.js';
import { Flows } from './flows.js';
import { Histogram } from './histogram.js';
import { askFlow, type EngineHooks, type FlowRequest, type HookFailed } from './hooks.js';
import { LoopLag } from './loop-lag.js';
import { BATCH_BOUNDS, ENGINE_COUNTERS, type EngineCounter, type EngineSnapshot, engineSnapshot } from './metrics.js';
import type { EngineSettings } from './settings.js';
import { Shaper } from './shaping/shaper.js';
import { TappedSink } from './tapped-sink.js';
import type { Traffic } from './traffic.js';

export interface EngineCoreParts {
  readonly reactor: Reactor;
  /** The first one is for flows that no hook gives to another. */
  readonly dialers: readonly Dialer[];
  readonly sink: (drops: Counters<DropName>) => StackSink;
  readonly settings: EngineSettings;
  readonly hooks: EngineHooks;
  readonly entropy: Entropy;
  readonly crypto: Pick<Crypto, 'hmacSha256'>;
  /** Names, rules and the resolver, in front of the hooks. */
  readonly traffic?: Traffic;
  /** Packets the device's own queue had no room for; asked for with every snapshot. */
  readonly deviceDrops?: () => number;
  /** A hook has thrown; it is counted in any case. */
  readonly onHookError?: HookFailed;
}

export class EngineCore implements FlowRouter {
  readonly counters = new Counters<EngineCounter>(ENGINE_COUNTERS);
  readonly flowCounters = new Counters<FlowCounter>(FLOW_COUNTERS);
  readonly stackCounters = createStackCounters();
  readonly flows: Flows;
  readonly #shaper: Shaper;
  readonly #parts: EngineCoreParts;
  readonly #dialers: ReadonlyMap<string, Dialer>;
  readonly #default: Dialer;
  readonly #hooks: EngineHooks;
  readonly #lag = new LoopLag();
  readonly #batchesIn = new Histogram(BATCH_BOUNDS);
  readonly #batchesOut = new Histogram(BATCH_BOUNDS);
  /** Packets of all turns so far. */
  #packetsIn = 0;
  #packetsOut = 0;
  #longestTurn = 0;

  /** @throws SallyportError ENGINE_DIALERS (caller) without a dialer, or with two of one name. */
  constructor(parts: EngineCoreParts) {
    this.#parts = parts;
    const { dialers, settings, reactor } = parts;
    const hooks = parts.traffic?.join(parts.hooks, this) ?? parts.hooks;
    this.#hooks = hooks;
    this.#dialers = new Map(dialers.map((dialer) => [dialer.name, dialer]));
    const first = dialers[0];
    if (first === undefined || this.#dialers.size !== dialers.length) {
      throw new SallyportError('caller', 'ENGINE_DIALERS', 'an engine needs dialers, each with a name of its own');
    }
    this.#default = first;
    const sink = parts.sink(this.stackCounters.drops);
    this.#shaper = new Shaper(settings.flows, parts.entropy);
    this.flows = new Flows({
      reactor,
      shaper: this.#shaper,
      dialer: first,
      router: this,
      limits: settings.flows,
      counters: this.flowCounters,
      stack: {
        mtu: settings.mtu,
        sink: hooks.onPacket === undefined ? sink : new TappedSink(sink, hooks.onPacket, this.hookFailed),
        entropy: parts.entropy,
        crypto: parts.crypto,
        counters: this.stackCounters,
        tcp: settings.tcp,
        limits: settings.stack,
      },
      // The stack is flushed in every turn.
      onActivity: () => {},
    });
  }

  /** One packet or run of the device, as `Stack.handlePacket`. */
  receive(now: Instant, arena: Arena, offset: number, length: number, segmentSize: number, checked: boolean): void {
    const { onPacket } = this.#hooks;
    if (onPacket !== undefined) {
      try {
        onPacket(true, arena.bytes, offset, length);
      } catch (error) {
        this.hookFailed('onPacket', error);
      }
    }
    this.flows.stack.handlePacket(now, arena, offset, length, segmentSize, checked);
  }

  /** Runs what is due and sends what there is; returns when it wants to run again. */
  turn(now: Instant): Instant | undefined {
    this.flows.flush(now);
    const { tcp, udp } = this.flows;
    const busy = tcp.size + udp.size > 0 ? later(now, this.#parts.settings.ceiling) : undefined;
    return earliest(this.flows.nextTimeout(), busy);
  }

  readonly hookFailed: HookFailed = (hook, error) => {
    this.counters.add('hook_errors');
    this.#parts.onHookError?.(hook, error);
  };

  /** Called by the driver with what a turn took, and how late it began, both in microseconds. */
  measured(micros: number, lag: number): void {
    const { counters } = this;
    const { stack } = this.stackCounters;
    const packetsIn = stack.get('packets_in');
    const packetsOut = stack.get('packets_out');
    this.#batchesIn.add(packetsIn - this.#packetsIn);
    this.#batchesOut.add(packetsOut - this.#packetsOut);
    this.#packetsIn = packetsIn;
    this.#packetsOut = packetsOut;
    this.#lag.add(lag);
    counters.add('turns');
    if (micros > this.#longestTurn) this.#longestTurn = micros;
    if (micros > 1_000) counters.add('turns_over_1ms');
    if (micros > 5_000) counters.add('turns_over_5ms');
    if (micros > 20_000) counters.add('turns_over_20ms');
  }

  route(protocol: number, addresses: Uint32Array): FlowTarget | Rejection | undefined {
    const decision = askFlow(this.#hooks, this.hookFailed, protocol, addresses);
    if (decision === undefined) {
      return { service: this.#default.name, address: SocketAddress.read(addresses, 1), dialer: this.#default };
    }
    switch (decision.action) {
      case 'block':
        return decision.how;
      case 'serve': {
        const { tcp, udp } = decision;
        if (protocol === PROTOCOL_TCP ? tcp === undefined : udp === undefined) return 'port-unreachable';
        return {
          service: 'host',
          address: undefined,
          ...(tcp === undefined ? {} : { serve: tcp }),
          ...(udp === undefined ? {} : { datagram: udp }),
        };
      }
      case 'allow': {
        const dialer = decision.dialer === undefined ? this.#default : this.#dialers.get(decision.dialer);
        if (dialer === undefined) return 'host-unreachable';
        const { tap, onClosed, shape, hold } = decision;
        const delay = decision.delay ?? (shape === undefined ? 0 : shape.latency + this.#shaper.upTo(shape.jitter));
        const isLater = delay > 0 && protocol === PROTOCOL_TCP;
        return {
          service: dialer.name,
          address: decision.target ?? SocketAddress.read(addresses, 1),
          dialer: isLater ? new DelayedDialer(dialer, this.#parts.reactor, Micros(delay)) : dialer,
          ...(tap === undefined ? {} : { tap }),
          ...(shape === undefined ? {} : { shape }),
          ...(hold === undefined ? {} : { hold }),
          ...(onClosed === undefined ? {} : { onClosed }),
        };
      }
    }
  }

  /**
   * The way out has changed: dials begin anew, UDP flows get new sockets with their next datagram (and keep their client), and
   * established TCP flows end if `abortEstablished` says that their sockets are dead.
   */
  pathChanged(abortEstablished: boolean): void {
    this.counters.add('path_changes');
    this.flows.tcp.redial();
    if (abortEstablished) this.flows.tcp.abortOpen();
    this.flows.udp.close();
    this.flows.echo.close();
    this.#parts.traffic?.pathChanged();
  }

  /** Rules have changed: live flows are judged again. @param only this TCP or UDP flow alone */
  reevaluate(only?: FlowRequest): void {
    const { traffic } = this.#parts;
    const words = only && new Uint32Array(2 * ADDRESS_WORDS);
    if (words !== undefined) {
      only!.source.write(words, 0);
      only!.destination.write(words, 1);
    }
    if (traffic === undefined) this.flows.reevaluate(words);
    else traffic.judgeAgain(() => this.flows.reevaluate(words));
  }

  /** A datagram from packed address 0 to 1, which is a program's. */
  answer(now: Instant, addresses: Uint32Array, bytes: Uint8Array): void {
    const drop = this.flows.stack.sendUdp(now, addresses, 0, 1, bytes, 0, bytes.length);
    if (drop !== Drop.none) this.stackCounters.drops.add(dropName(drop));
  }

  /** Live flows: TCP in the order they began, then UDP; `most` at most. Echo is only counted. */
  list(most: number): FlowInfo[] {
    const { tcp, udp } = this.flows;
    const live = tcp.list(most);
    live.push(...udp.list(most - live.length));
    return live.map((flow) => describeFlow(flow, (asked) => this.#parts.traffic?.nameOf(asked) ?? ''));
  }

  snapshot(): EngineSnapshot {
    const { stack, tcp, udp, echo } = this.flows;
    return engineSnapshot({
      engine: this.counters,
      flows: this.flowCounters,
      stack: this.stackCounters.stack,
      drops: this.stackCounters.drops,
      traffic: this.#parts.traffic?.counts,
      active: { tcp: tcp.size, udp: udp.size, echo: echo.size },
      deviceDrops: this.#parts.deviceDrops?.() ?? 0,
      shapedBytes: this.#shaper.memory.used,
      bufferBytes: stack.pool.lentBytes + stack.pool.store.bytes,
      longestTurnMicroseconds: this.#longestTurn,
      lag: this.#lag,
      batchesIn: this.#batchesIn,
      batchesOut: this.#batchesOut,
    });
  }

  /** Ends every flow; the resets leave at once. */
  close(): void {
    this.flows.close();
    this.#parts.traffic?.close();
  }
}
