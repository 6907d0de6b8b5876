/**
 * A whole network in virtual time: operator, relay, connectors and agents that run until something holds or a deadline passes.
 */
import { type Duration, earliest, type Instant, later, Seconds } from '../../src/base/time.js';
import type { PolicyDocument, SignedPolicy } from '../../src/policy/document.js';
import { NO_LIMITS, type RelayLimits } from '../../src/relay/limits.js';
import { type NodeCredentials, Operator, policyDocument } from './identities.js';
import { RogueNode, type RogueOptions } from './rogue.js';
import type { SimNat } from './sim-nat.js';
import { SimNetwork } from './sim-network.js';
import {
  type AgentSetup,
  type ConnectorSetup,
  SimAgent,
  SimConnector,
  type SimHost,
  SimRelay,
  type Site,
} from './sim-nodes.js';
import { SimClock } from './sim-reactor.js';

/** Turns at one instant after which a loop is taken for one that never rests. */
const RESTLESS = 20_000;

export interface WorldOptions {
  readonly policy?: Partial<PolicyDocument>;
  readonly seed?: number;
  /** Names of the relays; default `r1` alone. */
  readonly relays?: readonly string[];
  /** The relays have IPv6 addresses too. */
  readonly dualStack?: boolean;
  /** Of the relay; default none. */
  readonly limits?: RelayLimits;
}

export class World implements Site {
  readonly clock = new SimClock();
  readonly network: SimNetwork;
  readonly operator: Operator;
  readonly seed: number;
  readonly limits: RelayLimits;
  readonly hosts: SimHost[] = [];
  document: PolicyDocument;
  signed: SignedPolicy;
  readonly relays: SimRelay[] = [];
  readonly relayNames: readonly string[];
  /** Turns made so far, over all hosts. */
  turns = 0;
  #nextHost = 10;
  readonly #dualStack: boolean;

  private constructor(operator: Operator, options: WorldOptions) {
    this.operator = operator;
    this.seed = options.seed ?? 1;
    this.limits = options.limits ?? NO_LIMITS;
    this.network = new SimNetwork(this.clock, this.seed);
    this.#dualStack = options.dualStack ?? false;
    this.relayNames = options.relays ?? ['r1'];
    this.document = policyDocument(options.policy);
    this.signed = operator.sign(this.document);
  }

  /** A world with running relays at 192.0.2.1 (and 2001:db8::1), 192.0.2.2 … */
  static async create(options: WorldOptions = {}): Promise<World> {
    const world = new World(await Operator.create(), options);
    for (const name of world.relayNames) await world.startRelay(name);
    return world;
  }

  get now(): Instant {
    return this.clock.now;
  }

  /** The first relay. */
  get relay(): SimRelay {
    return this.relays[0]!;
  }

  relayOf(name: string): SimRelay {
    return this.relays[this.relayNames.indexOf(name)]!;
  }

  /** Starts a relay; again after `relay.host.kill()` as the same relay restarted. */
  async startRelay(name: string = this.relayNames[0]!): Promise<void> {
    const index = this.relayNames.indexOf(name);
    const credentials = this.relays[index]?.credentials ?? (await this.operator.credentials('relay', name));
    const v6 = this.#dualStack ? `2001:db8::${index + 1}` : undefined;
    const relay = new SimRelay(this, credentials, `192.0.2.${index + 1}`, v6, index * 1_000_003);
    relay.policy.offer(this.signed.envelope);
    this.relays[index] = relay;
    this.hosts.push(relay.host);
  }

  /** Tells a node where the relays are, as its main thread would. */
  #tellRelays({ core }: SimAgent | SimConnector): void {
    this.relayNames.forEach((name, index) => {
      const addresses = this.relays[index]!.addresses.filter((address) => core.reaches(address));
      core.relays.find(name)?.setAddresses(addresses);
    });
  }

  #address(nat?: SimNat): string {
    if (nat !== undefined) {
      this.network.addNat(nat);
      return nat.nextInside();
    }
    return `198.51.100.${this.#nextHost++}`;
  }

  async connector(name: string, setup: ConnectorSetup, credentials?: NodeCredentials): Promise<SimConnector> {
    const enrolled = credentials ?? (await this.operator.enrol('connector', name));
    const node = new SimConnector(this, enrolled, this.#address(setup.nat), setup);
    this.hosts.push(node.host);
    this.#tellRelays(node);
    return node;
  }

  async agent(name: string, setup: AgentSetup = {}, credentials?: NodeCredentials): Promise<SimAgent> {
    const enrolled = credentials ?? (await this.operator.enrol('agent', name, setup.groups ?? ['staff']));
    const node = new SimAgent(this, enrolled, this.#address(setup.nat), setup);
    this.hosts.push(node.host);
    if (setup.unresolved) return node;
    this.#tellRelays(node);
    return node;
  }

  /** A node whose every word the test says. */
  async rogue(
    credentials: Omit<NodeCredentials, 'identity'> | NodeCredentials,
    options: RogueOptions = {},
  ): Promise<RogueNode> {
    const node = new RogueNode(this, credentials, this.relay.addresses, this.#address(), options);
    this.hosts.push(node.host);
    return node;
  }

  /** The operator applies a changed policy at the relay, which passes it on. */
  apply(change: Partial<PolicyDocument>): void {
    this.document = { ...this.document, ...change, version: this.document.version + 1 };
    this.signed = this.operator.sign(this.document);
    for (const relay of this.relays) {
      relay.policy.offer(this.signed.envelope);
      relay.core.policyChanged(this.now);
      relay.host.reactor.wake();
    }
  }

  /** Runs everything that is due now. */
  settle(): void {
    for (let turns = 0; ; turns++) {
      let busy = false;
      for (const host of this.hosts) {
        if (host.isRunning && host.reactor.turn()) {
          busy = true;
          this.turns++;
        }
      }
      this.network.deliver();
      if (!busy) return;
      if (turns > RESTLESS) throw new Error(`the loop does not come to rest at ${this.now}`);
    }
  }

  /** Runs until `holds`, or until `limit` has passed. Returns whether it holds. */
  until(holds: () => boolean, limit: Duration = Seconds(10)): boolean {
    const deadline = later(this.now, limit);
    for (const host of this.hosts) host.reactor.wake();
    for (;;) {
      this.settle();
      if (holds()) return true;
      const next = this.#nextDue();
      if (next === undefined || next > deadline) {
        this.clock.now = deadline;
        return holds();
      }
      if (next > this.now) this.clock.now = next;
      this.network.deliver();
    }
  }

  /** Lets `span` pass. */
  run(span: Duration): void {
    this.until(() => false, span);
    this.settle();
  }

  #nextDue(): Instant | undefined {
    let next = this.network.nextArrival();
    for (const host of this.hosts) if (host.isRunning) next = earliest(next, host.reactor.nextDue());
    return next;
  }
}
