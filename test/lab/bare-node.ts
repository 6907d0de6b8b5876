/**
 * Sockets, QUIC endpoints and underlay of agents that `enrolCrowd` has made, and nothing above them: a program that has this says every
 * word itself. All of them share one socket per address family; which one a connection is of is said before it is made.
 */
import type { SocketAddress } from '../../src/base/address.js';
import { Counters } from '../../src/base/counters.js';
import { DROP_REASONS } from '../../src/base/drop.js';
import { earliest, type Instant } from '../../src/base/time.js';
import { driveNode, makeNodeEndpoints, type NodeEndpoints, openNodeSockets } from '../../src/node/thread-setup.js';
import { Underlay } from '../../src/node/underlay.js';
import type { Reactor, UdpSocket } from '../../src/os/io.js';
import { createLinuxSockets } from '../../src/os/linux/linux.js';
import type { EnrolledAgent, EnrolledCrowd } from './enrolled.js';

export interface BareNode {
  readonly sockets: readonly UdpSocket[];
  readonly endpoints: NodeEndpoints;
  readonly underlay: Underlay;
  /** Connections that are made from now on are this agent's. */
  be(agent: EnrolledAgent): void;
}

/** @param turn runs after what has come was handled and before what there is to say is sent; returns when it wants to run again. */
export function openBareNode(
  reactor: Reactor,
  crowd: Omit<EnrolledCrowd, 'policyKey'>,
  relay: SocketAddress,
  turn: (now: Instant, node: BareNode) => Instant | undefined,
): BareNode {
  const sockets = openNodeSockets(createLinuxSockets(), 0);
  const { network, caPem } = crowd;
  const { name, certificatePem, keyPem, proof } = crowd.agents[0]!;
  const direct = { path: 'relay' as const, hideHost: true, guesses: true, allow: [], advertise: [] };
  const none = { policyKey: new Uint8Array(), policy: undefined, port: 0 };
  const data = { network, caPem, relays: ['relay'], name, certificatePem, keyPem, proof, direct, ...none };
  const endpoints = makeNodeEndpoints(data, reactor, undefined);
  const nobody = { onRevalidate() {}, onRelayed() {}, onProbeReply() {}, onPunch() {} };
  const underlay = new Underlay(sockets, endpoints.relay, endpoints.links, new Counters(DROP_REASONS), nobody, 1);
  underlay.setRelay(0, relay);
  const node: BareNode = {
    sockets,
    endpoints,
    underlay,
    be: (agent) => {
      endpoints.relay.setIdentity(agent.certificatePem, agent.keyPem);
      endpoints.links.setIdentity(agent.certificatePem, agent.keyPem);
    },
  };
  driveNode(reactor, sockets, endpoints, {
    receive: (now, index) => underlay.receive(now, index),
    writable: (now, index) => underlay.writable(now, index),
    turn: (now) => {
      endpoints.relay.process(now);
      endpoints.links.process(now);
      const due = turn(now, node);
      underlay.flush(now);
      return earliest(due, earliest(endpoints.relay.nextTimeout(), endpoints.links.nextTimeout()));
    },
    suspect: () => {},
  });
  return node;
}
