/**
 * An engine for a host of one's own: packets in, packets out, connections through the host, everything on the host's thread.
 * Needs nothing but ECMAScript: clock, scheduler, randomness and cryptography come from the host.
 *
 *   host ─ packets(batch) ─► ring ─► turn ─► stack ─► flows ─ dial, send, end, close ─► host
 *   host ◄─ device.packets(batch, families) ───── stack ◄──── connected, received, ended, closed ─ host
 *
 *   stopped ──start──► running ──stop──► stopped        both may be called at any time, from a hook too, any number of times
 *
 * Every call of the host only takes a note; what follows happens in a turn, for which the engine asks the host's scheduler:
 * at once when there is something to do, else when the next timer is due, and every 5 ms at most while flows are open.
 */
import { ADDRESS_WORDS, IpAddress, type SocketAddress } from '../base/address.js';
import type { Crypto } from '../base/crypto.js';
import type { Entropy } from '../base/entropy.js';
import { describeError, SallyportError } from '../base/error.js';
import { instantAt, Seconds } from '../base/time.js';
import { Packetizer } from '../netstack/packetizer.js';
import { Arena } from '../wire/arena.js';
import { EngineCore } from './core.js';
import type { FlowInfo } from './flow-list.js';
import type { EngineHooks } from './hooks.js';
import { type DialFailure, type HostConnections, HostDialer, HostTable } from './host/connections.js';
import { PacketRing } from './host/packet-ring.js';
import { type HostClock, HostReactor } from './host/reactor.js';
import { type EngineDns, trafficOptions } from './host/traffic-options.js';
import { ENGINE_LOG_LEVELS, type EngineLog, type EngineLogLevel, LogSink } from './log-sink.js';
import { type EngineCounter, type EngineSnapshot, engineMetricsText } from './metrics.js';
import { NameTracker } from './names/tracker.js';
import { lintRules } from './rules/lint.js';
import { parseRule } from './rules/rule.js';
import { RuleSet } from './rules/rule-set.js';
import { type EngineOverrides, type EngineSettings, engineSettings, type PresetName } from './settings.js';
import { EventTeller } from './taps/event-teller.js';
import { type DnsParts, Traffic } from './traffic.js';

/** Packets given to the stack in one turn, before the host's own work gets its time. */
const TURN_PACKETS = 256;
/** Packets handed out in one batch at most. */
const BATCH_PACKETS = 256;

/** Longer lists of rules are generated, and looking through them takes seconds. */
const LINTED = 4096;
/** Datagrams of the host's own services that wait for a turn. */
const ANSWERS = 1024;
/** Flows that `flows` lists unless told otherwise: as many as a program can look at between two packets. */
const FLOWS_LISTED = 1024;

export interface EngineDevice {
  /**
   * Packets for the device, each with its family at the same index. They are lent: whoever keeps one copies it. What the device
   * cannot take is its own to drop.
   */
  packets(packets: readonly Uint8Array[], families: readonly (4 | 6)[]): void;
}

/** What the engine needs of the machine it runs on. */
export interface EnginePlatform extends HostClock {
  readonly entropy: Entropy;
  readonly crypto: Crypto;
}

export interface EngineOptions {
  readonly device: EngineDevice;
  /** By name; flows take the first one unless `hooks.onFlow` names another. */
  readonly dialers: Readonly<Record<string, HostConnections>>;
  readonly platform: EnginePlatform;
  readonly hooks?: EngineHooks;
  readonly preset?: PresetName;
  readonly settings?: EngineOverrides;
  /** Answers DNS inside. */
  readonly dns?: EngineDns;
  /** The first that fits a flow decides, before `hooks.onFlow`; one per text, as docs/engine.md describes them. */
  readonly rules?: readonly string[];
  /** Never payload, never more than a few lines a second of a kind; what each level tells is in docs/engine.md. */
  readonly log?: EngineLog;
  /** This level and the more serious ones; `debug` by default. */
  readonly logLevel?: EngineLogLevel;
}

interface Running {
  readonly core: EngineCore;
  readonly traffic: Traffic;
  readonly reactor: HostReactor;
  readonly ring: PacketRing;
  readonly table: HostTable;
  readonly out: Packetizer;
  readonly events: EventTeller;
  /** Datagrams of `answer` that wait for the turn. */
  answers: number;
}

export class Engine {
  /** Names of addresses: what a host's own resolver has found belongs here. */
  readonly names: {
    /**
     * @param addresses as text; what is no address is left out.
     * @returns false when `host` is no name.
     */
    record(host: string, addresses: readonly string[], ttlSeconds?: number): boolean;
    /** The name an address goes by now. */
    of(address: string): string | undefined;
  };
  readonly #options: EngineOptions;
  readonly #settings: EngineSettings;
  readonly #tracker: NameTracker;
  readonly #dns: DnsParts | undefined;
  readonly #log: LogSink;
  #rules: RuleSet;
  #running: Running | undefined;
  #wanted = false;
  /** `stop` was called within the turn that is under way. */
  #isEnding = false;
  #lastSnapshot: EngineSnapshot | undefined;

  /** @throws SallyportError ENGINE_SETTINGS, ENGINE_DIALERS, DNS_SERVER, DNS_TLS, RULE (caller). Nothing runs yet. */
  constructor(options: EngineOptions) {
    this.#options = options;
    this.#settings = engineSettings(options.preset ?? 'server', options.settings);
    const { log, logLevel = 'debug' } = options;
    if (!ENGINE_LOG_LEVELS.includes(logLevel)) {
      const known = ENGINE_LOG_LEVELS.join(', ');
      throw new SallyportError('caller', 'ENGINE_SETTINGS', `logLevel ${String(logLevel)} is none of ${known}`);
    }
    this.#log = new LogSink(
      log,
      logLevel,
      () => instantAt(options.platform.now()),
      () => this.#running?.core.counters.add('hook_errors'),
    );
    this.#dns = trafficOptions(options.dns, (error) => this.#log.threw('resolver', error));
    this.#rules = new RuleSet(options.rules?.map(parseRule));
    this.#tracker = new NameTracker({
      crypto: options.platform.crypto,
      addresses: this.#settings.host.names,
    });
    const now = () => options.platform.now() as never;
    this.names = {
      record: (host, addresses, ttlSeconds) =>
        this.#tracker.record(
          now(),
          host,
          addresses.map(IpAddress.parse).filter((ip) => ip !== undefined),
          ttlSeconds === undefined ? undefined : Seconds(ttlSeconds),
          'hook',
        ),
      of: (address) => {
        const ip = IpAddress.parse(address);
        return ip === undefined ? undefined : this.#tracker.nameOf(now(), ip)?.host;
      },
    };
  }

  get isRunning(): boolean {
    return this.#wanted;
  }

  start(): void {
    this.#wanted = true;
    // Within a turn that ends with a stop, the start comes after it.
    if (this.#running === undefined) this.#begin();
  }

  /** Ends every flow: programs and the host are told at once, or, within a turn, at its end. */
  stop(): void {
    this.#wanted = false;
    const running = this.#running;
    if (running === undefined) return;
    if (running.reactor.inTurn) {
      this.#isEnding = true;
      running.reactor.afterTurn(() => this.#settle());
    } else this.#end(running);
  }

  #settle(): void {
    const running = this.#running;
    if (running !== undefined) this.#end(running);
    // A hook may have started it again meanwhile.
    if (this.#wanted && this.#running === undefined) this.#begin();
  }

  #begin(): void {
    const { platform, hooks = {} } = this.#options;
    const { host, mtu } = this.#settings;
    const reactor = new HostReactor(platform, (error) => this.#bug(error));
    const ring = new PacketRing(host.ringBytes);
    const out = new Packetizer(new Arena(Math.max(host.batchBytes, 2 * mtu)), BATCH_PACKETS, (batch) =>
      this.#emit(batch),
    );
    const made = { core: undefined as EngineCore | undefined };
    const sink = this.#log;
    const table = new HostTable({
      reactor,
      count: (counter: EngineCounter) => made.core?.counters.add(counter),
      onThrow: (call, error) => made.core?.hookFailed(call, error),
      trace: sink.takes('trace') ? (message, fields) => sink.write('trace', message, fields) : undefined,
      nameOf: ({ ip }: SocketAddress) => this.#tracker.nameOf(reactor.now(), ip)?.host,
      perFlowBytes: host.perFlowBytes,
      totalBytes: host.queueBytes,
    });
    const dialers = Object.entries(this.#options.dialers).map(([name, own]) => new HostDialer(name, table, own));
    const traffic = new Traffic({
      dns: this.#dns,
      rules: this.#rules,
      reactor,
      dialer: dialers[0]!,
      entropy: platform.entropy,
      crypto: platform.crypto,
      tracker: this.#tracker,
      hasListener: hooks.onEvents !== undefined || sink.takes('debug'),
    });
    const core = new EngineCore({
      reactor,
      traffic,
      dialers,
      sink: () => out,
      settings: this.#settings,
      hooks,
      entropy: platform.entropy,
      crypto: platform.crypto,
      onHookError: (hook, error) => sink.threw(hook, error),
    });
    made.core = core;
    const events = new EventTeller(traffic.events, {
      onEvents: hooks.onEvents,
      log: sink.takes('debug') ? (message, fields) => sink.write('debug', message, fields) : undefined,
      onError: (error) => core.hookFailed('onEvents', error),
    });
    reactor.onTurn((now) => {
      for (let n = 0; n < TURN_PACKETS; n++) {
        if (!ring.shift((arena, offset, length) => core.receive(now, arena, offset, length, 0, false))) break;
      }
      const next = core.turn(now);
      out.flush();
      const isAllTold = events.tell(now);
      core.measured(reactor.readClock() - now, reactor.lag);
      return ring.count > 0 || !isAllTold ? now : next;
    });
    this.#running = { core, traffic, reactor, ring, table, out, events, answers: 0 };
    sink.write('info', 'engine started', { mtu });
    this.#warn();
    reactor.wake();
  }

  #end(running: Running): void {
    this.#isEnding = false;
    this.#running = undefined;
    running.core.close();
    running.out.flush();
    while (!running.events.tell(running.reactor.now()));
    this.#lastSnapshot = running.core.snapshot();
    running.reactor.stop();
    this.#log.write('info', 'engine stopped');
  }

  /** Tells of settings that are legal and surely not meant. */
  #warn(): void {
    const { dns } = this.#options;
    if (dns !== undefined && dns.mode !== 'off' && dns.servers.length === 0 && dns.resolver === undefined) {
      this.#log.write('warn', 'names are asked for here and nobody is there to answer: dns.servers is empty');
    }
    this.#lint();
  }

  #lint(): void {
    const { rules } = this.#rules;
    if (rules.length > LINTED) return;
    for (const { message } of lintRules(rules)) {
      this.#log.write('warn', 'a rule that is surely not meant', { rule: message });
    }
  }

  /** Packets of the device, one IP packet each; copied. What finds no room is dropped and counted. */
  packets(packets: readonly Uint8Array[]): void {
    const running = this.#running;
    if (running === undefined || this.#isEnding) return;
    for (const packet of packets) {
      if (!running.ring.push(packet)) running.core.counters.add('device_queue_drops');
    }
    running.reactor.wake();
  }

  /** The connection with this number stands. */
  connected(id: number): void {
    this.#running?.table.connected(id);
  }

  /** It could not be made. */
  failed(id: number, kind: DialFailure): void {
    this.#running?.table.failed(id, kind);
  }

  /** Bytes of a TCP connection, or one datagram that came `from` somewhere; copied. */
  received(id: number, bytes: Uint8Array, from?: SocketAddress): void {
    this.#running?.table.received(id, bytes, from);
  }

  /**
   * A datagram for the program at `to`, as if from `from`: what a `serve` decision's `udp` answers with, at once or later. Copied. Of
   * two families, or longer than UDP can say, it is dropped; so is what finds 1,024 others waiting for the next turn (both counted).
   */
  answer(from: SocketAddress, to: SocketAddress, bytes: Uint8Array): void {
    const running = this.#running;
    if (running === undefined || this.#isEnding) return;
    if (running.answers >= ANSWERS) {
      running.core.counters.add('host_queue_drops');
      return;
    }
    running.answers++;
    const words = new Uint32Array(2 * ADDRESS_WORDS);
    from.write(words, 0);
    to.write(words, 1);
    const copy = bytes.slice();
    running.reactor.at(running.reactor.now(), (now) => {
      running.answers--;
      running.core.answer(now, words, copy);
    });
  }

  /** After `send` returned false: more may come. */
  resumed(id: number): void {
    this.#running?.table.resumed(id);
  }

  /** The other end sends no more (half-close). */
  ended(id: number): void {
    this.#running?.table.ended(id);
  }

  /** The connection is gone; the number means nothing any more. */
  closed(id: number, reason: 'finished' | 'error'): void {
    this.#running?.table.closed(id, reason === 'error');
  }

  /** The network has changed (Wi-Fi to cellular): see `EngineCore.pathChanged`. */
  pathChanged(abortEstablished: boolean): void {
    const running = this.#running;
    if (running === undefined) return;
    this.#log.write('info', 'the way out has changed');
    running.reactor.at(running.reactor.now(), () => running.core.pathChanged(abortEstablished));
  }

  /**
   * Other rules from now on, all at once, at the engine's next turn; texts as in `rules`. Live flows are judged again: those that are
   * refused end, the others go on, held back as the rules say now.
   * @throws SallyportError RULE, RULES_MANY (caller); the old ones stay in force.
   */
  setRules(rules: readonly string[]): void {
    const set = new RuleSet(rules.map(parseRule));
    this.#rules = set;
    this.#lint();
    const running = this.#running;
    running?.reactor.at(running.reactor.now(), () => running.traffic.setRules(set));
  }

  /** The rules, in order, and how often each has decided since it is there; of more than 256 the first ones that have. */
  rules(): readonly { readonly rule: string; readonly hits: number }[] {
    return this.#rules.decided();
  }

  /** Rules of `onFlow` have changed: live flows are judged again. */
  reevaluate(): void {
    const running = this.#running;
    running?.reactor.at(running.reactor.now(), () => running.core.reevaluate());
  }

  /** Live flows, TCP before UDP, each kind's oldest first, `most` at most; none while stopped. */
  flows(most = FLOWS_LISTED): FlowInfo[] {
    return this.#running?.core.list(most) ?? [];
  }

  /** What is counted; after `stop` what was counted until then. */
  snapshot(): EngineSnapshot {
    return this.#running?.core.snapshot() ?? this.#lastSnapshot ?? { version: 1, values: {} };
  }

  /** The same as Prometheus reads it. */
  metricsText(): string {
    return engineMetricsText(this.snapshot());
  }

  #emit(batch: Packetizer): void {
    const { bytes } = batch.arena;
    const packets: Uint8Array[] = [];
    const families: (4 | 6)[] = [];
    for (let i = 0; i < batch.count; i++) {
      const at = batch.table[2 * i]!;
      packets.push(bytes.subarray(at, at + batch.table[2 * i + 1]!));
      families.push(bytes[at]! >>> 4 === 4 ? 4 : 6);
    }
    try {
      this.#options.device.packets(packets, families);
    } catch (error) {
      this.#running?.core.hookFailed('device.packets', error);
    }
  }

  #bug(error: unknown): void {
    this.#log.write('error', 'unexpected error', { error: describeError(error) });
  }
}
