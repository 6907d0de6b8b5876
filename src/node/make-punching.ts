/** A node's punching, wired to its sockets. */
import type { Entropy } from '../base/entropy.js';
import type { Instant } from '../base/time.js';
import type { UdpSocket } from '../os/io.js';
import type { BirthdayRole } from '../tunnel/punch/birthday.js';
import type { DirectPath } from './direct-path.js';
import type { ExtraSockets } from './extra-sockets.js';
import { type DirectOptions, Punching } from './punching.js';
import type { RelayClient } from './relay-client.js';
import type { Underlay } from './underlay.js';

export interface MakePunchingParts {
  readonly extraSockets: ExtraSockets;
  readonly relay: () => RelayClient;
  readonly now: () => Instant;
  readonly onGuess: (path: DirectPath, role: BirthdayRole) => void;
  readonly onNetwork: (now: Instant) => void;
}

export function makePunching(
  options: DirectOptions,
  sockets: readonly UdpSocket[],
  underlay: Underlay,
  entropy: Entropy,
  parts: MakePunchingParts,
): Punching {
  const port = (family: 4 | 6): number | undefined =>
    sockets.find(({ local }) => local.ip.family === family)?.local.port;
  return new Punching({
    ...options,
    entropy,
    port4: port(4),
    port6: port(6),
    send: (frame, addresses, index, socket) => underlay.punch(frame, addresses, index, socket),
    open: (now, sources, index, socket) => {
      underlay.direct.open(now, sources, index, socket);
    },
    openSocket: () => underlay.extra.open(parts.extraSockets, parts.now),
    closeSockets: (now) => underlay.extra.closeUnused(now),
    relays: () => parts.relay().addresses,
    relayFamily: () => {
      const relay = parts.relay();
      return relay.state === 'ready' && !relay.isOverTcp ? relay.connection?.remote.ip.family : undefined;
    },
    isRelayTcp: () => parts.relay().state === 'ready' && parts.relay().isOverTcp,
    probe: (address, bytes) => underlay.probe(address, bytes),
    isRelay: (address) => underlay.isRelay(address) || underlay.isVirtual(address),
    onGuess: parts.onGuess,
    onNetwork: parts.onNetwork,
  });
}
