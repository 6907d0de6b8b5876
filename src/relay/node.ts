/**
 * One node (agent or connector) as its relay knows it: identity, relay connection, forwarding address, services, channels.
 *
 * The forwarding address is where the relay connection's handshake came from until the node echoes a REVALIDATE nonce;
 * then it is the source that nonce was sent to. Nothing else moves it.
 */
import { ADDRESS_WORDS, SocketAddress } from '../base/address.js';
import { TokenBucket } from '../base/bucket.js';
import type { Instant } from '../base/time.js';
import type { Identity } from '../policy/proof.js';
import { OPENS_AT_ONCE, OPENS_PER_SECOND } from '../tunnel/open-rate.js';
import type { Candidate, ChannelSide } from './channels.js';
import { Meter, type RateLimit } from './limits.js';
import type { NodeConnection } from './node-connection.js';

/**
 * Channels a connector is told of: the agents of a relay that comes back return at once, and each costs the connector a handshake
 * of about a millisecond.
 */
export const CHANNELS_PER_SECOND = 500;
export const CHANNELS_AT_ONCE = 1000;

export class RelayNode {
  readonly identity: Identity;
  connection: NodeConnection;
  /** The connection before, since this one took its place: what was sent on it still counts, until the node closes it. */
  former: { readonly connection: NodeConnection; readonly since: Instant } | undefined;
  /** Packed address of `ADDRESS_WORDS` words that downlink goes to, and the local address it leaves from. */
  readonly forwarding = new Uint32Array(ADDRESS_WORDS);
  readonly local = new Uint32Array(ADDRESS_WORDS);
  /** Index of the relay's socket that reaches the forwarding address. */
  socket = 0;
  /** Services this connector has registered and may serve. */
  readonly services = new Set<string>();
  readonly channels = new Set<ChannelSide>();
  /** Where its relay connection is now, when that is not its forwarding address and is being asked to prove itself. */
  candidate: Candidate | undefined;
  /** Measures an agent's requests, or the channels a connector is told of. */
  readonly opens: TokenBucket;
  /** What passes from and to this node; undefined when nodes of its role have no limit. */
  readonly sent: Meter | undefined;
  readonly received: Meter | undefined;
  readonly since: Instant;
  /** When the node was last heard on its relay connection or a channel. */
  heard: Instant;

  constructor(identity: Identity, connection: NodeConnection, since: Instant, limit: RateLimit) {
    this.sent = Meter.for(limit);
    this.received = Meter.for(limit);
    this.identity = identity;
    this.connection = connection;
    this.since = since;
    this.heard = since;
    this.opens =
      identity.role === 'agent'
        ? new TokenBucket(OPENS_PER_SECOND, OPENS_AT_ONCE)
        : new TokenBucket(CHANNELS_PER_SECOND, CHANNELS_AT_ONCE);
  }

  get key(): string {
    return nodeKey(this.identity.role, this.identity.name);
  }

  get forwardingAddress(): SocketAddress {
    return SocketAddress.read(this.forwarding, 0);
  }

  /** Makes entry `index` of the packed tables the forwarding address. */
  moveTo(socket: number, addresses: Uint32Array, locals: Uint32Array, index: number): void {
    const from = index * ADDRESS_WORDS;
    for (let i = 0; i < ADDRESS_WORDS; i++) {
      this.forwarding[i] = addresses[from + i]!;
      this.local[i] = locals[from + i]!;
    }
    this.socket = socket;
  }
}

export function nodeKey(role: string, name: string): string {
  return `${role}/${name}`;
}
