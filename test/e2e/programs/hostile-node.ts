/**
 * An enrolled agent that means harm: real sockets, real QUIC, its own certificate and proof, and a link to a connector, on which it does
 * what it is told, a line of standard input each after the first, which is a `HostileInput`. Output: a `HostileEvent` a line.
 *
 *   malformed   datagrams that are no packets, fragments of nothing, packets with another's address, on its link
 *   words       messages on its link, until that is closed; then it makes a new one
 *   messages    messages on its relay connection, until that is closed; then it makes a new one, and a link
 *   opens       asks for channels, more than it may
 *   frames      REVALIDATE, PROBE and RELAYED of nobody, to the relay and to the other nodes' own sockets
 */
import { createInterface } from 'node:readline';
import { SocketAddress } from '../../../src/base/address.js';
import { Counters } from '../../../src/base/counters.js';
import { DROP_REASONS } from '../../../src/base/drop.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { earliest, elapsed, type Instant, later, Millis } from '../../../src/base/time.js';
import { driveNode, makeNodeEndpoints, openNodeSockets } from '../../../src/node/thread-setup.js';
import { type Channel, Underlay } from '../../../src/node/underlay.js';
import { createLinuxSockets, createReactor } from '../../../src/os/linux/linux.js';
import { Frame, RELAYED_HEADER } from '../../../src/tunnel/frames.js';
import { parseChannel } from '../../../src/tunnel/messages.js';
import type { EnrolledCrowd } from '../../lab/enrolled.js';
import { udpPacket } from '../../support/packets.js';
import { RogueConnection } from '../../support/rogue-connection.js';

export interface HostileInput {
  readonly crowd: Omit<EnrolledCrowd, 'policyKey'>;
  /** ADDRESS:PORT of the relay, and of the nodes that are to be troubled. */
  readonly relay: string;
  readonly nodes: readonly string[];
  readonly service: string;
  /** TLS server name of the connector that serves it. */
  readonly connectorName: string;
  /** Overlay address of another agent, and an address of the service. */
  readonly other: string;
  readonly target: string;
}

export const FLOODS = ['malformed', 'words', 'messages', 'opens', 'frames'] as const;
export type Flood = (typeof FLOODS)[number];

export interface HostileEvent {
  /** `linked`: a link stands; `done`: a flood is over. */
  readonly event: 'linked' | 'done';
  readonly flood: string;
  /** Datagrams or messages that were sent. */
  readonly sent: number;
  /** Why connections were closed meanwhile. */
  readonly closed: readonly string[];
}

/** A burst so often, of so many. */
const EVERY = Millis(10);
const BURST = 100;
/** So many, then forty a second: the relay closes at fifty messages. */
const OPENS_AT_ONCE = 44;
const OPENS_EVERY = Millis(25);
const FLOOD_TIME = Millis(700);
const LONGEST_DATAGRAM = 1100;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const input = JSON.parse((await lines.next()).value as string) as HostileInput;
const agent = input.crowd.agents[0]!;
const relay = SocketAddress.parse(input.relay)!;
const victims = [relay, ...input.nodes.map((text) => SocketAddress.parse(text)!)];
const entropy = new SeededEntropy(7);
const reactor = createReactor({
  onError: (error) => {
    throw error;
  },
});
const sockets = openNodeSockets(createLinuxSockets(), 0);
const { network, caPem, relayName } = input.crowd;
const { name, certificatePem, keyPem, proof } = agent;
const direct = { path: 'relay' as const, hideHost: true, guesses: true, allow: [], advertise: [] };
const identity = { network, caPem, relays: ['relay'], name, certificatePem, keyPem, proof };
const none = { policyKey: new Uint8Array(), policy: undefined, port: 0 };
const endpoints = makeNodeEndpoints({ ...identity, ...none, direct }, reactor, undefined);
const nobody = { onRevalidate() {}, onRelayed() {}, onProbeReply() {}, onPunch() {} };
const underlay = new Underlay(sockets, endpoints.relay, endpoints.links, new Counters(DROP_REASONS), nobody, 1);
underlay.setRelay(0, relay);

let home: RogueConnection | undefined;
let link: RogueConnection | undefined;
let channel: Channel | undefined;
let flood: { readonly kind: Flood; readonly since: Instant; sent: number; readonly closed: string[] } | undefined;
let nextBurst = reactor.now();
let asked = 0;

function tell(event: HostileEvent['event'], kind = '', sent = 0, closed: readonly string[] = []): void {
  process.stdout.write(`${JSON.stringify({ event, flood: kind, sent, closed } satisfies HostileEvent)}\n`);
}

/** A relay connection, with a hello when it stands, and a channel when that is answered. */
function connectHome(now: Instant): void {
  const mine = new RogueConnection();
  home = mine;
  mine.onMessage = (message) => {
    if (message.type === 'hello') mine.say({ type: 'open', id: asked++, service: input.service });
    if (message.type === 'opened' && link === undefined) connectLink(message['channel'] as string);
  };
  mine.connection = endpoints.relay.connect(now, relay, relayName, mine);
}

function connectLink(id: string): void {
  const { high, low } = parseChannel(id);
  channel = underlay.openChannel(0, high, low)!;
  dialLink();
}

function dialLink(): void {
  const mine = new RogueConnection();
  link = mine;
  mine.onMessage = (message) => {
    if (message.type === 'welcome') tell('linked');
  };
  mine.connection = endpoints.links.connect(reactor.now(), channel!.address, input.connectorName, mine);
}

/** Hellos of what has connected, and new ones of what was closed. */
function keepUp(now: Instant): void {
  if (home?.connected === true && home.messages.length === 0 && !hailed.has(home)) {
    hailed.add(home);
    home.say({ type: 'hello', version: 1, role: 'agent', software: 'hostile', capabilities: [], proof });
  }
  if (link?.connected === true && !hailed.has(link)) {
    hailed.add(link);
    link.say({ type: 'hello', version: 1, session: 'cd'.repeat(16), link: 0, proof, capabilities: [] });
  }
  if (home?.closed !== undefined) {
    flood?.closed.push(home.closed.text);
    link = undefined;
    connectHome(now);
  } else if (link?.closed !== undefined) {
    flood?.closed.push(link.closed.text);
    dialLink();
  }
}
const hailed = new WeakSet<RogueConnection>();

const bursts: Readonly<Record<Flood, () => number>> = {
  malformed: () => {
    for (let i = 0; i < BURST; i++) {
      const bytes = new Uint8Array(1 + (entropy.uint32() % LONGEST_DATAGRAM));
      for (let at = 0; at < bytes.length; at++) bytes[at] = entropy.uint32();
      // Every kind of first nibble: IPv4 and IPv6 that are none, fragments, copies, reserved kinds.
      bytes[0] = ((i % 16) << 4) | (bytes[0]! & 15);
      link?.connection.sendDatagram(bytes);
    }
    link?.connection.sendDatagram(udpPacket({ from: input.other, to: input.target }, 4000, 7, 'forged'));
    return BURST + 1;
  },
  words: () => said(link, () => ({ type: 'error', code: 'noise', message: '' })),
  messages: () => said(home, () => ({ type: 'error', code: 'noise', message: '' })),
  // More than the forty at once and ten a second that are allowed, fewer than what would close the connection.
  opens: () => {
    const count = flood!.sent === 0 ? OPENS_AT_ONCE : 1;
    for (let i = 0; i < count; i++) {
      asked++;
      home?.say({ type: 'open', id: asked, service: asked % 4 === 0 ? 'nowhere' : input.service });
    }
    return count;
  },
  frames: () => {
    for (const victim of victims)
      for (const frame of frames) for (let i = 0; i < 10; i++) underlay.probe(victim, frame);
    return victims.length * frames.length * 10;
  },
};
const frames = [Frame.revalidate, Frame.probe, Frame.relayed].map((type) => {
  const bytes = new Uint8Array(type === Frame.revalidate ? 9 : 64).fill(7);
  bytes[0] = type;
  // What a RELAYED frame holds looks like QUIC's short header.
  if (type === Frame.relayed) bytes[RELAYED_HEADER] = 0x40;
  return bytes;
});

/** Says it as often as a burst has it, to a connection that has been answered. */
function said(to: RogueConnection | undefined, message: () => object): number {
  if (to === undefined || to.messages.length === 0) return 0;
  let count = 0;
  while (count < BURST && to.say(message())) count++;
  return count;
}

driveNode(reactor, sockets, endpoints, {
  receive: (now, index) => underlay.receive(now, index),
  writable: (now, index) => underlay.writable(now, index),
  turn: (now) => {
    endpoints.relay.process(now);
    endpoints.links.process(now);
    keepUp(now);
    if (flood !== undefined && now >= nextBurst) {
      flood.sent += bursts[flood.kind]();
      nextBurst = later(now, flood.kind === 'opens' ? OPENS_EVERY : EVERY);
      if (elapsed(flood.since, now) >= FLOOD_TIME) {
        tell('done', flood.kind, flood.sent, flood.closed);
        flood = undefined;
      }
    }
    underlay.flush(now);
    const network = earliest(endpoints.relay.nextTimeout(), endpoints.links.nextTimeout());
    return flood === undefined ? network : earliest(network, nextBurst);
  },
  suspect: () => {},
});
connectHome(reactor.now());
void takeOrders();
await reactor.run();

async function takeOrders(): Promise<void> {
  for (let line = await lines.next(); line.done !== true; line = await lines.next()) {
    flood = { kind: line.value as Flood, since: reactor.now(), sent: 0, closed: [] };
    nextBurst = reactor.now();
  }
  reactor.stop();
}
