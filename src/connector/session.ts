/**
 * A connector's end of a session: one agent's identity, the stack its flows end in, and the links it may come over.
 */
import { SocketAddress } from '../base/address.js';
import type { Counters } from '../base/counters.js';
import { Drop, type DropName, dropName } from '../base/drop.js';
import { type Duration, type Instant, Minutes } from '../base/time.js';
import { Timer } from '../base/timers.js';
import type { FlowRouter, FlowTarget } from '../engine/flow-options.js';
import type { Flows } from '../engine/flows.js';
import { Bounces } from '../node/bounces.js';
import { DirectPath } from '../node/direct-path.js';
import { InboundState } from '../node/inbound.js';
import type { Link } from '../node/link.js';
import type { LinkSet } from '../node/link-set.js';
import type { Punching } from '../node/punching.js';
import type { AccessTable } from '../policy/access.js';
import type { Identity } from '../policy/proof.js';
import type { PolicyView } from '../policy/view.js';
import type { Fragmenter } from '../tunnel/fragments.js';
import type { ToAgent } from '../tunnel/messages.js';
import type { CoalescedPacket } from '../wire/gro.js';
import { backendAddress, type ServiceBackend } from './backends.js';
import { Guard } from './guard.js';

/** A session without a link is kept this long, so that it survives a sleep of the agent. */
export const SESSION_KEPT: Duration = Minutes(30);
/** Different refusals told to one agent; more are only counted. */
const MAX_DENIALS_TOLD = 64;

export interface SessionParts {
  readonly now: Instant;
  readonly identity: Identity;
  readonly id: string;
  readonly connector: string;
  readonly view: PolicyView;
  readonly backends: ReadonlyMap<string, ServiceBackend>;
  readonly drops: Counters<DropName>;
  readonly fragmenter: Fragmenter;
  readonly makeFlows: (session: ConnectorSession) => Flows;
  readonly makeSet: (session: ConnectorSession) => LinkSet;
  readonly punching: Punching;
  /** The session's own timer has come due. */
  readonly onTimer: (session: ConnectorSession, now: Instant) => void;
}

export class ConnectorSession implements FlowRouter {
  readonly identity: Identity;
  readonly id: string;
  readonly inbound = new InboundState();
  readonly fragmenter: Fragmenter;
  readonly links = new Set<Link>();
  /** Which of them is in use. */
  readonly set: LinkSet;
  readonly path: DirectPath;
  readonly flows: Flows;
  /** What the stack sent and its link does not carry. */
  readonly bounces: Bounces;
  readonly timer: Timer;
  readonly since: Instant;
  /** The link packets go out on. */
  link: Link | undefined;
  lastLink: Instant;
  /** Whether the stack has something to send in this turn. */
  isDirty = false;
  denied = 0;
  #view: PolicyView;
  #access: AccessTable;
  readonly #guard: Guard;
  readonly #parts: SessionParts;
  readonly #told = new Set<number>();

  constructor(parts: SessionParts) {
    this.#parts = parts;
    this.identity = parts.identity;
    this.id = parts.id;
    this.fragmenter = parts.fragmenter;
    this.since = parts.now;
    this.lastLink = parts.now;
    this.#view = parts.view;
    this.#access = parts.view.accessFor(parts.identity, parts.connector);
    this.#guard = new Guard(parts.identity.overlay4, parts.identity.overlay6);
    this.timer = new Timer((now) => parts.onTimer(this, now));
    this.flows = parts.makeFlows(this);
    this.bounces = new Bounces(this.flows.stack);
    this.set = parts.makeSet(this);
    this.path = new DirectPath(parts.punching, (message) => {
      for (const link of this.links) if (link.isLive && message.type === 'punch') link.say(message);
    });
  }

  /** Why packets go out on the link they do, when the operator has decided it. */
  get why(): string | undefined {
    return this.#parts.punching.path === 'auto' ? undefined : 'operator';
  }

  /** Ids of the services this identity may use here. */
  get services(): string[] {
    const mine = new Set(this.#view.servicesOf(this.#parts.connector).map((service) => service.id));
    return this.#view
      .servicesFor(this.identity)
      .map((service) => service.id)
      .filter((id) => mine.has(id));
  }

  /** A packet of the agent: judged, and given to the stack when it may pass. */
  receive(now: Instant, packet: CoalescedPacket): void {
    const { arena, offset, length } = packet;
    const drop = this.#guard.judge(this.#access, arena.bytes, offset, length);
    if (drop !== Drop.none) {
      this.#parts.drops.values[drop]! += packet.segments;
      this.#refuse(drop);
      return;
    }
    this.flows.stack.handlePacket(now, arena, offset, length, packet.gsoSize, packet.checked);
  }

  route(protocol: number, addresses: Uint32Array): FlowTarget | undefined {
    const destination = SocketAddress.read(addresses, 1);
    const { ip } = destination;
    const index = this.#access.check(protocol, ip.w0, ip.w1, ip.w2, ip.w3, destination.port);
    if (index < 0) {
      this.#parts.drops.values[-index]!++;
      return undefined;
    }
    const service = this.#view.services[index]!;
    const backend = this.#parts.backends.get(service.id);
    return backend && { service: service.id, address: backendAddress(backend, service, destination) };
  }

  /** A new policy: tables are made anew and live flows judged again. */
  policyChanged(view: PolicyView): void {
    this.#view = view;
    this.#access = view.accessFor(this.identity, this.#parts.connector);
    this.#told.clear();
    this.flows.reevaluate();
    this.#say({ type: 'services', services: this.services });
  }

  /** Tells the agent, once per destination and reason, that its packet was refused. */
  #refuse(drop: number): void {
    this.denied++;
    const { packet } = this.#guard;
    const isPolicy =
      drop === Drop.destination_not_allowed || drop === Drop.protocol_not_allowed || drop === Drop.port_not_allowed;
    if (!isPolicy || this.#told.size >= MAX_DENIALS_TOLD) return;
    const key = (packet.destination3 ^ Math.imul(packet.destinationPort, 0x9e3779b1) ^ (drop << 24)) >>> 0;
    if (this.#told.has(key)) return;
    this.#told.add(key);
    const words = [packet.destination0, packet.destination1, packet.destination2, packet.destination3];
    const address = SocketAddress.read(Uint32Array.from([...words, packet.destinationPort]), 0);
    const message = { type: 'denied', service: address.toString(), reason: dropName(drop) } as const;
    this.#say(message);
  }

  #say(message: ToAgent): void {
    const link = this.link ?? [...this.links].at(-1);
    link?.say(message);
  }
}
