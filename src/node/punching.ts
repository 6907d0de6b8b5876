/**
 * Punching of a whole node: its own candidates, the tokens of all its sessions, and the frames that come.
 *
 *   PUNCH of a known token ──► that session's puncher ──verified──► its source is open for QUIC (`DirectTable`)
 *         of another one   ──► dropped, counted
 */
import { IpAddress, type Prefix, SocketAddress } from '../base/address.js';
import { Counters } from '../base/counters.js';
import type { Entropy } from '../base/entropy.js';
import { type Duration, earliest, type Instant, later, Seconds } from '../base/time.js';
import { U64Map } from '../base/u64map.js';
import type { HostNetwork } from '../os/io.js';
import { wordAt } from '../tunnel/frames.js';
import type { PathChoice } from '../tunnel/links/path-choice.js';
import { Birthday, type BirthdayRole, publicTarget } from '../tunnel/punch/birthday.js';
import {
  type Candidate,
  type CandidateKind,
  type CandidateRules,
  gatherCandidates,
  isUnicast,
  REFUSALS,
  type Refusal,
} from '../tunnel/punch/candidates.js';
import { isPunch, PUNCH_TOKEN } from '../tunnel/punch/punch-frame.js';
import { PUNCH_COUNTERS, type PunchCounter } from '../tunnel/punch/puncher.js';
import type { NatEase } from '../tunnel/punch-plan.js';
import type { DirectPath } from './direct-path.js';
import { type Family, Reflexive } from './reflexive.js';
import { RouteTable } from './route-table.js';

/** Further sockets that may no longer be needed are looked at this often. */
const CLOSE_INTERVAL: Duration = Seconds(10);

/** What the operator says about direct links. */
export interface DirectOptions {
  readonly path: PathChoice;
  /** Peers are not told the addresses of this host's interfaces. */
  readonly hideHost: boolean;
  /** Private prefixes behind the default route at which peers may be. */
  readonly allow: readonly Prefix[];
  /** Whether ports may be guessed with peers that nothing else reaches. */
  readonly guesses: boolean;
  /** Where this node may be reached besides, by port forwarding. */
  readonly advertise: readonly SocketAddress[];
}

export interface PunchingParts extends DirectOptions {
  readonly entropy: Entropy;
  /** Local ports, of the socket of each family; undefined: none. */
  readonly port4: number | undefined;
  readonly port6: number | undefined;
  readonly send: (frame: Uint8Array, addresses: Uint32Array, index: number, socket: number) => void;
  /** The packed address at `index` has proved on `socket` that it knows a token. */
  readonly open: (now: Instant, sources: Uint32Array, index: number, socket: number) => void;
  /** One more IPv4 socket; undefined: there are no more. */
  readonly openSocket: () => number | undefined;
  /** Closes those that nothing needs; returns how many are left. */
  readonly closeSockets: (now: Instant) => number;
  /** The relay's addresses, and how they are probed. */
  readonly relays: () => readonly SocketAddress[];
  readonly probe: (address: SocketAddress, bytes: Uint8Array) => void;
  readonly isRelay: (address: SocketAddress) => boolean;
  /** The relay connection's address family while it is over UDP, and whether it is over TCP. */
  readonly relayFamily: () => Family | undefined;
  readonly isRelayTcp: () => boolean;
  /** Ports are about to be guessed with the peer of `path`. */
  readonly onGuess: (path: DirectPath, role: BirthdayRole) => void;
  /** Own candidates have changed, or where the host's routes lead. */
  readonly onNetwork: (now: Instant) => void;
}

export class Punching {
  readonly counters = new Counters<PunchCounter>(PUNCH_COUNTERS);
  readonly refusals = new Counters<Refusal>(REFUSALS);
  readonly entropy: Entropy;
  readonly send: PunchingParts['send'];
  readonly rules: CandidateRules;
  /** May change while the node runs; sessions are told by whoever changes it. */
  path: PathChoice;
  candidates: readonly Candidate[] = [];
  readonly reflexive: Reflexive;
  #guessing: { readonly path: DirectPath; readonly birthday: Birthday } | undefined;
  #closeAt: Instant | undefined;
  readonly #parts: PunchingParts;
  readonly #byToken: U64Map<DirectPath>;
  /** Paths whose punchers wait for something: the others cost nothing. */
  readonly #busy = new Set<DirectPath>();
  readonly #registered = new Map<DirectPath, Uint8Array[]>();
  #hosts: readonly IpAddress[] = [];
  #routes = new RouteTable([]);
  #networkKey: string | undefined;
  #observed4: SocketAddress | undefined;
  #observed6: SocketAddress | undefined;
  #mapped: readonly SocketAddress[] = [];
  #told: NatEase = 'unknown';

  constructor(parts: PunchingParts) {
    this.#parts = parts;
    this.entropy = parts.entropy;
    this.send = parts.send;
    this.path = parts.path;
    this.#byToken = new U64Map<DirectPath>(parts.entropy.uint32());
    this.rules = {
      route: (ip) => this.#routes.route(ip),
      allowed: parts.allow,
      isRelay: parts.isRelay,
      isOwn: (address) => this.#isOwn(address),
    };
    this.reflexive = new Reflexive({
      entropy: parts.entropy,
      relays: parts.relays,
      send: parts.probe,
      carrier: parts.relayFamily,
      isWanted: () => this.#registered.size > 0,
      onSeen: (now, family, address) => this.#setObserved(now, family, address),
      onChange: parts.onNetwork,
    });
    this.#gather();
  }

  /** What this end does when ports are guessed with the peer of `path`; undefined: guessing is of no use, or another pair's turn. */
  birthdayRole(path: DirectPath): BirthdayRole | undefined {
    const { birthday } = path.plan;
    const isOff = !this.#parts.guesses || birthday === 'none';
    return this.#guessing !== undefined || isOff ? undefined : birthday;
  }

  /** How easily a peer gets through the NAT before this node. What the very sockets have shown counts more than what was told. */
  get ease(): NatEase {
    const { isStrict } = this.reflexive;
    if (this.#parts.isRelayTcp()) return 'blocked';
    if (isStrict === true) return 'strict';
    const isClassified = this.#told === 'open' || this.#told === 'port' || this.#told === 'strict';
    // One public port, and whom it lets in is not known: nobody who was not asked.
    return isClassified ? this.#told : isStrict === false ? 'port' : 'unknown';
  }

  /** What a look at the NAT from a fresh socket has shown. */
  setEase(now: Instant, ease: NatEase): void {
    const before = this.ease;
    this.#told = ease;
    if (this.ease !== before) this.#parts.onNetwork(now);
  }

  isGuessing(path: DirectPath): boolean {
    return this.#guessing?.path === path;
  }

  /** Begins to guess at `start`. */
  guess(start: Instant, path: DirectPath): void {
    const role = this.birthdayRole(path);
    const { puncher } = path;
    const target = publicTarget(puncher.pairs);
    if (role === undefined || target === undefined) return;
    const { entropy, openSocket } = this.#parts;
    this.counters.add('birthdays');
    this.#parts.onGuess(path, role);
    this.#guessing = { path, birthday: new Birthday(start, { role, puncher, entropy, target, openSocket }) };
  }

  /**
   * What the main thread has learnt of the host. Returns whether it is another network than before: other addresses, other routes
   * that are not into a tunnel.
   */
  setNetwork(now: Instant, network: HostNetwork): boolean {
    const key = JSON.stringify([network.addresses, network.routes.filter(({ isTunnel }) => !isTunnel)]);
    const isOther = this.#networkKey !== undefined && this.#networkKey !== key;
    this.#networkKey = key;
    this.#hosts = network.addresses.map((text) => IpAddress.parse(text)!).filter(isUnicast);
    this.#routes = new RouteTable(network.routes);
    for (const path of this.#registered.keys()) path.judgeAgain();
    this.#gather();
    if (isOther) {
      this.#told = 'unknown';
      for (const path of this.#registered.keys()) path.move();
      this.reflexive.ask(now);
    }
    this.#parts.onNetwork(now);
    return isOther;
  }

  /** The relay sees us at this address. */
  setObserved(now: Instant, address: SocketAddress): void {
    this.#setObserved(now, address.ip.family, address);
  }

  #setObserved(now: Instant, family: Family, address: SocketAddress | undefined): void {
    if (family === 4) this.#observed4 = address;
    else this.#observed6 = address;
    if (this.#gather()) this.#parts.onNetwork(now);
  }

  /** The local port over IPv4. */
  get port4(): number | undefined {
    return this.#parts.port4;
  }

  /** Port mappings that a router has given. */
  setMapped(now: Instant, addresses: readonly SocketAddress[]): void {
    this.#mapped = addresses;
    if (this.#gather()) this.#parts.onNetwork(now);
  }

  /** The tokens of `path` have changed. */
  registerTokens(now: Instant, path: DirectPath): void {
    // What was seen while nobody wanted it may long be forgotten.
    if (this.#registered.size === 0 && this.#parts.relayFamily() !== undefined) this.reflexive.ask(now);
    for (const token of this.#registered.get(path) ?? []) this.#byToken.delete(wordAt(token, 0), wordAt(token, 4));
    const tokens = path.puncher.tokens(now);
    for (const token of tokens) this.#byToken.set(wordAt(token, 0), wordAt(token, 4), path);
    this.#registered.set(path, tokens);
  }

  forget(path: DirectPath): void {
    for (const token of this.#registered.get(path) ?? []) this.#byToken.delete(wordAt(token, 0), wordAt(token, 4));
    this.#registered.delete(path);
    if (this.#guessing?.path === path) this.#guessing = undefined;
    this.#busy.delete(path);
  }

  /** A frame of PUNCH's type has come on `socket` from the packed address at `index`. */
  receive(
    now: Instant,
    bytes: Uint8Array,
    offset: number,
    length: number,
    sources: Uint32Array,
    index: number,
    socket: number,
  ): void {
    if (!isPunch(bytes, offset, length)) {
      this.counters.add('malformed');
      return;
    }
    const at = offset + PUNCH_TOKEN;
    const path = this.#byToken.get(wordAt(bytes, at), wordAt(bytes, at + 4));
    if (path === undefined || !path.mayAnswer(sources, index, socket)) this.counters.add('forged');
    else if (path.puncher.receive(now, bytes, offset, sources, index, socket)) {
      this.#parts.open(now, sources, index, socket);
      this.wake(path);
    }
  }

  /** This path's puncher may have something to send. */
  wake(path: DirectPath): void {
    this.#busy.add(path);
  }

  /** Sends what is due. */
  turn(now: Instant): void {
    for (const { puncher } of this.#busy) puncher.turn(now);
    this.#guessOn(now);
    this.reflexive.turn(now);
  }

  nextTimeout(): Instant | undefined {
    let next = earliest(earliest(this.#guessing?.birthday.nextTimeout(), this.#closeAt), this.reflexive.due);
    for (const path of this.#busy) {
      const due = path.puncher.nextTimeout();
      if (due === undefined) this.#busy.delete(path);
      next = earliest(next, due);
    }
    return next;
  }

  #guessOn(now: Instant): void {
    const guessing = this.#guessing;
    if (guessing !== undefined) {
      const isFound = guessing.path.puncher.pairs.all.some(({ state }) => state === 'proved');
      if (isFound || !guessing.birthday.turn(now)) {
        this.#guessing = undefined;
        this.#closeAt = now;
      }
    }
    if (this.#closeAt === undefined || now < this.#closeAt) return;
    this.#closeAt = this.#parts.closeSockets(now) > 0 ? later(now, CLOSE_INTERVAL) : undefined;
  }

  #isOwn(address: SocketAddress): boolean {
    const port = address.ip.isV4 ? this.#parts.port4 : this.#parts.port6;
    return address.port === port && this.#hosts.some((ip) => ip.equals(address.ip));
  }

  /** Returns whether the candidates have changed. */
  #gather(): boolean {
    const { port4, port6, hideHost, advertise } = this.#parts;
    const found: { kind: CandidateKind; address: SocketAddress }[] = [];
    for (const ip of hideHost ? [] : this.#hosts) {
      const port = ip.isV4 ? port4 : port6;
      if (port !== undefined) found.push({ kind: 'host', address: new SocketAddress(ip, port) });
    }
    for (const address of advertise) found.push({ kind: 'fixed', address });
    for (const address of this.#mapped) found.push({ kind: 'mapped', address });
    for (const address of [this.#observed6, this.#observed4]) {
      if (address !== undefined && isUnicast(address.ip)) found.push({ kind: 'srflx', address });
    }
    const before = this.candidates.map(({ address }) => address.toString()).join();
    this.candidates = gatherCandidates(found);
    return this.candidates.map(({ address }) => address.toString()).join() !== before;
  }
}

/** For `status`: what was punched, and which candidates of peers were refused. */
export function punchCounters({ counters, refusals }: Punching): Record<string, number> {
  const named = (prefix: string, values: object): [string, number][] =>
    Object.entries(values).map(([name, value]) => [`${prefix}.${name}`, value as number]);
  return Object.fromEntries([
    ...named('punch', counters.snapshot()),
    ...named('candidates.refused', refusals.snapshot()),
  ]);
}
