/**
 * Keeps one UDP port of this node mapped at the gateway, if there is one that maps ports.
 *
 *   seeking ──a way found, port mapped──► held ──half of the lease──► renewed, or tried again at half of what is left
 *      ▲  └─ none: again in ten minutes     │ lease over, another gateway
 *      └────────────────────────────────────┘            stop: the mapping is removed
 *
 * Only the gateway of the default route is ever asked.
 */
import { type IpAddress, Prefix, SocketAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import type { Log } from '../../base/log.js';
import type { PortmapProtocol } from '../../tunnel/portmap/protocols.js';
import { type Gateway, gatewayAt, giveUpAsking } from './gateway-socket.js';
import { findMethod, type Lease, type MappingMethod } from './methods.js';

/** Seconds, RFC 6886 §3.3. */
const LIFETIME = 7200;
/** A gateway that says less is not asked more often than this, in seconds. */
const SHORTEST_RENEWAL = 15;
/** A gateway that maps nothing is asked again after this many seconds: somebody may have switched it on. */
const SEEK_AGAIN = 600;
/** A node that ends waits this long, in milliseconds, for the gateway to remove the mapping. */
const REMOVAL_LIMIT_MS = 400;

/** RFC 1918, RFC 6598: a "public" address of these means another NAT behind the gateway. */
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10'].map((text) => Prefix.parse(text)!);

/** How gateways are found out about. */
export interface GatewayWays {
  /** Undefined where this machine has no address towards it. */
  reach(address: IpAddress): Promise<Gateway | undefined>;
  /** Undefined: it maps no ports. */
  find(gateway: Gateway, entropy: Entropy): Promise<MappingMethod | undefined>;
}

const REAL_WAYS: GatewayWays = { reach: gatewayAt, find: findMethod };

export interface PortMapperParts {
  /** The gateway's address now; undefined: there is none. */
  readonly gateway: () => IpAddress | undefined;
  readonly insidePort: number;
  readonly entropy: Entropy;
  readonly log: Log;
  /** Where this node may be reached now by the mapping; none while there is none. */
  readonly onMapped: (addresses: readonly SocketAddress[]) => void;
}

/** What `status` shows. */
export interface MappingStatus {
  readonly protocol: PortmapProtocol;
  readonly address: string;
  /** Seconds that the gateway has granted. */
  readonly lifetime: number;
}

interface Held {
  readonly gateway: Gateway;
  readonly method: MappingMethod;
  readonly lease: Lease;
  /** On the clock of `performance`, in milliseconds. */
  readonly until: number;
}

export class PortMapper {
  readonly #parts: PortMapperParts;
  readonly #ways: GatewayWays;
  #held: Held | undefined;
  /** The gateway that questions may be under way to. */
  #asked: Gateway | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isBusy = false;
  #isStopped = false;
  /** The network has changed while something was under way. */
  #isStale = false;

  constructor(parts: PortMapperParts, ways: GatewayWays = REAL_WAYS) {
    this.#parts = parts;
    this.#ways = ways;
  }

  get status(): MappingStatus | undefined {
    if (this.#held === undefined) return undefined;
    const { method, lease } = this.#held;
    return { protocol: method.protocol, address: addressOf(lease).toString(), lifetime: lease.lifetime };
  }

  /** To be called at the start and whenever addresses or routes may have changed. */
  networkChanged(): void {
    if (this.#isBusy) {
      this.#isStale = true;
      return;
    }
    const { gateway: present } = this.#parts;
    const isSame = this.#held !== undefined && present()?.equals(this.#held.gateway.address) === true;
    if (!isSame) void this.#run(() => this.#seek());
    else void this.#run(() => this.#check(this.#held!));
  }

  /** Removes the mapping; resolves within half a second. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    if (this.#asked !== undefined) giveUpAsking(this.#asked);
    const held = this.#held;
    this.#held = undefined;
    if (held === undefined) return;
    const removed = held.method.unmap(this.#parts.insidePort, held.lease);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, REMOVAL_LIMIT_MS);
    });
    await Promise.race([removed, late]);
    clearTimeout(timer);
    giveUpAsking(held.gateway);
  }

  /** One thing at a time. */
  async #run(act: () => Promise<void>): Promise<void> {
    if (this.#isStopped) return;
    this.#isBusy = true;
    clearTimeout(this.#timer);
    try {
      await act();
    } finally {
      this.#isBusy = false;
      if (this.#isStale) {
        this.#isStale = false;
        this.networkChanged();
      }
    }
  }

  /** The same gateway, but perhaps by another address of ours. */
  async #check(held: Held): Promise<void> {
    const gateway = await this.#ways.reach(held.gateway.address);
    if (gateway === undefined || !gateway.own.equals(held.gateway.own)) await this.#seek();
    else await this.#renew(held);
  }

  async #seek(): Promise<void> {
    this.#let();
    const address = this.#parts.gateway();
    const gateway = address === undefined ? undefined : await this.#ways.reach(address);
    this.#asked = gateway;
    const method =
      gateway === undefined || this.#isStopped ? undefined : await this.#ways.find(gateway, this.#parts.entropy);
    const { insidePort } = this.#parts;
    const lease = await method?.map(insidePort, insidePort, LIFETIME);
    if (lease === undefined) this.#again(SEEK_AGAIN, () => this.#seek());
    else await this.#hold(gateway!, method!, lease);
  }

  async #renew({ gateway, method, lease, until }: Held): Promise<void> {
    const renewed = await method.map(this.#parts.insidePort, lease.publicPort, LIFETIME);
    if (renewed !== undefined) {
      await this.#hold(gateway, method, renewed);
      return;
    }
    const left = (until - performance.now()) / 1000;
    if (left < SHORTEST_RENEWAL) await this.#seek();
    else this.#again(left / 2, () => this.#renew(this.#held!));
  }

  async #hold(gateway: Gateway, method: MappingMethod, lease: Lease): Promise<void> {
    if (this.#isStopped) {
      await method.unmap(this.#parts.insidePort, lease);
      return;
    }
    const before = this.#held?.lease;
    this.#held = { gateway, method, lease, until: performance.now() + lease.lifetime * 1000 };
    this.#again(lease.lifetime / 2, () => this.#renew(this.#held!));
    const address = addressOf(lease);
    if (before !== undefined && addressOf(before).equals(address)) return;
    const { log, onMapped } = this.#parts;
    const fields = { protocol: method.protocol, address: address.toString(), lifetime: lease.lifetime };
    if (PRIVATE.some((prefix) => prefix.contains(address.ip))) {
      log.info(fields, 'the gateway maps a port, but is behind another NAT itself');
      onMapped([]);
      return;
    }
    log.info(fields, 'port mapped');
    onMapped([address]);
  }

  #let(): void {
    if (this.#held === undefined) return;
    this.#held = undefined;
    this.#parts.log.info({}, 'port mapping lost');
    this.#parts.onMapped([]);
  }

  #again(seconds: number, act: () => Promise<void>): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => void this.#run(act), Math.max(seconds, SHORTEST_RENEWAL) * 1000);
    this.#timer.unref();
  }
}

function addressOf({ publicAddress, publicPort }: Lease): SocketAddress {
  return new SocketAddress(publicAddress, publicPort);
}
