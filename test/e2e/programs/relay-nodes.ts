/**
 * Many real nodes in one process, each with sockets, endpoints, underlay and relay client of its own, as an agent has them; they say
 * nothing but what keeps their relay connections alive. Some keep a channel to a service open whenever there is one to be had.
 *
 *   node --import test/lab/typescript.mjs relay-nodes.ts      standard input: a `RelayNodesInput`; output: a `RelayNodesEvent` a line
 */
import { text } from 'node:stream/consumers';
import { SocketAddress } from '../../../src/base/address.js';
import { Counters } from '../../../src/base/counters.js';
import { DROP_REASONS } from '../../../src/base/drop.js';
import { earliest, type Instant, later, Millis } from '../../../src/base/time.js';
import { RelayClient } from '../../../src/node/relay-client.js';
import { driveNode, makeNodeEndpoints, openNodeSockets } from '../../../src/node/thread-setup.js';
import { Underlay } from '../../../src/node/underlay.js';
import { SystemEntropy } from '../../../src/os/entropy.js';
import { createLinuxSockets, createReactor } from '../../../src/os/linux/linux.js';
import type { FromRelay } from '../../../src/tunnel/messages.js';
import type { EnrolledAgent, EnrolledCrowd } from '../../lab/enrolled.js';

export interface RelayNodesInput {
  readonly crowd: Omit<EnrolledCrowd, 'policyKey'>;
  /** ADDRESS:PORT of the relay. */
  readonly relay: string;
  /** The first so many nodes keep a channel to `service` open. */
  readonly withChannel: number;
  readonly service: string;
}

export interface RelayNodesEvent {
  readonly event: 'ready' | 'lost' | 'channel';
  readonly node: string;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly reason: string;
}

const input = JSON.parse(await text(process.stdin)) as RelayNodesInput;
const reactor = createReactor({
  onError: (error) => {
    throw error;
  },
});
const linux = createLinuxSockets();
const entropy = new SystemEntropy();
input.crowd.agents.forEach((agent, index) => {
  startNode(agent, index < input.withChannel);
});
await reactor.run();

function startNode(agent: EnrolledAgent, wantsChannel: boolean): void {
  const tell = (event: RelayNodesEvent['event'], reason = ''): void => {
    const told: RelayNodesEvent = { event, node: agent.name, time: Date.now(), reason };
    process.stdout.write(`${JSON.stringify(told)}\n`);
  };
  const sockets = openNodeSockets(linux, 0);
  const { network, caPem, relayName } = input.crowd;
  const { name, certificatePem, keyPem, proof } = agent;
  const direct = { path: 'relay' as const, hideHost: true, guesses: true, allow: [], advertise: [] };
  const data = { network, caPem, relays: ['relay'], name, certificatePem, keyPem, proof, direct };
  const none = { policyKey: new Uint8Array(), policy: undefined, port: 0 };
  const endpoints = makeNodeEndpoints({ ...data, ...none }, reactor, undefined);
  const drops = new Counters(DROP_REASONS);
  let hasChannel = false;
  const underlay = new Underlay(
    sockets,
    endpoints.relay,
    endpoints.links,
    drops,
    {
      onRevalidate: (now, nonce) => client.revalidate(now, nonce),
      onRelayed: () => {},
      onProbeReply: (now, { nonce }) => client.onProbeReply(now, nonce),
      onPunch: () => {},
    },
    entropy.uint32(),
  );
  const openChannel = (now: Instant): void => {
    hasChannel = true;
    client.request(
      now,
      (id) => ({ type: 'open', id, service: input.service }),
      (_then, answer) => {
        hasChannel = answer.ok;
        if (answer.ok) tell('channel');
      },
    );
  };
  const onRelayMessage = (now: Instant, message: FromRelay): void => {
    if (message.type === 'close') hasChannel = false;
    if (message.type !== 'catalogue' || !wantsChannel || hasChannel) return;
    if (message.services.some((one) => one.id === input.service && one.available)) openChannel(now);
  };
  const client = new RelayClient({
    endpoint: endpoints.relay,
    entropy,
    role: 'agent',
    name: 'relay',
    slot: 0,
    serverName: relayName,
    software: 'test',
    proof: () => proof,
    owner: {
      onRelayReady: () => tell('ready'),
      onRelayLost: (_now, _relay, reason) => {
        hasChannel = false;
        tell('lost', reason);
      },
      onRelayMessage: (now, _relay, message) => onRelayMessage(now, message),
      onObserved: () => {},
      onRelayAttempt: () => {},
      isRelayWanted: () => false,
    },
    wall: () => reactor.wall(),
    setRelay: (address) => underlay.setRelay(0, address),
    sendProbe: (address, bytes) => underlay.probe(address, bytes),
  });
  // A node sleeps until something comes for it or is due: the loop's turns are a hundred others' too.
  let due: Instant | undefined = reactor.now();
  driveNode(reactor, sockets, endpoints, {
    receive: (now, index) => {
      due = now;
      return underlay.receive(now, index);
    },
    writable: (now, index) => underlay.writable(now, index),
    turn: (now) => {
      if (due === undefined || now < due) return due;
      endpoints.links.process(now);
      endpoints.relay.process(now);
      client.turn(now);
      underlay.flush(now);
      const network = earliest(endpoints.relay.nextTimeout(), endpoints.links.nextTimeout());
      const next = earliest(network, client.nextTimeout());
      due = next !== undefined && next <= now ? later(now, Millis(1)) : next;
      return due;
    },
    suspect: (now) => {
      due = now;
      client.suspect(now);
    },
  });
  client.setAddresses([SocketAddress.parse(input.relay)!]);
}
