/**
 * Opening channels: an agent asks for a service, the relay picks a connector, tells it first, and answers the agent when the
 * connector is ready.
 *
 *   agent ── open {service} ──► relay ── channel {channel, agent} ──► connector
 *   agent ◄─ opened {channel, connector} ── relay ◄── ready {channel} ── connector
 */
import { elapsed, type Instant, later, Seconds, type WallTime } from '../base/time.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import type { ToRelay } from '../tunnel/messages.js';
import { type ChannelSide, type ChannelTable, MAX_CHANNELS_PER_CONNECTOR, MAX_CHANNELS_PER_NODE } from './channels.js';
import type { RelayCounts, RelayEvent } from './core.js';
import type { RelayNode } from './node.js';
import type { Registry } from './registry.js';

/** A connector that was not heard for this long gets no new channel. */
export const SILENT_CONNECTOR = Seconds(20);
/** A connector has this long to say it is ready. */
export const READY_TIMEOUT = Seconds(5);

type Open = Extract<ToRelay, { type: 'open' }>;

interface Pending {
  readonly request: Open;
  readonly side: ChannelSide;
  readonly deadline: Instant;
}

export interface OpenerParts {
  readonly registry: Registry;
  readonly channels: ChannelTable;
  readonly counts: RelayCounts;
  readonly policy: PolicyKeeper;
  readonly wall: () => WallTime;
  readonly isDraining: () => boolean;
  readonly onEvent: (event: RelayEvent) => void;
}

export class Opener {
  readonly #parts: OpenerParts;
  /** By the connector's side; insertion order is deadline order, because every deadline is equally far. */
  readonly #pending = new Map<ChannelSide, Pending>();

  constructor(parts: OpenerParts) {
    this.#parts = parts;
  }

  get deadline(): Instant | undefined {
    return this.#pending.size === 0 ? undefined : this.#pending.values().next().value?.deadline;
  }

  open(now: Instant, agent: RelayNode, request: Open): void {
    const problem = this.#problem(now, agent, request);
    if (problem !== undefined) {
      this.#refuse(agent, request, ...problem);
      return;
    }
    const candidates = this.#parts.registry
      .serving(request.service)
      .filter((node) => request.connector === undefined || node.identity.name === request.connector)
      .filter((node) => elapsed(node.heard, now) < SILENT_CONNECTOR && node.channels.size < MAX_CHANNELS_PER_CONNECTOR);
    if (candidates.length === 0) {
      this.#refuse(agent, request, 'NO_CONNECTOR', 'no connector serves this now');
      return;
    }
    const connector = candidates.reduce((best, node) => (node.channels.size < best.channels.size ? node : best));
    if (!connector.opens.take(now)) {
      this.#refuse(agent, request, 'BUSY', 'the connector is being asked for too many channels at once');
      return;
    }
    const side = this.#parts.channels.open(now, agent, connector, request.service);
    this.#pending.set(side.peer, { request, side, deadline: later(now, READY_TIMEOUT) });
    connector.connection.send({ type: 'channel', channel: side.peer.id, agent: agent.identity.name });
  }

  /** Code and message of what speaks against an open request, whoever serves it. */
  #problem(now: Instant, agent: RelayNode, request: Open): readonly [string, string] | undefined {
    const { policy, wall, isDraining } = this.#parts;
    const { view } = policy;
    if (isDraining()) return ['DRAINING', 'this relay is about to stop'];
    if (view === undefined || !policy.admits(wall())) return ['POLICY_EXPIRED', 'the policy admits nothing new'];
    if (!view.mayUse(agent.identity, request.service)) return ['DENIED', 'the policy does not grant this service'];
    if (agent.channels.size >= MAX_CHANNELS_PER_NODE) return ['TOO_MANY_CHANNELS', 'close some channels first'];
    if (!agent.opens.take(now)) return ['BUSY', 'too many channels were asked for at once'];
    return undefined;
  }

  /** Whether this connector owes an answer for this channel. */
  isAwaited(connector: RelayNode, channel: { high: number; low: number }): boolean {
    const side = this.#parts.channels.find(channel.high, channel.low);
    return side?.node === connector && this.#pending.has(side);
  }

  ready(now: Instant, connector: RelayNode, channel: { high: number; low: number }): void {
    const side = this.#parts.channels.find(channel.high, channel.low);
    const pending = side === undefined ? undefined : this.#pending.get(side);
    if (side === undefined || pending === undefined || side.node !== connector) return;
    this.#pending.delete(side);
    side.lastUsed = now;
    const agent = pending.side.node;
    this.#parts.counts.opened++;
    this.#parts.onEvent({
      kind: 'channel-opened',
      agent: agent.identity.name,
      connector: connector.identity.name,
      reason: pending.request.service,
    });
    agent.connection.send({
      type: 'opened',
      id: pending.request.id,
      channel: pending.side.id,
      connector: connector.identity.name,
    });
  }

  /** Closes a channel and tells each side but `except`; an open request that waits for it is refused. */
  close(side: ChannelSide, reason: string, except: RelayNode | undefined): void {
    const agentSide = side.node.identity.role === 'agent' ? side : side.peer;
    const connectorSide = agentSide.peer;
    const pending = this.#pending.get(connectorSide);
    this.#pending.delete(connectorSide);
    this.#parts.channels.close(side);
    if (connectorSide.node !== except) {
      connectorSide.node.connection.send({ type: 'close', channel: connectorSide.id, reason });
    }
    if (pending !== undefined) this.#refuse(agentSide.node, pending.request, 'NO_CONNECTOR', reason);
    else if (agentSide.node !== except) {
      agentSide.node.connection.send({ type: 'close', channel: agentSide.id, reason });
    }
    this.#parts.onEvent({
      kind: 'channel-closed',
      agent: agentSide.node.identity.name,
      connector: connectorSide.node.identity.name,
      reason,
    });
  }

  /** Refuses the requests whose connector did not get ready in time. */
  expire(now: Instant): void {
    // At every turn: without an iterator while nothing waits.
    if (this.#pending.size === 0) return;
    for (const [side, pending] of this.#pending) {
      if (pending.deadline > now) return;
      this.close(side, 'the connector did not answer', undefined);
    }
  }

  /** Whether the policy in force still allows an agent's channel: some service the connector may serve. */
  allowed(side: ChannelSide): boolean {
    const view = this.#parts.policy.view;
    if (view === undefined) return false;
    const connector = side.peer.node.identity.name;
    return view.servicesFor(side.node.identity).some((service) => service.entry.connectors.includes(connector));
  }

  #refuse(agent: RelayNode, request: Open, code: string, message: string): void {
    this.#parts.counts.openRefused++;
    this.#parts.onEvent({ kind: 'open-refused', agent: agent.identity.name, service: request.service, code });
    agent.connection.send({ type: 'error', id: request.id, code, message });
  }
}
