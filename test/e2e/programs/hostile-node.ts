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
import { SeededEntropy } from '../../../src/base/entropy.js';
import { elapsed, type Instant, later, Millis } from '../../../src/base/time.js';
import type { Channel } from '../../../src/node/link-channels.js';
import { createReactor } from '../../../src/os/linux/linux.js';
import { Frame, RELAYED_HEADER } from '../../../src/tunnel/frames.js';
import { parseChannel } from '../../../src/tunnel/messages.js';
import { openBareNode } from '../../lab/bare-node.js';
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
const { relayName } = input.crowd;
const { proof } = agent;
const { endpoints, underlay } = openBareNode(reactor, input.crowd, relay, rampage);

let home: RogueConnection | undefined;
let link: RogueConnection | undefined;
let flood: { readonly kind: Flood; readonly since: Instant; sent: number; readonly closed: string[] } | undefined;
let nextBurst = reactor.now();
let asked = 0;

function tell(event: HostileEvent['event'], kind = '', sent = 0, closed: readonly string[] = []): void {
  process.stdout.write(`${JSON.stringify({ event, flood: kind, sent, closed } satisfies HostileEvent)}\n`);
}

/** A relay connection, a channel through it, a link through that; whatever is closed is made anew. */
function connectHome(): void {
  const mine = new RogueConnection();
  home = mine;
  link = undefined;
  const hello = { type: 'hello', version: 1, role: 'agent', software: 'hostile', capabilities: [], proof };
  mine.onOpen = () => mine.say(hello);
  mine.onMessage = (message) => {
    if (message.type === 'hello') mine.say({ type: 'open', id: asked++, service: input.service });
    if (message.type !== 'opened' || link !== undefined) return;
    const { high, low } = parseChannel(message['channel'] as string);
    connectLink(mine, underlay.channels.open(0, high, low)!);
  };
  mine.onEnd = ({ text }) => {
    flood?.closed.push(text);
    connectHome();
  };
  mine.connection = endpoints.relay.connect(reactor.now(), relay, relayName, mine);
}

function connectLink(over: RogueConnection, channel: Channel): void {
  const mine = new RogueConnection();
  link = mine;
  const hello = { type: 'hello', version: 1, session: 'cd'.repeat(16), link: 0, proof, capabilities: [] };
  mine.onOpen = () => mine.say(hello);
  mine.onMessage = (message) => {
    if (message.type === 'welcome') tell('linked');
  };
  mine.onEnd = ({ text }) => {
    // The channel ends with the relay connection it is of.
    if (home !== over) return;
    flood?.closed.push(text);
    connectLink(over, channel);
  };
  mine.connection = endpoints.links.connect(reactor.now(), channel.address, input.connectorName, mine);
}

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

function rampage(now: Instant): Instant | undefined {
  if (flood === undefined) return undefined;
  if (now < nextBurst) return nextBurst;
  flood.sent += bursts[flood.kind]();
  nextBurst = later(now, flood.kind === 'opens' ? OPENS_EVERY : EVERY);
  if (elapsed(flood.since, now) < FLOOD_TIME) return nextBurst;
  tell('done', flood.kind, flood.sent, flood.closed);
  flood = undefined;
  return undefined;
}

connectHome();
void takeOrders();
await reactor.run();

async function takeOrders(): Promise<void> {
  for (let line = await lines.next(); line.done !== true; line = await lines.next()) {
    flood = { kind: line.value as Flood, since: reactor.now(), sent: 0, closed: [] };
    nextBurst = reactor.now();
  }
  reactor.stop();
}
