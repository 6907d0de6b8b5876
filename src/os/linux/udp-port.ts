/**
 * A small unconnected UDP socket for one client port of a NAT: it sends to any address of its family and tells of each
 * datagram where it is from. Errors that the network reports about earlier datagrams are not told (they name no peer here).
 */
import { ADDRESS_WORDS } from '../../base/address.js';
import type { IoResult, TakeDatagram, UdpPortSocket } from '../io.js';
import type { SendPath } from '../packet-io.js';
import { IPPROTO_IPV6, IPPROTO_UDP, IPV6_V6ONLY, SOCK_DGRAM } from './constants.js';
import { type DatagramArrivals, RunReceiver } from './datagram-arrivals.js';
import { type DatagramRuns, RunSender } from './datagram-runs.js';
import { close } from './libc.js';
import { applyPath, bindPath } from './send-path.js';
import { openSocket, setBuffers, tryOption } from './socket.js';

/** Asked for in both directions, in bytes: as in udp-flow.ts. */
const BUFFER_BYTES = 2 << 20;

/** @throws SallyportError SOCKET_FAILED, TOO_MANY_FILES … (environment), and those of `applyPath`. */
export function openUdpPort(
  family: 4 | 6,
  arrivals: DatagramArrivals,
  runs: DatagramRuns,
  path: SendPath,
): UdpPortSocket {
  const fd = openSocket(family === 4, SOCK_DGRAM, IPPROTO_UDP);
  try {
    setBuffers(fd, BUFFER_BYTES);
    if (family === 6) tryOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    applyPath(fd, path);
    bindPath(fd, family, {}, 0);
  } catch (error) {
    close(fd);
    throw error;
  }
  return new LinuxUdpPort(fd, arrivals, runs);
}

class LinuxUdpPort implements UdpPortSocket {
  readonly fd: number;
  readonly source = new Uint32Array(ADDRESS_WORDS);
  readonly #runs: DatagramRuns;
  readonly #sender: RunSender;
  readonly #receiver: RunReceiver;
  #open = true;

  constructor(fd: number, arrivals: DatagramArrivals, runs: DatagramRuns) {
    this.fd = fd;
    this.#runs = runs;
    this.#sender = new RunSender(fd, runs);
    this.#receiver = new RunReceiver(fd, arrivals, this.source);
  }

  sendTo(addresses: Uint32Array, index: number, bytes: Uint8Array, offset: number, length: number): IoResult {
    return this.#sender.write(addresses, index, bytes, offset, length);
  }

  receive(take: TakeDatagram): IoResult {
    return this.#receiver.receive(take);
  }

  close(): void {
    this.#runs.send(this.#sender);
    this.#receiver.close();
    if (this.#open) close(this.fd);
    this.#open = false;
  }
}
