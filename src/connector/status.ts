/** A connector's state, for `status`. */
import type { Instant, WallTime } from '../base/time.js';
import { elapsed, toSeconds } from '../base/time.js';
import { linkCounters, linkStatus, relayPlaces, relayStatus } from '../node/link-status.js';
import { punchCounters } from '../node/punching.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import type { ServiceBackend } from './backends.js';
import type { ConnectorCore } from './core.js';
import type { ConnectorSession } from './session.js';
import type { ConnectorThreadStatus } from './thread-protocol.js';

export function connectorStatus(
  core: ConnectorCore,
  backends: ReadonlyMap<string, ServiceBackend>,
  policy: PolicyKeeper,
  now: Instant,
  wall: WallTime,
  transport: Record<string, number>,
): Omit<ConnectorThreadStatus, 'mode' | 'tun'> {
  const sessions = [...core.links.sessions];
  return {
    relay: relayStatus(core.relay, core.observed, now),
    relays: relayPlaces(core.relays, now),
    policyVersion: policy.view?.version ?? 0,
    policyState: policy.state(wall),
    services: [...backends.values()].map((backend) => ({
      id: backend.id,
      backend: backend.url,
      registration: core.registrar.statusOf(backend.id),
      resolved: backend.address?.toString(),
    })),
    sessions: sessions.map((session) => ({
      agent: session.identity.name,
      session: session.id,
      ...linksStatus(core, session, now),
      secondsOpen: Math.round(toSeconds(elapsed(session.since, now))),
      flows: { tcp: session.flows.tcp.size, udp: session.flows.udp.size, echo: session.flows.echo.size },
      denied: session.denied,
      services: session.services,
    })),
    echoAnsweredHere: sessions.some((session) => session.flows.echo.answersHere),
    counters: {
      ...punchCounters(core.punching),
      ...linkCounters(core.linkCounters),
      ...core.outbound.queue.counters(),
      ...core.flowCounters.snapshot(),
      ...core.stackCounters.stack.snapshot(),
      ...transport,
      ...(core.kernel === undefined
        ? {}
        : { 'tun.fromHost': core.kernel.port.packetsFromHost, 'tun.toHost': core.kernel.port.packetsToHost }),
    } as Record<string, number>,
    drops: { ...core.stackCounters.drops.snapshot(), ...core.drops.snapshot() } as Record<string, number>,
  };
}

function linksStatus(core: ConnectorCore, session: ConnectorSession, now: Instant) {
  const { link: active } = session;
  const context = { now, active, relays: core.relays, why: session.why };
  return {
    link: active === undefined ? undefined : linkStatus(active, context),
    links: [...session.links].map((link) => linkStatus(link, context)),
  };
}
