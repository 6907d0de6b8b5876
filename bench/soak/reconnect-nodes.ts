/**
 * Agents that come and go, many at once in one process: each time a relay connection, a channel, a link, a session, a datagram that a
 * service of the connector's echoes, and an end.
 *
 *   hello ─► open ─► link ─► welcome ─► datagram ─► its echo ─► every other time: session and connection are closed
 *                                                               else: nothing is said; the next connection of that agent takes the place
 *
 *   node --import test/lab/typescript.mjs reconnect-nodes.ts      standard input: a `ReconnectInput`, then a number of reconnects
 *   a line; output: a `ReconnectReport` for each of these. When it ends, those that had said nothing take their leave.
 */
import { createInterface } from 'node:readline';
import { SocketAddress } from '../../src/base/address.js';
import { earliest, type Instant, later, Millis, Seconds } from '../../src/base/time.js';
import { createReactor } from '../../src/os/linux/linux.js';
import { dnsName } from '../../src/policy/names.js';
import { CloseCode } from '../../src/tunnel/close-codes.js';
import { parseChannel } from '../../src/tunnel/messages.js';
import { openBareNode } from '../../test/lab/bare-node.js';
import type { EnrolledAgent, EnrolledCrowd } from '../../test/lab/enrolled.js';
import { udpPacket } from '../../test/support/packets.js';
import { RogueConnection } from '../../test/support/rogue-connection.js';

export interface ReconnectInput {
  readonly crowd: Omit<EnrolledCrowd, 'policyKey'>;
  /** Overlay address of each agent. */
  readonly overlay: readonly string[];
  /** ADDRESS:PORT of the relay. */
  readonly relay: string;
  readonly service: string;
  readonly connector: string;
  /** Virtual address and UDP port of the service. */
  readonly target: readonly [string, number];
}

export interface ReconnectReport {
  readonly done: number;
  readonly failed: number;
  /** What the failed ones got to, and why they ended: how often. */
  readonly problems: Readonly<Record<string, number>>;
}

/** A relay takes 32 handshakes at once from one source. */
const AT_ONCE = 8;
/** Whoever is not through by then never will be. */
const PATIENCE = Seconds(10);
/** Until what is said last has left. */
const FAREWELL = Millis(200);
const SOURCE_PORT = 4000;
const QUESTION = 'still there?';
const IP_AND_UDP_HEADERS = 28;

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const input = JSON.parse((await lines.next()).value as string) as ReconnectInput;
const relay = SocketAddress.parse(input.relay)!;
const connectorName = dnsName(input.crowd.network, 'connector', input.connector);
const reactor = createReactor({
  onError: (error) => {
    throw error;
  },
});

/** One agent, from connection to connection. */
class Comer {
  readonly #agent: EnrolledAgent;
  readonly #question: Uint8Array;
  #home: RogueConnection | undefined;
  #link: RogueConnection | undefined;
  #rounds = 0;
  /** Of the round that is under way: what is waited for, and until when. */
  #stage = '';
  deadline: Instant | undefined;

  constructor(agent: EnrolledAgent, overlay: string) {
    this.#agent = agent;
    const [to, port] = input.target;
    this.#question = udpPacket({ from: overlay, to }, SOURCE_PORT, port, QUESTION);
  }

  begin(now: Instant): void {
    this.#rounds++;
    this.deadline = later(now, PATIENCE);
    this.#stage = 'relay connection';
    const { proof } = this.#agent;
    node.be(this.#agent);
    const home = new RogueConnection();
    this.#home = home;
    this.#link = undefined;
    home.onOpen = () => {
      home.say({ type: 'hello', version: 1, role: 'agent', software: 'soak', capabilities: [], proof });
    };
    home.onMessage = (message) => {
      if (message.type === 'hello') {
        this.#stage = 'channel';
        home.say({ type: 'open', id: 1, service: input.service });
      } else if (message.type === 'opened') this.#connectLink(home, message['channel'] as string);
      else if (message.type === 'error') this.#over(home, String(message['code']));
    };
    home.onEnd = ({ text }) => this.#over(home, text);
    home.connection = node.endpoints.relay.connect(now, relay, input.crowd.relayName, home);
  }

  #connectLink(home: RogueConnection, id: string): void {
    this.#stage = 'link';
    const { high, low } = parseChannel(id);
    const channel = node.underlay.channels.open(0, high, low)!;
    const { proof } = this.#agent;
    const session = this.#rounds.toString(16).padStart(32, '0');
    const link = new RogueConnection();
    this.#link = link;
    link.onOpen = () => link.say({ type: 'hello', version: 1, session, link: 0, proof, capabilities: [] });
    link.onMessage = ({ type }) => {
      if (type !== 'welcome') return;
      this.#stage = 'echo';
      link.connection.sendDatagram(this.#question);
    };
    link.onPackets = () => {
      if (link.datagrams.some((bytes) => bytes.length === IP_AND_UDP_HEADERS + QUESTION.length)) this.#over(home, '');
    };
    link.onEnd = ({ text }) => this.#over(home, text);
    home.onEnd = ({ text }) => {
      this.#over(home, text);
      // The channel is gone with the connection it was of.
      link.connection.close(reactor.now(), CloseCode.done, '');
      node.underlay.channels.close(reactor.now(), channel);
    };
    node.be(this.#agent);
    link.connection = node.endpoints.links.connect(reactor.now(), channel.address, connectorName, link);
  }

  /** This round is over; `problem` is empty when all has gone well. */
  #over(home: RogueConnection, problem: string): void {
    if (home !== this.#home || this.deadline === undefined) return;
    this.deadline = undefined;
    if (problem === '' && this.#rounds % 2 === 0) this.leave();
    ended(this, problem === '' ? undefined : `${this.#stage}: ${problem}`);
  }

  /** Ends session and connection, unless that has been done. */
  leave(): void {
    this.#link?.connection.close(reactor.now(), CloseCode.sessionOver, 'done');
    this.#home?.connection.close(reactor.now(), CloseCode.done, 'done');
    this.#link = undefined;
    this.#home = undefined;
  }

  giveUp(): void {
    this.#over(this.#home!, 'no answer');
  }
}

const node = openBareNode(reactor, input.crowd, relay, turn);
const idle = input.crowd.agents.map((agent, index) => new Comer(agent, input.overlay[index]!));
const busy = new Set<Comer>();
let end: Instant | undefined;
let order = { wanted: 0, begun: 0, done: 0, failed: 0, problems: {} as Record<string, number> };

function ended(comer: Comer, problem: string | undefined): void {
  busy.delete(comer);
  idle.push(comer);
  if (problem === undefined) order.done++;
  else {
    order.failed++;
    order.problems[problem] = (order.problems[problem] ?? 0) + 1;
  }
  if (order.done + order.failed < order.wanted) return;
  const { done, failed, problems } = order;
  process.stdout.write(`${JSON.stringify({ done, failed, problems } satisfies ReconnectReport)}\n`);
}

function turn(now: Instant): Instant | undefined {
  if (end !== undefined && end <= now) {
    reactor.stop();
    process.stdin.destroy();
  }
  while (order.begun < order.wanted && busy.size < AT_ONCE) {
    order.begun++;
    const comer = idle.shift()!;
    busy.add(comer);
    comer.begin(now);
  }
  let due = end;
  for (const comer of busy) {
    if (comer.deadline !== undefined && comer.deadline <= now) comer.giveUp();
    else due = earliest(due, comer.deadline);
  }
  return due;
}

void takeOrders();
await reactor.run();

async function takeOrders(): Promise<void> {
  for (let line = await lines.next(); line.done !== true && line.value !== 'end'; line = await lines.next()) {
    order = { wanted: Number(line.value), begun: 0, done: 0, failed: 0, problems: {} };
    reactor.wake();
  }
  for (const comer of idle) comer.leave();
  end = later(reactor.now(), FAREWELL);
  reactor.wake();
}
