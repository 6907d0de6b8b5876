/**
 * The Linux side of a tracer: one per process, opened when the first trace starts.
 */
import { type IpAddress, SocketAddress } from '../../base/address.js';
import { SystemClock } from '../clock.js';
import type { PacketIo, SendPath } from '../packet-io.js';
import { IP_MTU, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP, IPV6_MTU, SOCK_DGRAM } from './constants.js';
import { close, connect } from './libc.js';
import { MainLoop } from './main-loop.js';
import { openPacketSource } from './packet-source.js';
import { openProbeSocket } from './probe-socket.js';
import { openRawSink } from './raw-sink.js';
import { reserveTcp, reserveUdp } from './reservation.js';
import { Scratch } from './scratch.js';
import { applyPath } from './send-path.js';
import { openSession } from './session-connection.js';
import { SockaddrBuffer } from './sockaddr.js';
import { openSocket, readOption } from './socket.js';

/** Where the kernel does not tell: Ethernet. */
const USUAL_MTU = 1500;

/** @param onBug a handler threw */
export function openLinuxPacketIo(onBug: (error: unknown) => void): PacketIo {
  const clock = new SystemClock();
  const loop = new MainLoop(onBug);
  const scratch = new Scratch();
  return {
    now: () => clock.now(),
    at: (at, handler) => {
      const timer = setTimeout(handler, Math.max(0, Math.ceil((at - clock.now()) / 1_000)));
      return () => clearTimeout(timer);
    },
    source: (handler) => openPacketSource(loop, handler),
    sink: (family, path) => openRawSink(family, path, scratch),
    reserveUdp,
    reserveTcp,
    session: (to, path) => openSession(to, path, loop),
    probeSocket: (options, handlers) => openProbeSocket(options, handlers, loop),
    deviceMtu,
    close: () => loop.close(),
  };
}

/** What the kernel believes of the way to `to`: the device's MTU, or less where it has learnt better. */
function deviceMtu(to: IpAddress, path: SendPath): number {
  const fd = openSocket(to.isV4, SOCK_DGRAM, IPPROTO_UDP);
  try {
    applyPath(fd, path);
    const name = new SockaddrBuffer();
    if (connect(fd, name.address, name.set(new SocketAddress(to, 9))) < 0) return USUAL_MTU;
    return to.isV4 ? readOption(fd, IPPROTO_IP, IP_MTU) : readOption(fd, IPPROTO_IPV6, IPV6_MTU);
  } finally {
    close(fd);
  }
}
