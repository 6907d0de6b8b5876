/**
 * A small connected UDP socket for one flow to a backend: the kernel filters by peer and reports the
 * backend's ICMP errors (port unreachable comes as −ECONNREFUSED from the next call).
 */
import type { SocketAddress } from '../../base/address.js';
import type { IoResult, TakeDatagram, UdpFlowSocket } from '../io.js';
import type { SendPath } from '../packet-io.js';
import { IPPROTO_UDP, SOCK_DGRAM } from './constants.js';
import { type DatagramArrivals, RunReceiver } from './datagram-arrivals.js';
import { type DatagramRuns, RunSender } from './datagram-runs.js';
import { close, connect, errno } from './libc.js';
import { leaveBy } from './send-path.js';
import { SockaddrBuffer } from './sockaddr.js';
import { openSocket, setBuffers, socketError } from './socket.js';

/** Asked for in both directions, in bytes: a burst of 1,000 datagrams of 1,400 bytes with the kernel's 900 of overhead each. */
const BUFFER_BYTES = 2 << 20;

/** @throws SallyportError SOCKET_FAILED (environment), for example without a route. */
export function openUdpFlow(
  to: SocketAddress,
  arrivals: DatagramArrivals,
  runs: DatagramRuns,
  path: SendPath,
): UdpFlowSocket {
  const fd = openSocket(to.ip.isV4, SOCK_DGRAM, IPPROTO_UDP);
  leaveBy(fd, path);
  setBuffers(fd, BUFFER_BYTES);
  const name = new SockaddrBuffer();
  if (connect(fd, name.address, name.set(to)) < 0) {
    const code = errno();
    close(fd);
    throw socketError(code, `connecting to ${to}`);
  }
  return new LinuxUdpFlow(fd, arrivals, runs);
}

class LinuxUdpFlow implements UdpFlowSocket {
  readonly fd: number;
  readonly #runs: DatagramRuns;
  readonly #sender: RunSender;
  readonly #receiver: RunReceiver;
  #open = true;

  constructor(fd: number, arrivals: DatagramArrivals, runs: DatagramRuns) {
    this.fd = fd;
    this.#runs = runs;
    this.#sender = new RunSender(fd, runs);
    this.#receiver = new RunReceiver(fd, arrivals);
  }

  receive(take: TakeDatagram): IoResult {
    return this.#receiver.receive(take);
  }

  write(source: Uint8Array, offset: number, length: number): IoResult {
    return this.#sender.write(undefined, 0, source, offset, length);
  }

  close(): void {
    this.#runs.send(this.#sender);
    this.#receiver.close();
    if (this.#open) close(this.fd);
    this.#open = false;
  }
}
