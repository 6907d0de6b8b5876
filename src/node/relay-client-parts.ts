/** What a node's relay connection is made of, and whom it tells what. */
import type { SocketAddress } from '../base/address.js';
import type { Entropy } from '../base/entropy.js';
import type { Instant, WallTime } from '../base/time.js';
import type { QuicEndpoint } from '../quic/endpoint.js';
import type { FromRelay } from '../tunnel/messages.js';
import type { RelayClient } from './relay-client.js';

export interface RelayClientOwner {
  onRelayReady(now: Instant, relay: RelayClient): void;
  onRelayLost(now: Instant, relay: RelayClient, reason: string): void;
  /** Every message that is not the answer to a request. */
  onRelayMessage(now: Instant, relay: RelayClient, message: FromRelay): void;
  onObserved(now: Instant, relay: RelayClient, address: SocketAddress): void;
  /** The next attempt is about to be made: the address may be looked up anew. */
  onRelayAttempt(now: Instant, relay: RelayClient, attempt: number): void;
  /** Whether somebody's packets wait for the relay. */
  isRelayWanted(): boolean;
}

export interface RelayClientParts {
  readonly endpoint: QuicEndpoint;
  readonly entropy: Entropy;
  readonly role: 'agent' | 'connector';
  /** The relay's name in its certificate. */
  readonly name: string;
  readonly serverName: string;
  /** Where the underlay knows it. */
  readonly slot: number;
  readonly software: string;
  readonly proof: () => unknown;
  readonly owner: RelayClientOwner;
  readonly wall: () => WallTime;
  /** The relay is at this address from now on; over TCP with what the bridge there shares. */
  readonly setRelay: (address: SocketAddress, credit?: SharedArrayBuffer) => void;
  readonly sendProbe: (address: SocketAddress, bytes: Uint8Array) => void;
}
