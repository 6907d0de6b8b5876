/**
 * The Windows side of a tracer. Not run on hardware.
 *
 *   without the driver   one raw IPv4 socket, to send by and to listen to; TCP by connection attempts, for anybody and over IPv6 too
 *   with it              packets of both families by the kernel driver
 *
 * Without the driver a reserved port is let go at once: the system would take the answers for its own. No devices, no marks.
 */
import { IpAddress, SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import type { Instant } from '../../base/time.js';
import { SystemClock } from '../clock.js';
import { EMSGSIZE, type IoResult } from '../io.js';
import type {
  PacketCounters,
  PacketHandler,
  PacketIo,
  PacketSource,
  PortReservation,
  ProbeHandlers,
  ProbeSocket,
  ProbeSocketOptions,
  RawSink,
  SendPath,
  SessionConnection,
} from '../packet-io.js';
import { AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, SOCK_DGRAM, SOCK_STREAM } from './constants.js';
import { DriverSource, openHandle, startDriver } from './driver.js';
import { must } from './errors.js';
import { RawSocket } from './raw-socket.js';
import { parseSockaddr, SOCKADDR_ROOM, sockaddr } from './sockaddr.js';
import type { WindowsSystem } from './system.js';
import { TcpProbe } from './tcp-probe.js';

/** A port that UDP connects from when the target's port does not matter: discard (RFC 863). */
const DISCARD_PORT = 9;
const USUAL_MTU = 1500;
const LARGEST = 65_535;

/** @param driver packets by the kernel driver. @throws SallyportError DRIVER_NOT_AVAILABLE (environment) */
export function openWindowsPacketIo(system: WindowsSystem, driver: boolean): PacketIo {
  if (driver) startDriver(system);
  return new WindowsPacketIo(system, driver);
}

class WindowsPacketIo implements PacketIo {
  readonly rawTcp: boolean;
  readonly #system: WindowsSystem;
  readonly #driver: boolean;
  readonly #clock = new SystemClock();
  readonly #now = (): Instant => this.#clock.now();
  readonly #sources = new Set<RawSource>();
  /** By local address. */
  readonly #raw = new Map<string, RawSocket>();
  /** Of the last reservation: what the raw socket of the next sink is bound to. */
  #local: IpAddress | undefined;

  constructor(system: WindowsSystem, driver: boolean) {
    this.#system = system;
    this.#driver = driver;
    this.rawTcp = driver;
  }

  now(): Instant {
    return this.#now();
  }

  at(at: Instant, handler: () => void): () => void {
    const timer = setTimeout(handler, Math.max(0, Math.ceil((at - this.#now()) / 1_000)));
    return () => clearTimeout(timer);
  }

  source(handler: PacketHandler): PacketSource {
    if (this.#driver) return new DriverSource(this.#system, handler, this.#now);
    const source = new RawSource(handler, () => this.#sources.delete(source));
    for (const socket of this.#raw.values()) source.add(socket);
    this.#sources.add(source);
    return source;
  }

  sink(family: 4 | 6, path: SendPath): RawSink {
    refuse(path);
    if (this.#driver) return new DriverSink(this.#system, this.#now);
    if (family === 6) {
      const message = 'raw sockets of Windows send no IPv6 headers';
      throw new SallyportError('environment', 'FAMILY_NOT_SUPPORTED', message, {
        hint: 'use --windows-driver, or --proto tcp',
      });
    }
    const local = this.#local!;
    const key = local.toString();
    let socket = this.#raw.get(key);
    if (socket === undefined) {
      socket = new RawSocket(this.#system, local, this.#now);
      this.#raw.set(key, socket);
      for (const source of this.#sources) source.add(socket);
    }
    const raw = socket;
    return {
      get sentAt() {
        return raw.sentAt;
      },
      send: (bytes, offset, length, to) => raw.send(bytes, offset, length, to),
      close: () => undefined,
    };
  }

  reserveUdp(to: SocketAddress, localPort: number, path: SendPath): PortReservation {
    refuse(path);
    const socket = this.#socket(to.ip.family, SOCK_DGRAM, IPPROTO_UDP);
    return this.#reserved(socket, () => {
      if (path.source !== undefined || localPort !== 0) this.#bind(socket, to.ip.family, path.source, localPort);
      const target = to.port === 0 ? new SocketAddress(to.ip, DISCARD_PORT) : to;
      must(this.#system.connect(socket, sockaddr(target)), `the way to ${to.ip}`);
    });
  }

  reserveTcp(to: SocketAddress, localPort: number, path: SendPath): PortReservation {
    const source = this.#sourceTo(to, path);
    const socket = this.#socket(to.ip.family, SOCK_STREAM, IPPROTO_TCP);
    return this.#reserved(socket, () => {
      this.#bind(socket, to.ip.family, source, localPort);
      must(this.#system.listen(socket, 1), 'reserving a TCP port');
    });
  }

  session(): SessionConnection {
    const message = 'SACK probes are not supported on Windows';
    throw new SallyportError('environment', 'SACK_NOT_SUPPORTED', message);
  }

  probeSocket(options: ProbeSocketOptions, handlers: ProbeHandlers): ProbeSocket {
    refuse(options);
    if (options.protocol !== 'tcp') {
      throw new SallyportError('environment', 'RAW_NOT_PERMITTED', `${options.protocol} probes: not permitted`, {
        hint: 'run as administrator, or use --proto tcp',
      });
    }
    const source = this.#sourceTo(options.to, options);
    const local = new SocketAddress(source, options.localPort);
    return new TcpProbe(this.#system, local, options.to, handlers, this.#now);
  }

  deviceMtu(): number {
    return USUAL_MTU;
  }

  close(): void {
    for (const socket of this.#raw.values()) socket.close();
    this.#raw.clear();
  }

  #sourceTo(to: SocketAddress, path: SendPath): IpAddress {
    const route = this.reserveUdp(to, 0, path.source === undefined ? {} : { source: path.source });
    route.close();
    return route.local.ip;
  }

  #socket(family: 4 | 6, type: number, protocol: number): number {
    return must(this.#system.socket(family === 4 ? AF_INET : AF_INET6, type, protocol), 'opening a socket');
  }

  #bind(socket: number, family: 4 | 6, source: IpAddress | undefined, port: number): void {
    const ip = source ?? (family === 4 ? IpAddress.v4(0) : new IpAddress(0, 0, 0, 0));
    const local = new SocketAddress(ip, port);
    must(this.#system.bind(socket, sockaddr(local)), `binding to ${local}`);
  }

  /** With raw sockets the port is let go before anything is sent. */
  #reserved(socket: number, prepare: () => void): PortReservation {
    let open = true;
    const close = (): void => {
      if (open) this.#system.closesocket(socket);
      open = false;
    };
    try {
      prepare();
      const bound = new Uint8Array(SOCKADDR_ROOM);
      must(this.#system.getsockname(socket, bound), 'getsockname');
      const local = parseSockaddr(bound)!;
      if (local.ip.isV4) this.#local = local.ip;
      if (!this.#driver) close();
      return { local, close };
    } catch (error) {
      close();
      throw error;
    }
  }
}

/** Packets of every raw socket. */
class RawSource implements PacketSource {
  readonly #handler: PacketHandler;
  readonly #onClose: () => void;
  readonly #sockets = new Set<RawSocket>();
  #isOpen = true;

  constructor(handler: PacketHandler, onClose: () => void) {
    this.#handler = handler;
    this.#onClose = onClose;
  }

  get counters(): PacketCounters {
    const sum: PacketCounters = { packets: 0, unusable: 0 };
    for (const { counters } of this.#sockets) {
      sum.packets += counters.packets;
      sum.unusable += counters.unusable;
    }
    return sum;
  }

  add(socket: RawSocket): void {
    this.#sockets.add(socket);
    socket.read((bytes, offset, length, at) => {
      if (this.#isOpen) this.#handler(bytes, offset, length, at);
    });
  }

  /** There is none: whoever reads judges every field. */
  filter(): void {}

  drain(): void {
    for (const socket of this.#sockets) socket.drain();
  }

  close(): void {
    this.#isOpen = false;
    for (const socket of this.#sockets) socket.read(undefined);
    this.#sockets.clear();
    this.#onClose();
  }
}

/** Sends by a handle of its own. */
class DriverSink implements RawSink {
  readonly #system: WindowsSystem;
  readonly #now: () => Instant;
  readonly #handle: number;
  readonly #out = new Uint8Array(LARGEST);
  #open = true;
  sentAt: Instant;

  constructor(system: WindowsSystem, now: () => Instant) {
    this.#system = system;
    this.#now = now;
    this.sentAt = now();
    this.#handle = openHandle(system, 0);
  }

  send(bytes: Uint8Array, offset: number, length: number): IoResult {
    if (length > LARGEST) return -EMSGSIZE;
    this.#out.set(bytes.subarray(offset, offset + length));
    this.sentAt = this.#now();
    const written = this.#system.writeFile(this.#handle, this.#out, length);
    return written < 0 ? written : length;
  }

  close(): void {
    if (this.#open) this.#system.closeHandle(this.#handle);
    this.#open = false;
  }
}

function refuse({ device, mark }: SendPath): void {
  if (device !== undefined) {
    throw new SallyportError('environment', 'DEVICE_NOT_FOUND', 'devices cannot be chosen on Windows');
  }
  if (mark !== undefined) {
    throw new SallyportError('environment', 'MARK_NOT_SUPPORTED', 'Windows has no firewall marks');
  }
}
