/** An agent's state, for `status`. */
import { elapsed, type Instant, toSeconds, type WallTime } from '../base/time.js';
import { linkCounters, linkStatus, relayPlaces, relayStatus } from '../node/link-status.js';
import { punchCounters } from '../node/punching.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import type { Identity } from '../policy/proof.js';
import { formatPorts } from '../policy/ranges.js';
import type { AgentCore } from './core.js';
import type { AgentSession } from './session.js';
import type { AgentDevice, AgentSessionStatus, AgentThreadStatus } from './thread-protocol.js';

export function agentStatus(
  core: AgentCore,
  identity: Identity,
  device: AgentDevice,
  policy: PolicyKeeper,
  now: Instant,
  wall: WallTime,
  counters: Record<string, number>,
): AgentThreadStatus {
  const { view } = policy;
  return {
    device,
    overlay: [identity.overlay4, identity.overlay6].filter((ip) => ip !== undefined).map(String),
    relay: relayStatus(core.relay, core.observed, now),
    relays: relayPlaces(core.relays, now),
    policyVersion: view?.version ?? 0,
    policyState: policy.state(wall),
    services: (core.routes?.services ?? []).map((service) => ({
      id: service.id,
      virtualIp4: service.entry.virtualIp4,
      virtualIp6: service.entry.virtualIp6,
      prefix: service.entry.prefix,
      protocols: service.entry.protocols,
      ports: formatPorts(view!.allowedPorts(identity, service)),
      connectors: service.entry.connectors,
      available: core.available.has(service.id),
      path: service.entry.path,
    })),
    sessions: [...core.sessions.all].map((session) => sessionStatus(core, session, now)),
    counters: {
      ...(core.tun === undefined
        ? {}
        : { 'tun.fromHost': core.tun.packetsFromHost, 'tun.toHost': core.tun.packetsToHost }),
      ...punchCounters(core.punching),
      ...linkCounters(core.linkCounters),
      ...core.outbound.queue.counters(),
      ...(core.stack.counters.stack.snapshot() as Record<string, number>),
      ...counters,
    },
    drops: { ...core.stack.counters.drops.snapshot(), ...core.drops.snapshot() } as Record<string, number>,
  };
}

function sessionStatus(core: AgentCore, session: AgentSession, now: Instant): AgentSessionStatus {
  const { link: active, direct } = session;
  // Without a direct link the reason for that is why packets go through the relay.
  const why = direct.link === undefined ? direct.reason : undefined;
  const context = { now, active, relays: core.relays, why };
  return {
    connector: session.connector,
    session: session.id,
    state: session.state,
    reason: session.transition.reason,
    secondsInState: Math.round(toSeconds(elapsed(session.transition.at, now))),
    problem: session.lastProblem,
    link: active === undefined ? undefined : linkStatus(active, context),
    links: [...session.allLinks()].map((link) => linkStatus(link, context)),
    direct: direct.reason,
    reconnects: session.reconnects,
    waitingPackets: session.waiting.length,
    services: [...session.services].sort(),
  };
}
