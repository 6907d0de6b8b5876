/**
 * The Linux backend as a packet thread sees it: its sockets and its loop.
 */
import type { Sockets } from '../io.js';
import type { SendPath } from '../packet-io.js';
import { DatagramArrivals } from './datagram-arrivals.js';
import { DatagramRuns } from './datagram-runs.js';
import { openEcho } from './echo.js';
import { EpollReactor, type ReactorOptions } from './reactor.js';
import { Scratch } from './scratch.js';
import { connectTcp, listenTcp } from './tcp.js';
import { openTun } from './tun.js';
import { openUdp } from './udp.js';
import { openUdpFlow } from './udp-flow.js';
import { openUdpPort } from './udp-port.js';

export type { ReactorOptions } from './reactor.js';

/**
 * One per thread. What it opens belongs to the caller, who closes it (after its watch).
 * @param path how connections, flows and ports leave; as the kernel routes when absent.
 */
export function createLinuxSockets(path: SendPath = {}): Sockets {
  const scratch = new Scratch();
  const runs = new DatagramRuns();
  const arrivals = new DatagramArrivals();
  return {
    udp: openUdp,
    tun: openTun,
    connect: (to) => connectTcp(to, scratch, path),
    listen: (local) => listenTcp(local, scratch),
    udpFlow: (to) => openUdpFlow(to, arrivals, runs, path),
    udpPort: (family) => openUdpPort(family, arrivals, runs, path),
    echo: (family) => openEcho(family, scratch, path),
    flushDatagrams: () => runs.flush(),
  };
}

/** The loop; a thread makes one. */
export function createReactor(options: ReactorOptions): EpollReactor {
  return new EpollReactor(options);
}
