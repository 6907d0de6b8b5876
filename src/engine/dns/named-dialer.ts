/**
 * A dialer behind fake addresses: what goes to an address that stands for a name goes to that name's real address, and answers come back from
 * the fake one.
 *
 *   tcp(10.126.0.16:443) ─► name ─► addresses (looked up if need be) ─► each in turn until one connects
 *                             └─► the inner dialer takes names ─► dialled by it
 *   udp: the address must be known by now (it is looked up when the fake one is given out)
 */
import { ADDRESS_WORDS, type IpAddress, SocketAddress } from '../../base/address.js';
import {
  type EchoSocket,
  EHOSTUNREACH,
  type IoResult,
  type Reactor,
  type TakeDatagram,
  type TcpStream,
} from '../../os/io.js';
import type { Dialer, UdpOutlet } from '../dialer.js';
import type { FakeIpPool } from './fake-ip.js';
import type { Resolver } from './resolver.js';

/** Destinations of one client port that have fake addresses; beyond, the first is forgotten. */
const PAIRS_MAX = 64;
/** Addresses tried for one connection. */
const TRIES = 4;

export class NamedDialer implements Dialer {
  readonly #inner: Dialer;
  readonly #pool: FakeIpPool;
  readonly #resolver: () => Resolver;
  readonly #reactor: Reactor;

  /** @param resolver asked when something is dialled: it dials through `inner` itself */
  constructor(reactor: Reactor, inner: Dialer, pool: FakeIpPool, resolver: () => Resolver) {
    this.#reactor = reactor;
    this.#inner = inner;
    this.#pool = pool;
    this.#resolver = resolver;
  }

  get name(): string {
    return this.#inner.name;
  }

  tcp(target: SocketAddress, done: (result: IoResult, stream: TcpStream | undefined) => void): () => void {
    if (!this.#pool.isFake(target.ip)) return this.#inner.tcp(target, done);
    const host = this.#pool.hostOf(target.ip);
    if (host === undefined) throw new Error('this address stands for no name');
    if (this.#inner.takesNames === true) return this.#inner.tcp(target, done, host);
    let over = false;
    let giveUp = (): void => {};
    const attempt = (addresses: readonly IpAddress[], last: IoResult): void => {
      const [first, ...others] = addresses;
      if (over) return;
      if (first === undefined) {
        done(last, undefined);
        return;
      }
      const next = (result: IoResult, stream: TcpStream | undefined): void => {
        if (result === 0) done(result, stream);
        else attempt(others, result);
      };
      try {
        giveUp = this.#inner.tcp(new SocketAddress(first, target.port), next);
      } catch {
        attempt(others, -EHOSTUNREACH);
      }
    };
    const { family } = target.ip;
    const found = (addresses: readonly IpAddress[]): void => attempt(addresses.slice(0, TRIES), -EHOSTUNREACH);
    // Not within this call: what fails at once would be told before anybody listens.
    const stop = this.#reactor.at(this.#reactor.now(), () => {
      const known = this.#resolver().known(host, family);
      if (known.length > 0) found(known);
      else this.#resolver().lookup(host, found);
    });
    return () => {
      over = true;
      stop();
      giveUp();
    };
  }

  udp(flow: Uint32Array, target: SocketAddress): UdpOutlet | undefined {
    const real = this.#realOf(target);
    if (real === undefined) throw new Error('not known yet');
    const outlet = this.#inner.udp(flow, real);
    return outlet && new NamedOutlet(outlet, (fake) => this.#realOf(fake));
  }

  echo(family: 4 | 6): EchoSocket {
    return this.#inner.echo(family);
  }

  /** Where an address really is; undefined when that is not known (and is asked for now). */
  #realOf(address: SocketAddress): SocketAddress | undefined {
    if (!this.#pool.isFake(address.ip)) return address;
    const host = this.#pool.hostOf(address.ip);
    if (host === undefined) return undefined;
    const [first] = this.#resolver().known(host, address.ip.family);
    if (first === undefined) this.#resolver().lookup(host, () => {}, address.ip.family);
    return first && new SocketAddress(first, address.port);
  }
}

/** A real destination and the address it goes by; packed. */
interface Pair {
  readonly fake: Uint32Array;
  /** Index 1 is the destination, as `UdpOutlet.write` wants it. */
  readonly real: Uint32Array;
}

class NamedOutlet implements UdpOutlet {
  readonly fd: number;
  readonly source = new Uint32Array(ADDRESS_WORDS);
  readonly #outlet: UdpOutlet;
  readonly #realOf: (address: SocketAddress) => SocketAddress | undefined;
  readonly #pairs: Pair[] = [];
  #take: TakeDatagram = () => {};

  constructor(outlet: UdpOutlet, realOf: (address: SocketAddress) => SocketAddress | undefined) {
    this.fd = outlet.fd;
    this.#outlet = outlet;
    this.#realOf = realOf;
  }

  get sendPaused(): boolean {
    return this.#outlet.sendPaused === true;
  }

  get isDialling(): boolean {
    return this.#outlet.isDialling === true;
  }

  write(addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number): IoResult {
    const pair = this.#pairOf(addresses);
    return pair === undefined ? -EHOSTUNREACH : this.#outlet.write(pair.real, bytes, offset, length);
  }

  receive(take: TakeDatagram): IoResult {
    this.#take = take;
    return this.#outlet.receive(this.#rename);
  }

  readonly #rename: TakeDatagram = (bytes, offset, length) => {
    const { source } = this.#outlet;
    let from = source;
    for (const { fake, real } of this.#pairs) if (equal(real, ADDRESS_WORDS, source, 0)) from = fake;
    for (let i = 0; i < ADDRESS_WORDS; i++) this.source[i] = from[i]!;
    this.#take(bytes, offset, length);
  };

  set onOver(handler: UdpOutlet['onOver']) {
    this.#outlet.onOver = handler;
  }

  close(): void {
    this.#outlet.close();
  }

  #pairOf(addresses: Uint32Array): Pair | undefined {
    for (const pair of this.#pairs) if (equal(pair.fake, 0, addresses, ADDRESS_WORDS)) return pair;
    const address = this.#realOf(SocketAddress.read(addresses, 1));
    if (address === undefined) return undefined;
    const real = addresses.slice(0, 2 * ADDRESS_WORDS);
    address.write(real, 1);
    const pair = { fake: addresses.slice(ADDRESS_WORDS, 2 * ADDRESS_WORDS), real };
    if (this.#pairs.length >= PAIRS_MAX) this.#pairs.shift();
    this.#pairs.push(pair);
    return pair;
  }
}

function equal(a: Uint32Array, i: number, b: Uint32Array, k: number): boolean {
  for (let n = 0; n < ADDRESS_WORDS; n++) if (a[i + n] !== b[k + n]) return false;
  return true;
}
