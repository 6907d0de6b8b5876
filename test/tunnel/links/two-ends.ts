/**
 * Two link managers, agent's and connector's, over simulated links in virtual time: just enough of QUIC (packet numbers,
 * acknowledgements, loss by packet and time threshold, RFC 9002 §6.1) for what a manager asks of a connection, and a program
 * that pings through them.
 */
import { Counters } from '../../../src/base/counters.js';
import { SeededEntropy } from '../../../src/base/entropy.js';
import { type Duration, elapsed, type Instant, instantAt, later, Millis, Seconds } from '../../../src/base/time.js';
import { CopyWindow } from '../../../src/tunnel/links/copy-window.js';
import { COPY_HEADER } from '../../../src/tunnel/links/frames.js';
import { type LinkConnection, type ManagedLink, Tier } from '../../../src/tunnel/links/managed-link.js';
import { LinkManager } from '../../../src/tunnel/links/manager.js';
import type { PathChoice } from '../../../src/tunnel/links/path-choice.js';
import { LINK_COUNTERS, type LinkReason } from '../../../src/tunnel/links/states.js';

const START = instantAt(1_000_000_000);

/** One direction of a link. */
export interface Way {
  delay: Duration;
  jitter: Duration;
  /** Share lost at a time, by seconds since the start. */
  loss: (seconds: number) => number;
  /** Packets a second that pass, and how many wait; undefined: no limit. */
  queue: { readonly rate: number; readonly length: number } | undefined;
}

export interface Wire {
  readonly up: Way;
  readonly down: Way;
}

export const wire = (delay: number): Wire => ({ up: way(delay), down: way(delay) });
const way = (delay: number): Way => ({ delay: Millis(delay), jitter: Millis(1), loss: () => 0, queue: undefined });

/** What travels: a frame of the managers', or a ping or its answer, alone or as a copy. */
interface Datagram {
  readonly own?: Uint8Array;
  readonly ping?: number;
  readonly copy?: number;
  readonly isMirrored?: boolean;
}

/** A packet number's fate. */
interface Sent {
  readonly at: Instant;
  settled: boolean;
}

class SimConnection implements LinkConnection {
  peer!: SimConnection;
  end!: End;
  link!: ManagedLink;
  readonly #ends: TwoEnds;
  readonly #way: Way;
  readonly #sent: Sent[] = [];
  #lastHeard: Instant = START;
  #lost = 0;
  #rtt: Duration = Millis(0);
  #minRtt: Duration = Millis(1e9);
  #unsettled = 0;
  #freeAt: Instant = START;

  constructor(ends: TwoEnds, way: Way) {
    this.#ends = ends;
    this.#way = way;
  }

  silentFor(now: Instant): Duration {
    return elapsed(this.#lastHeard, now);
  }

  stats() {
    return { rtt: this.#rtt, minRtt: this.#minRtt, packetsSent: this.#sent.length, packetsLost: this.#lost };
  }

  sendDatagram(bytes: Uint8Array): boolean {
    this.send({ own: bytes });
    return true;
  }

  send(datagram: Datagram): void {
    const number = this.#sent.push({ at: this.#ends.now, settled: false }) - 1;
    this.#travel(() => this.peer.arrive(number, datagram));
  }

  #travel(arrive: () => void): void {
    const { now, seconds, entropy } = this.#ends;
    const { delay, jitter, loss, queue } = this.#way;
    const unit = () => entropy.uint32() / 0x1_0000_0000;
    if (unit() < loss(seconds)) return;
    let out = later(now, (delay + jitter * unit()) as Duration);
    if (queue !== undefined) {
      const free = Math.max(now, this.#freeAt);
      if (free - now > (queue.length / queue.rate) * 1e6) return;
      this.#freeAt = (free + 1e6 / queue.rate) as Instant;
      out = later(this.#freeAt, delay);
    }
    this.#ends.at(out, arrive);
  }

  arrive(number: number, datagram: Datagram): void {
    this.#lastHeard = this.#ends.now;
    this.#travel(() => this.peer.acknowledged(number));
    this.end.receive(this.link, datagram);
  }

  acknowledged(number: number): void {
    this.#lastHeard = this.#ends.now;
    const packet = this.#sent[number]!;
    if (!packet.settled) {
      const rtt = elapsed(packet.at, this.#ends.now);
      this.#rtt = this.#rtt === 0 ? rtt : (((this.#rtt * 7 + rtt) / 8) as Duration);
      this.#minRtt = Math.min(this.#minRtt, rtt) as Duration;
    }
    packet.settled = true;
    for (let i = this.#unsettled; i < number; i++) {
      const earlier = this.#sent[i]!;
      const isOld = elapsed(earlier.at, this.#ends.now) > this.#rtt * 1.125;
      if (!earlier.settled && (number - i >= 3 || isOld)) {
        earlier.settled = true;
        this.#lost++;
      }
    }
    while (this.#sent[this.#unsettled]?.settled) this.#unsettled++;
  }
}

/** One end: its manager, and its half of the program. */
export class End {
  readonly manager: LinkManager;
  readonly counters = new Counters(LINK_COUNTERS);
  readonly switches: { readonly at: number; readonly to: number | undefined; readonly reason: LinkReason }[] = [];
  readonly dead: ManagedLink[] = [];
  readonly connections = new Map<ManagedLink, SimConnection>();
  /** Pings, or at the agent answers, that have come at least once, by number; the second they came. */
  readonly received = new Map<number, number>();
  duplicates = 0;
  /** Packets given to the links, and those of them that went out twice. */
  packets = 0;
  copied = 0;
  firstCopy: number | undefined;
  readonly #ends: TwoEnds;
  readonly #window = new CopyWindow();
  #copySeq = 0;
  #armed: Instant | undefined;

  constructor(ends: TwoEnds, decides: boolean, path: PathChoice) {
    this.#ends = ends;
    this.manager = new LinkManager({
      decides,
      path,
      counters: this.counters,
      onActive: (_now, link, reason) => {
        this.switches.push({ at: ends.seconds, to: link?.number, reason });
        if (decides && link !== undefined) ends.tellActive(link.number);
      },
      onDead: (_now, link) => this.dead.push(link),
    });
  }

  send(ping: number): void {
    const { manager } = this;
    const { now } = this.#ends;
    const link = manager.active;
    this.packets++;
    if (link === undefined) return;
    manager.traffic(now);
    const second = manager.copyTo;
    if (second !== undefined && manager.mayCopy(now, 100)) {
      const copy = { ping, copy: this.#copySeq++, isMirrored: manager.isMirroring(now) };
      this.connections.get(link)!.send(copy);
      this.connections.get(second)!.send(copy);
      this.copied++;
      this.firstCopy ??= this.#ends.seconds;
    } else this.connections.get(link)!.send({ ping });
    this.turn();
  }

  receive(link: ManagedLink, datagram: Datagram): void {
    const { now } = this.#ends;
    if (!this.manager.links.includes(link)) return;
    link.health.heard(now);
    const { own } = datagram;
    if (own?.length === COPY_HEADER) this.manager.onCopy(now, false);
    else if (own !== undefined) this.manager.onBeat(now, link, own, 0, own.length);
    else {
      this.manager.traffic(now);
      if (datagram.copy !== undefined) this.manager.onCopy(now, datagram.isMirrored === true);
      if (datagram.copy === undefined || this.#window.accept(datagram.copy)) this.#take(datagram.ping!);
    }
    this.turn();
  }

  #take(ping: number): void {
    if (this.received.has(ping)) this.duplicates++;
    this.received.set(ping, this.#ends.seconds);
    if (this === this.#ends.connector) this.send(ping);
  }

  turn(): void {
    const { now } = this.#ends;
    this.manager.turn(now);
    const next = this.manager.nextTimeout(now);
    if (next === undefined || (this.#armed !== undefined && this.#armed > now && this.#armed <= next)) return;
    const due = Math.max(next, now + 1_000) as Instant;
    this.#armed = due;
    this.#ends.at(due, () => {
      if (this.#armed !== due) return;
      this.#armed = undefined;
      this.turn();
    });
  }
}

export interface Choice {
  readonly seed?: number;
  readonly path?: PathChoice;
}

export class TwoEnds {
  now = START;
  readonly entropy: SeededEntropy;
  readonly agent: End;
  readonly connector: End;
  readonly wires: Wire[] = [];
  pings = 0;
  #words = 0;
  readonly #events: { readonly at: Instant; readonly run: () => void }[] = [];

  constructor({ seed = 1, path = 'auto' }: Choice = {}) {
    this.entropy = new SeededEntropy(seed);
    this.agent = new End(this, true, path);
    this.connector = new End(this, false, 'auto');
  }

  get seconds(): number {
    return elapsed(START, this.now) / 1e6;
  }

  /** Makes a link on `over` between both ends, live at once. */
  link(tier: Tier, over: Wire, isV6 = false): number {
    const number = this.wires.push(over) - 1;
    const pair = [this.agent, this.connector].map((end) => {
      const connection = new SimConnection(this, end === this.agent ? over.up : over.down);
      connection.end = end;
      connection.link = end.manager.add(this.now, { tier, isV6, number, connection });
      end.connections.set(connection.link, connection);
      return connection;
    }) as [SimConnection, SimConnection];
    pair[0].peer = pair[1];
    pair[1].peer = pair[0];
    const rtt = (over.up.delay + over.down.delay) as Duration;
    for (const { end, link } of pair) end.manager.live(this.now, link, rtt);
    return number;
  }

  /** The agent's word goes out on every link, on a stream: it arrives over whichever still works. */
  tellActive(number: number): void {
    const n = this.#words++;
    const usable = this.wires.filter(({ up }) => up.loss(this.seconds) < 1);
    const delay = Math.min(...usable.map(({ up }) => up.delay));
    if (Number.isFinite(delay))
      this.at(later(this.now, delay as Duration), () => this.connector.manager.follow(this.now, n, number));
  }

  at(at: Instant, run: () => void): void {
    let i = this.#events.length;
    while (i > 0 && this.#events[i - 1]!.at <= at) i--;
    this.#events.splice(i, 0, { at, run });
  }

  /** Pings every `gap` for `span`, and lets the last ones arrive. */
  ping(span: Duration, gap: Duration = Millis(10)): void {
    const until = later(this.now, span);
    const next = (): void => {
      this.agent.send(this.pings++);
      const at = later(this.now, gap);
      if (at < until) this.at(at, next);
    };
    this.at(this.now, next);
    this.run(span);
  }

  run(span: Duration): void {
    const until = later(this.now, span);
    for (;;) {
      const event = this.#events.at(-1);
      if (event === undefined || event.at > until) break;
      this.#events.pop();
      if (event.at > this.now) this.now = event.at;
      event.run();
    }
    this.now = until;
  }

  /** Events that wait: what still has a timer when nothing travels. */
  get waiting(): number {
    return this.#events.length;
  }

  /** Pings without an answer among those sent in a span of seconds since the start, pings being `gap` apart. */
  unanswered(from: number, to: number, gap = 0.01): number {
    let missing = 0;
    for (let i = Math.ceil(from / gap); i < Math.min(this.pings, Math.floor(to / gap)); i++) {
      if (!this.agent.received.has(i)) missing++;
    }
    return missing;
  }

  /** The longest time without an answer, in seconds, from `from` on. */
  longestGap(from: number): number {
    const times = [...this.agent.received.values()].filter((at) => at >= from).sort((a, b) => a - b);
    let last = from;
    let longest = 0;
    for (const at of times) {
      longest = Math.max(longest, at - last);
      last = at;
    }
    return longest;
  }

  get problems(): number {
    return this.agent.counters.get('illegal_steps') + this.connector.counters.get('illegal_steps');
  }
}

/** A direct link of 10 ms and the relay's of 20 ms each way; pings begin after `settle` seconds of them. */
export function directAndRelay(choice: Choice = {}): {
  readonly ends: TwoEnds;
  readonly direct: Wire;
  readonly relay: Wire;
} {
  const ends = new TwoEnds(choice);
  const [relay, direct] = [wire(20), wire(10)];
  ends.link(Tier.relayUdp, relay);
  ends.link(Tier.direct, direct);
  ends.run(Seconds(0));
  return { ends, direct, relay };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
