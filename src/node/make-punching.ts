/** A node's punching, wired to its sockets. */
import type { Entropy } from '../base/entropy.js';
import type { Instant } from '../base/time.js';
import type { UdpSocket } from '../os/io.js';
import { type DirectOptions, Punching } from './punching.js';
import type { Underlay } from './underlay.js';

export function makePunching(
  options: DirectOptions,
  sockets: readonly UdpSocket[],
  underlay: Underlay,
  entropy: Entropy,
  onNetwork: (now: Instant) => void,
): Punching {
  const port = (family: 4 | 6): number | undefined =>
    sockets.find(({ local }) => local.ip.family === family)?.local.port;
  return new Punching({
    ...options,
    entropy,
    port4: port(4),
    port6: port(6),
    send: (frame, addresses, index) => underlay.punch(frame, addresses, index),
    open: (now, sources, index) => {
      underlay.direct.open(now, sources, index);
    },
    isRelay: (address) => underlay.isRelay(address) || underlay.isVirtual(address),
    onNetwork,
  });
}
