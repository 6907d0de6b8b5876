/**
 * The nodes that a relay had before it was killed, told one after another that it is back: each gets a REVALIDATE, answers it on
 * a relay connection that this process does not know, and learns by the stateless reset that it has to connect anew. Without it, a
 * node that has nothing to send would notice with its next keep-alive only.
 */
import { ADDRESS_WORDS, SocketAddress } from '../base/address.js';
import { type Instant, later, Millis } from '../base/time.js';

/** Where a node's relay connection was: its own address, and the address of the relay that it used. */
export interface FormerNode {
  readonly address: string;
  readonly local: string;
}

/** Addresses kept: as many as a relay has connections. */
export const MAX_FORMER_NODES = 20_000;
/** 500 a second: each comes back with a handshake, of which a core does about a thousand a second. */
const PER_STEP = 25;
const STEP = Millis(50);

export class FormerNodes {
  readonly #waiting: { readonly address: Uint32Array; readonly local: Uint32Array }[] = [];
  #next: Instant | undefined;

  /** When `take` wants to be asked. */
  get due(): Instant | undefined {
    return this.#next;
  }

  /** Nodes whose address is none are left out. */
  add(now: Instant, nodes: readonly FormerNode[]): void {
    for (const { address, local } of nodes.slice(0, MAX_FORMER_NODES)) {
      const from = SocketAddress.parse(address);
      if (from === undefined) continue;
      const entry = { address: new Uint32Array(ADDRESS_WORDS), local: new Uint32Array(ADDRESS_WORDS) };
      from.write(entry.address, 0);
      // What is no address stays unspecified: the routing table's choice.
      SocketAddress.parse(local)?.write(entry.local, 0);
      this.#waiting.push(entry);
    }
    if (this.#waiting.length > 0) this.#next = now;
  }

  /** Hands over those that are due now. */
  take(now: Instant, tell: (address: Uint32Array, local: Uint32Array) => void): void {
    if (this.#next === undefined || now < this.#next) return;
    for (const { address, local } of this.#waiting.splice(-PER_STEP)) tell(address, local);
    this.#next = this.#waiting.length === 0 ? undefined : later(now, STEP);
  }
}
