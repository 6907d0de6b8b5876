/**
 * What NAT is before a running node, looked at beside its work: once it knows its relay, and again after every change of the network.
 * Nothing of the node waits for it, and it never keeps the process alive.
 *
 *   relay known, network changed ──QUIET later──► look (≈ 2 s) ──► lifetime of idle mappings (≤ 5 min), once per network
 */
import type { SocketAddress } from '../../base/address.js';
import type { Entropy } from '../../base/entropy.js';
import type { NatEase } from '../../tunnel/punch-plan.js';
import type { IdleLifetimes } from '../keep-alive.js';
import { LIFETIME_SPANS } from './lifetime.js';
import { type FamilyReport, netcheck } from './report.js';

/** A network that changes does so several times at once; and the node's own start comes first. In milliseconds. */
const QUIET_MS = 3000;

export interface NatWatchOwner {
  /** How easily a peer gets through the IPv4 NAT, after every look. */
  onEase(ease: NatEase): void;
  /** How long idle mappings live, once it is measured; till then what another network has shown still holds. */
  onLifetimes(lifetimes: IdleLifetimes): void;
}

/** What a role's status says of it; undefined: not known yet, or no relay address of this family. */
export interface NatStatus {
  readonly ipv4: FamilyReport | undefined;
  readonly ipv6: FamilyReport | undefined;
}

export class NatWatch {
  readonly #entropy: Entropy;
  readonly #owner: NatWatchOwner;
  #relays: readonly SocketAddress[] = [];
  #timer: NodeJS.Timeout | undefined;
  #latest: NatStatus | undefined;
  /** Counts networks: a look that ends on another one than it began on says nothing. */
  #network = 0;
  #isMeasuring = false;
  #isStopped = false;

  constructor(entropy: Entropy, owner: NatWatchOwner) {
    this.#entropy = entropy;
    this.#owner = owner;
  }

  get status(): NatStatus | undefined {
    return this.#latest;
  }

  /** The relay's addresses; the same ones again change nothing. */
  setRelays(relays: readonly SocketAddress[]): void {
    if (relays.map(String).join() === this.#relays.map(String).join()) return;
    this.#relays = relays;
    this.networkChanged();
  }

  networkChanged(): void {
    this.#network++;
    clearTimeout(this.#timer);
    if (this.#relays.length === 0) return;
    this.#timer = setTimeout(() => void this.#look(this.#network), QUIET_MS).unref();
  }

  stop(): void {
    this.#isStopped = true;
    this.#network++;
    clearTimeout(this.#timer);
  }

  async #look(network: number): Promise<void> {
    const first = await netcheck({ ...this.#options(), lifetimeSpans: undefined });
    if (network !== this.#network) return;
    this.#take(first);
    if (first.udp) await this.#measure();
  }

  /** One at a time, whatever the network does; what was measured on another one is measured again. */
  async #measure(): Promise<void> {
    if (this.#isMeasuring) return;
    this.#isMeasuring = true;
    for (let network = -1; network !== this.#network && !this.#isStopped; ) {
      network = this.#network;
      const whole = await netcheck({ ...this.#options(), lifetimeSpans: LIFETIME_SPANS });
      if (network !== this.#network) continue;
      this.#take(whole);
      const { ipv4, ipv6 } = whole;
      this.#owner.onLifetimes({ ipv4: ipv4?.lifetime?.atLeast, ipv6: ipv6?.lifetime?.atLeast });
    }
    this.#isMeasuring = false;
  }

  #take({ ipv4, ipv6 }: NatStatus): void {
    this.#latest = { ipv4, ipv6 };
    this.#owner.onEase(ipv4?.ease ?? 'unknown');
  }

  #options() {
    return { relays: this.#relays, entropy: this.#entropy, gateway: undefined, isBackground: true };
  }
}
