/**
 * The Linux side of a tracer: one per process, opened when the first trace starts.
 */
import { networkInterfaces } from 'node:os';
import { type IpAddress, SocketAddress } from '../../base/address.js';
import { SystemClock } from '../clock.js';
import type { PacketIo, SendPath } from '../packet-io.js';
import { IPPROTO_UDP, SIOCGIFMTU, SO_TIMESTAMPNS, SOCK_DGRAM, SOL_SOCKET } from './constants.js';
import { close, ioctl } from './libc.js';
import { MainLoop } from './main-loop.js';
import { NativeMemory } from './memory.js';
import { openPacketSource } from './packet-source.js';
import { openProbeSocket } from './probe-socket.js';
import { openRawSink } from './raw-sink.js';
import { reserveTcp, reserveUdp } from './reservation.js';
import { Scratch } from './scratch.js';
import { openSession } from './session-connection.js';
import { openSocket, tryOption } from './socket.js';

/** Where the kernel does not tell: Ethernet. */
const USUAL_MTU = 1500;
/** `struct ifreq`: device name (16 bytes) · MTU i32 · … */
const IFREQ_BYTES = 40;
const IFREQ_MTU = 16;

/** @param onBug a handler threw */
export function openLinuxPacketIo(onBug: (error: unknown) => void): PacketIo {
  const clock = new SystemClock();
  const loop = new MainLoop(onBug);
  const scratch = new Scratch();
  const stamping = keepStamping();
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
    close: () => {
      loop.close();
      close(stamping);
    },
  };
}

/**
 * The kernel begins to stamp packets a little after the first socket asked for it; until then it stamps them when they are read.
 * This socket asks when the tracer is made, and for as long as it exists.
 */
function keepStamping(): number {
  const fd = openSocket(true, SOCK_DGRAM, IPPROTO_UDP);
  tryOption(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
  return fd;
}

/** The MTU of the device that packets to `to` leave by, whatever the kernel has learnt of the path behind it. */
function deviceMtu(to: IpAddress, path: SendPath): number {
  const route = reserveUdp(new SocketAddress(to, 0), 0, path);
  const source = route.local.ip.toString();
  const fd = openSocket(to.isV4, SOCK_DGRAM, IPPROTO_UDP);
  try {
    const devices = path.device === undefined ? devicesWith(source) : [path.device];
    for (const device of devices) {
      const request = NativeMemory.allocate(IFREQ_BYTES);
      request.bytes.set(new TextEncoder().encode(device).subarray(0, IFREQ_MTU - 1));
      if (ioctl(fd, SIOCGIFMTU, request.address) === 0) return request.ints()[IFREQ_MTU / 4]!;
    }
    return USUAL_MTU;
  } finally {
    close(fd);
    route.close();
  }
}

/** An address of loopback does not tell by which device packets leave. */
function devicesWith(address: string): string[] {
  return Object.entries(networkInterfaces())
    .filter(([, entries]) => entries?.some((entry) => entry.address === address && !entry.internal) === true)
    .map(([name]) => name);
}
