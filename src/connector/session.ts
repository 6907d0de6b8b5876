/**
 * A connector's end of a session: one agent's identity, the stack its flows end in, and the links it may come over.
 */
import { SocketAddress, V4_MAPPED } from '../base/address.js';
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
import { readU32 } from '../wire/bytes.js';
import type { CoalescedPacket } from '../wire/gro.js';
import { PROTO_TCP } from '../wire/ip.js';
import { backendAddress, type ServiceBackend } from './backends.js';
import { Guard } from './guard.js';
import type { KernelPath } from './kernel-path.js';

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
  /** Where packets go instead of into flows that end here. */
  readonly kernel: KernelPath | undefined;
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
  /** Whether the packet that `linkOf` was last asked for is held to links of one kind. */
  isHeld = false;
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
    parts.kernel?.add(this);
    this.path = new DirectPath(parts.punching, (message) => {
      for (const link of this.links) if (link.isLive && message.type === 'punch') link.say(message);
    });
  }

  /** The link of the packet, from a service to the agent, whose IP header stands at `offset`. */
  linkOf(now: Instant, bytes: Uint8Array, offset: number): Link | undefined {
    const view = this.#view;
    this.isHeld = false;
    if (!view.hasPaths) return this.link;
    const path =
      bytes[offset]! >>> 4 === 4
        ? view.pathAt(0, 0, V4_MAPPED, readU32(bytes, offset + 12))
        : view.pathAt(
            readU32(bytes, offset + 8),
            readU32(bytes, offset + 12),
            readU32(bytes, offset + 16),
            readU32(bytes, offset + 20),
          );
    if (path === undefined) return this.link;
    this.isHeld = true;
    return this.set.linkOn(now, path);
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

  /**
   * Whether this agent may have packets to or from this address and port, which its services answer at.
   * @returns as `AccessTable.check`
   */
  serves(protocol: number, w0: number, w1: number, w2: number, w3: number, port: number): number {
    const index = this.#access.check(protocol, w0, w1, w2, w3, port);
    const isV4 = w0 === 0 && w1 === 0 && w2 === V4_MAPPED;
    return index >= 0 && !this.isServed(index, isV4) ? -Drop.no_handler : index;
  }

  /** Whether this connector has somewhere to send packets of this family to, for the service of this index. */
  isServed(index: number, isV4: boolean): boolean {
    const service = this.#view.services[index]!;
    const backend = this.#parts.backends.get(service.id);
    if (backend === undefined) return false;
    return service.entry.target === 'cidr' || backend.address?.isV4 === isV4;
  }

  /** A packet of the agent: judged, and given to the stack or the kernel when it may pass. */
  receive(now: Instant, packet: CoalescedPacket): void {
    const { arena, offset, length } = packet;
    const { drops, kernel } = this.#parts;
    const drop = this.#guard.judge(this.#access, arena.bytes, offset, length);
    if (drop !== Drop.none) {
      drops.values[drop]! += packet.segments;
      this.#refuse(drop);
      return;
    }
    if (kernel !== undefined) {
      const failed = kernel.deliver(now, this, packet, this.#guard.packet, this.#guard.service);
      if (failed !== Drop.none) drops.values[failed]! += packet.segments;
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
  policyChanged(now: Instant, view: PolicyView): void {
    const formerly = { view: this.#view, access: this.#access };
    this.#view = view;
    this.#access = view.accessFor(this.identity, this.#parts.connector);
    this.#told.clear();
    this.flows.reevaluate();
    this.#parts.kernel?.reevaluate(now, this, ({ local: [w0, w1, w2, w3], localPort }) => {
      const was = formerly.access.check(PROTO_TCP, w0, w1, w2, w3, localPort);
      const is = this.#access.check(PROTO_TCP, w0, w1, w2, w3, localPort);
      return formerly.view.services[was]?.id === view.services[is]?.id;
    });
    this.#say({ type: 'services', services: this.services });
  }

  /** The backends have changed: ends the flows that the session may no longer have. */
  reevaluate(now: Instant): void {
    this.flows.reevaluate();
    this.#parts.kernel?.reevaluate(now, this);
  }

  /** Ends all flows. */
  end(now: Instant): void {
    this.flows.close();
    this.#parts.kernel?.remove(now, this);
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
