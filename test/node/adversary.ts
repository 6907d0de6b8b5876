/**
 * A network that is out to get one session: what can happen to paths, NATs, addresses, relays, ends and clocks happens at random
 * moments, by seed; then there is peace, and everything has to be as it was.
 */
import { IpAddress, SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { type Duration, elapsed, later, Millis, Seconds, scale, toMillis } from '../../src/base/time.js';
import { overlay } from '../agent/fixtures.js';
import { type Scene, SERVICES, scene } from '../connector/fixtures.js';
import { readPacket, udpPacket } from '../support/packets.js';
import { NAT_KINDS, SimNat } from '../support/sim-nat.js';
import type { Packet } from '../support/sim-network.js';
import type { SimAgent, SimConnector, SimHost } from '../support/sim-nodes.js';
import type { SimUdpFlow } from '../support/sim-sockets.js';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Which = 'agent' | 'connector';

const BACKEND = '10.0.0.5:5353';
const GAP = Millis(25);
const DIRECT = { direct: { path: 'auto' } } as const;
/** NATs between which a direct link needs no guess. */
const KINDS = ['none', 'open', 'restricted', 'moderate'] as const;

export class Adversary {
  readonly log: string[] = [];
  readonly problems: string[] = [];
  readonly entropy: SeededEntropy;
  readonly it: Mutable<Scene>;
  /** Numbers sent, and answered at least once. */
  sent = 0;
  readonly answered = new Set<number>();
  readonly #served = new Set<string>();
  /** Incarnations of the ends: a restarted one has its own flows. */
  #lives = 0;
  #nats = 30;
  #moves = 100;
  /** Every address that an end has had, as others see it. */
  readonly #places = new Set<string>();

  private constructor(seed: number, it: Scene) {
    this.entropy = new SeededEntropy(seed);
    this.it = { ...it };
    this.#wireAgent();
    this.#wireConnector();
    it.world.network.filter = (packet) => this.#see(packet);
  }

  static async begin(seed: number): Promise<Adversary> {
    const entropy = new SeededEntropy(seed ^ 0x5eed);
    const pick = <T>(values: readonly T[]): T => values[entropy.uint32() % values.length]!;
    const nat = (number: number) => {
      const kind = pick(KINDS);
      return kind === 'none' ? {} : { nat: new SimNat(number, NAT_KINDS[kind]) };
    };
    const isDual = entropy.unit() < 0.4;
    const v6 = (text: string) => (isDual ? { v6: text } : {});
    const it = await scene({
      world: { seed, relays: pick([['r1'], ['r1', 'r2']]), dualStack: isDual },
      agent: { ...DIRECT, tun: true, ...nat(10), ...v6('2001:db8:1::2') },
      connector: { ...DIRECT, ...nat(20), ...v6('2001:db8:2::2') },
    });
    return new Adversary(seed, it);
  }

  #now(): number {
    return toMillis(elapsed(0 as never, this.it.world.now));
  }

  note(text: string): void {
    this.log.push(`${((this.#now() - 1_000_000) / 1000).toFixed(2)} ${text}`);
  }

  problem(text: string): void {
    this.note(`PROBLEM ${text}`);
    this.problems.push(text);
  }

  #wireAgent(): void {
    const { agent } = this.it;
    this.#lives++;
    agent.tun!.onPacket = (packet) => {
      const { protocol, data } = readPacket(packet.subarray(10));
      if (protocol !== 17) return;
      const view = new DataView(data.buffer, data.byteOffset);
      if (view.getUint32(4) !== this.#lives) return;
      const number = view.getUint32(0);
      if (this.answered.has(number)) this.problem(`answer ${number} came twice`);
      this.answered.add(number);
    };
  }

  #wireConnector(): void {
    const { connector } = this.it;
    this.#lives++;
    const life = this.#lives;
    connector.host.sockets.udpBackend(BACKEND).onDatagram = (flow: SimUdpFlow, bytes: Uint8Array) => {
      const number = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
      const key = `${life} ${number}`;
      if (this.#served.has(key)) this.problem(`packet ${number} came twice`);
      this.#served.add(key);
      flow.reply(bytes);
    };
  }

  /** Nothing goes anywhere but to relays and to where the two ends are, or have been. */
  #see(packet: Packet): boolean {
    const { world, agent, connector } = this.it;
    for (const { udp } of [agent, connector]) {
      for (const { external, nat } of udp) {
        this.#places.add(external.ip.toString());
        if (nat !== undefined) this.#places.add(nat.publicIp.toString());
      }
    }
    const to = packet.to.ip.toString();
    if (!this.#places.has(to) && !world.relays.some(({ addresses }) => addresses.some(({ ip }) => `${ip}` === to)))
      this.problem(`a packet to ${packet.to}`);
    for (const passes of this.cuts) if (!passes(packet)) return false;
    return true;
  }

  /** What is in the way of packets. */
  readonly cuts = new Set<(packet: Packet) => boolean>();

  send(): void {
    const { agent } = this.it;
    const payload = new Uint8Array(40);
    const view = new DataView(payload.buffer);
    view.setUint32(0, this.sent++);
    view.setUint32(4, this.#lives);
    agent.tun!.delivered.length = 0;
    agent.tun!.send(udpPacket({ from: overlay(agent), to: '10.100.0.2' }, 4000, 53, payload));
    if (agent.host.isRunning) agent.host.reactor.wake();
  }

  /** A ping every `gap` for `span`, or until `holds`. */
  ping(span: Duration, gap: Duration = GAP, holds = (): boolean => false): boolean {
    const { world } = this.it;
    const end = later(world.now, span);
    while (world.now < end && !holds()) {
      this.send();
      world.run(gap);
      this.#check();
    }
    return holds();
  }

  /** What must hold at every moment. */
  #check(): void {
    const { agent, connector } = this.it;
    for (const [who, { core }] of [
      ['agent', agent],
      ['connector', connector],
    ] as const) {
      if (core.linkCounters.get('illegal_steps') > 0 && !this.problems.includes(`illegal steps at ${who}`))
        this.problem(`illegal steps at ${who}`);
    }
    const session = agent.session('c1');
    if (session !== undefined && session.set.size > 6) this.problem(`${session.set.size} links at the agent`);
    for (const one of connector.sessions) {
      if (one.links.size > 8) this.problem(`${one.links.size} links at the connector`);
    }
  }

  #pick<T>(values: readonly T[]): T {
    return values[this.entropy.uint32() % values.length]!;
  }

  #end(): Which {
    return this.#pick(['agent', 'connector'] as const);
  }

  #drop(passes: (packet: Packet) => boolean): () => void {
    this.cuts.add(passes);
    return () => this.cuts.delete(passes);
  }

  #between({ from, to }: Packet): 'up' | 'down' | undefined {
    const { agent, connector } = this.it;
    const is = (node: SimAgent | SimConnector, { ip }: SocketAddress): boolean =>
      node.udp.some(({ external, nat }) => external.ip.equals(ip) || nat?.publicIp.equals(ip) === true);
    if (is(agent, from) && is(connector, to)) return 'up';
    return is(connector, from) && is(agent, to) ? 'down' : undefined;
  }

  /** One more thing happens; what it returns ends it. */
  async #happen(): Promise<readonly [string, () => void | Promise<void>]> {
    const { it, entropy } = this;
    const { world } = it;
    const nothing = (): void => {};
    switch (entropy.uint32() % 16) {
      case 0:
      case 1: {
        const way = this.#pick(['up', 'down', 'both'] as const);
        const family = this.#pick([4, 6, 0] as const);
        const isCut = (packet: Packet): boolean => {
          const between = this.#between(packet);
          if (between === undefined || (way !== 'both' && between !== way)) return false;
          return family === 0 || packet.to.ip.family === family;
        };
        return [`direct cut ${way} ${family}`, this.#drop((packet) => !isCut(packet))];
      }
      case 2: {
        const end = this.#end();
        const { host } = it[end];
        setDown(host, true);
        return [`${end} cut off`, () => setDown(host, false)];
      }
      case 3: {
        const name = this.#pick(world.relayNames);
        const { host } = world.relayOf(name);
        setDown(host, true);
        return [`relay ${name} cut off`, () => setDown(host, false)];
      }
      case 4: {
        const share = this.#pick([0.02, 0.1, 0.3, 0.6, 0.9]);
        const where = this.#pick(['up', 'down', 'any'] as const);
        return [
          `loss ${share} ${where}`,
          this.#drop((packet) => (where !== 'any' && this.#between(packet) !== where) || entropy.unit() >= share),
        ];
      }
      case 5: {
        const most = this.#pick([5, 50, 300]);
        world.network.lag = () => {
          const one = Millis(most * entropy.unit());
          return entropy.unit() < 0.2 ? [one, Millis(most * entropy.unit())] : [one];
        };
        return [`reordered and twice, ${most} ms`, this.#calm];
      }
      case 6: {
        const end = this.#end();
        it[end].udp[0]!.nat?.restart();
        return [`NAT of ${end} forgets`, nothing];
      }
      case 7: {
        const end = this.#end();
        const [socket] = it[end].udp;
        socket!.rebind(new SocketAddress(socket!.external.ip, 30_000 + (entropy.uint32() % 30_000)));
        return [`another port before ${end}: ${socket!.external}`, nothing];
      }
      case 8:
      case 9: {
        const end = this.#end();
        this.#move(end);
        return [`${end} moves to ${it[end].udp[0]!.external}`, nothing];
      }
      case 10: {
        const name = this.#pick(world.relayNames);
        const relay = world.relayOf(name);
        if (!relay.host.isRunning) return ['nothing', nothing];
        relay.host.kill();
        return [`relay ${name} dies`, () => world.startRelay(name)];
      }
      case 11: {
        const name = this.#pick(world.relayNames);
        const relay = world.relayOf(name);
        if (!relay.host.isRunning) return ['nothing', nothing];
        relay.core.drain(world.now, Seconds(20));
        relay.host.reactor.wake();
        return [
          `relay ${name} drains`,
          async () => {
            if (!relay.host.isRunning) return;
            relay.core.shutdown(world.now);
            relay.host.reactor.wake();
            world.settle();
            relay.host.kill();
            await world.startRelay(name);
          },
        ];
      }
      case 12: {
        const end = this.#end();
        await this.#restart(end);
        return [`${end} restarts`, nothing];
      }
      case 13: {
        const end = this.#end();
        const node = it[end];
        const path = this.#pick(['relay', 'auto', 'direct', 'relay'] as const);
        this.#setPath(node, path);
        return [`${end} wants ${path}`, () => this.#setPath(it[end], 'auto')];
      }
      case 14: {
        const end = this.#end();
        const { host } = it[end];
        if (!host.isRunning) return ['nothing', nothing];
        host.isRunning = false;
        const from = world.now;
        const isAsleep = entropy.unit() < 0.5;
        return [
          `${end} ${isAsleep ? 'sleeps' : 'stands still'}`,
          () => {
            if (it[end].host !== host) return;
            if (isAsleep) host.reactor.slept = (host.reactor.slept + elapsed(from, world.now)) as Duration;
            host.isRunning = true;
            host.reactor.wake();
          },
        ];
      }
      default: {
        const session = it.agent.session('c1');
        const links = session === undefined ? [] : [...session.allLinks()].filter((link) => link.isLive);
        if (links.length === 0) return ['nothing', nothing];
        const link = this.#pick(links);
        link.renewAt = it.agent.host.reactor.now();
        return [`link ${link.number} is renewed`, nothing];
      }
    }
  }

  readonly #calm = (): void => {
    this.it.world.network.lag = undefined;
  };

  #setPath(node: SimAgent | SimConnector, path: 'auto' | 'relay' | 'direct'): void {
    node.core.setPath(node.host.reactor.now(), path);
    if (node.host.isRunning) node.host.reactor.wake();
  }

  #move(end: Which): void {
    const node = this.it[end];
    const [socket, ...others] = node.udp;
    const isTranslated = this.entropy.unit() < 0.5;
    let ip = `198.51.100.${this.#moves++}`;
    socket!.nat = undefined;
    if (isTranslated) {
      const nat = new SimNat(this.#nats++, NAT_KINDS[this.#pick(['open', 'restricted', 'moderate'] as const)]);
      this.it.world.network.addNat(nat);
      ip = nat.nextInside();
      socket!.nat = nat;
    }
    socket!.rebind(new SocketAddress(IpAddress.parse(ip)!, socket!.external.port));
    const addresses = [ip, ...others.map(({ external }) => external.ip.toString())];
    const prefixes = ['0.0.0.0/0', '::/0', ...(socket!.nat === undefined ? [] : [socket!.nat.prefix])];
    node.core.setNetwork(node.host.reactor.now(), {
      addresses,
      routes: prefixes.map((prefix) => ({ prefix, via: `wifi ${ip}`, isTunnel: false })),
    });
    if (node.host.isRunning) node.host.reactor.wake();
  }

  async #restart(end: Which): Promise<void> {
    const { it } = this;
    const old = it[end];
    const { nat } = old.udp[0]!;
    const v6 = old.udp.find(({ external }) => !external.ip.isV4)?.external.ip.toString();
    old.host.kill();
    const setup = { ...DIRECT, ...(nat === undefined ? {} : { nat }), ...(v6 === undefined ? {} : { v6 }) };
    if (end === 'agent') {
      it.agent = await it.world.agent('alice', { ...setup, tun: true }, old.credentials);
      this.#wireAgent();
    } else {
      it.connector = await it.world.connector('c1', { ...setup, services: SERVICES }, old.credentials);
      this.#wireConnector();
    }
  }

  /** Trouble for `span`; in the end everything is undone. */
  async rage(span: Duration): Promise<void> {
    const { world } = this.it;
    const { entropy } = this;
    const going: { readonly name: string; readonly until: number; readonly undo: () => void | Promise<void> }[] = [];
    const end = later(world.now, span);
    while (world.now < end) {
      for (const one of going.splice(0)) {
        if (one.until > world.now) going.push(one);
        else {
          await one.undo();
          this.note(`over: ${one.name}`);
        }
      }
      if (going.length < 3) {
        const [name, undo] = await this.#happen();
        this.note(name);
        const lasts = entropy.unit() < 0.2 ? Seconds(20) : Seconds(4);
        going.push({ name, until: later(world.now, scale(lasts, entropy.unit())), undo });
      }
      const pause = scale(Seconds(entropy.unit() < 0.1 ? 15 : 2), entropy.unit());
      if (entropy.unit() < 0.15) world.run(pause);
      else this.ping(pause);
    }
    for (const { name, undo } of going) {
      await undo();
      this.note(`over: ${name}`);
    }
  }

  /** Both ends send on the same direct link, know of the same links, and none of those is in trouble. */
  isSettled(): boolean {
    return this.unsettled() === undefined;
  }

  unsettled(): string | undefined {
    const { agent, connector, world } = this.it;
    const session = agent.session('c1');
    const [theirs, ...more] = connector.sessions;
    if (session === undefined || theirs === undefined || more.length > 0) return 'sessions';
    if (session.link === undefined || theirs.link === undefined) return 'no link';
    const show = (links: readonly { number: number; state: string; tier: number }[]): string =>
      links
        .map(({ number, state, tier }) => `${number} tier ${tier} ${state}`)
        .sort()
        .join(', ');
    const [a, c] = [show(session.set.manager.links), show(theirs.set.manager.links)];
    if (a !== c) return `agent ${a}; connector ${c}`;
    if (!session.link.isDirect) return `over the relay: ${session.direct.reason}; ${a}`;
    if (session.set.manager.links.some(({ state }) => state === 'suspect')) return a;
    const relayed = session.set.manager.links.filter(({ tier }) => tier > 0).length;
    if (relayed !== world.relays.length) return `${relayed} relayed links; ${a}`;
    if (session.direct.reason !== 'best_rank') return session.direct.reason;
    return undefined;
  }

  /** Everything is well again, soon, and stays so. */
  async peace(): Promise<void> {
    const { world } = this.it;
    const began = world.now;
    const since = (): number => toMillis(elapsed(began, world.now));
    this.note('peace');
    const before = this.answered.size;
    if (!this.ping(Seconds(60), GAP, () => this.answered.size > before)) this.problem('nothing passes after a minute');
    this.note(`passes after ${since()} ms`);
    if (!this.ping(Seconds(240), Millis(100), () => this.isSettled())) this.problem(`not settled: ${this.unsettled()}`);
    this.note(`settled after ${since()} ms`);
    this.ping(Seconds(30), Millis(100));
    if (!this.ping(Seconds(60), Millis(100), () => this.isSettled()))
      this.problem(`unsettled again: ${this.unsettled()}`);
    const from = this.sent;
    const { agent, connector } = this.it;
    const copies = () => agent.core.linkCounters.get('copies_out') + connector.core.linkCounters.get('copies_out');
    const copied = copies();
    this.ping(Seconds(5), Millis(50));
    world.run(Seconds(1));
    for (let i = from; i < this.sent; i++) if (!this.answered.has(i)) this.problem(`lost ${i} in peace`);
    if (copies() > copied) this.problem(`${copies() - copied} copies in peace`);
    if (!this.isSettled()) this.problem(`did not stay: ${this.unsettled()}`);
    this.#leftovers();
  }

  #leftovers(): void {
    const { world, agent, connector } = this.it;
    world.run(Seconds(240));
    const { turns } = world;
    world.run(Seconds(60));
    if (world.turns - turns > 500) this.problem(`${world.turns - turns} turns in an idle minute`);
    const session = agent.session('c1')!;
    const links = session.set.size;
    if ([...session.allLinks()].length !== links) this.problem('a link that is in no set');
    for (const relay of world.relays) if (relay.channels > 1) this.problem(`${relay.channels} channels at a relay`);
    const paths = [session.direct.path, connector.sessions[0]!.path];
    for (const { puncher } of paths) if (puncher.pairs.all.length > 40) this.problem('too many pairs');
  }
}

function setDown({ path }: SimHost, isDown: boolean): void {
  path.isDown = isDown;
}

/** What becomes of a session by this seed. */
export async function adversary(seed: number, span: Duration): Promise<Adversary> {
  const it = await Adversary.begin(seed);
  it.ping(Seconds(2));
  await it.rage(span);
  await it.peace();
  return it;
}
