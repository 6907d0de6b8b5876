/**
 * The macOS side of a tracer: capture by bpf(4), raw sockets, ports held by ordinary sockets. Not run on hardware.
 *
 *   reserve a port, open a session ─► which of our addresses leads to the target ─► its interface ─► a capture device there, for every
 *   open source
 *
 * Without privileges nothing is possible: there is no error queue to ask. Marks do not exist.
 */
import { networkInterfaces } from 'node:os';
import { IpAddress, SocketAddress } from '../../base/address.js';
import { SallyportError } from '../../base/error.js';
import { SystemClock } from '../clock.js';
import type {
  FilterSpec,
  PacketCounters,
  PacketHandler,
  PacketIo,
  PacketSource,
  PortReservation,
  SendPath,
  SessionConnection,
} from '../packet-io.js';
import { BpfDevice, type Clocks, interfaceRequest } from './bpf-device.js';
import {
  AF_INET,
  AF_INET6,
  IFREQ_UNION,
  IP_BOUND_IF,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  IPV6_BOUND_IF,
  SIOCGIFMTU,
  SOCK_DGRAM,
  SOCK_STREAM,
} from './constants.js';
import { must, portable } from './errors.js';
import { DarwinRawSink, integer } from './raw-sink.js';
import { parseSockaddr, SOCKADDR_ROOM, sockaddr } from './sockaddr.js';
import type { DarwinSystem } from './system.js';

/** A port that UDP connects from when the target's port does not matter: discard (RFC 863). */
const DISCARD_PORT = 9;
const USUAL_MTU = 1500;

/** What the system says of itself through Node. */
export interface DarwinHost extends Clocks {
  /** The interface with this address. */
  interfaceOf(ip: IpAddress): string | undefined;
}

export const darwinHost = (system: DarwinSystem): DarwinHost => {
  const clock = new SystemClock();
  return {
    now: () => clock.now(),
    wallMicroseconds: () => {
      const time = new Uint8Array(16);
      system.gettimeofday(time);
      const view = new DataView(time.buffer);
      return Number(view.getBigInt64(0, true)) * 1_000_000 + view.getInt32(8, true);
    },
    interfaceOf: (ip) =>
      Object.entries(networkInterfaces()).find(([, entries]) =>
        entries?.some((entry) => IpAddress.parse(entry.address)?.equals(ip) === true),
      )?.[0],
  };
};

export function openDarwinPacketIo(system: DarwinSystem, host: DarwinHost): PacketIo {
  return new DarwinPacketIo(system, host);
}

class DarwinPacketIo implements PacketIo {
  readonly #system: DarwinSystem;
  readonly #host: DarwinHost;
  readonly #sources = new Set<InterfaceSource>();
  /** Interfaces that traces have left by. */
  readonly #interfaces = new Set<string>();

  constructor(system: DarwinSystem, host: DarwinHost) {
    this.#system = system;
    this.#host = host;
  }

  now(): ReturnType<PacketIo['now']> {
    return this.#host.now();
  }

  at(at: ReturnType<PacketIo['now']>, handler: () => void): () => void {
    const timer = setTimeout(handler, Math.max(0, Math.ceil((at - this.#host.now()) / 1_000)));
    return () => clearTimeout(timer);
  }

  source(handler: PacketHandler): PacketSource {
    const source = new InterfaceSource(this.#system, this.#host, handler, () => this.#sources.delete(source));
    for (const device of this.#interfaces) source.add(device);
    this.#sources.add(source);
    return source;
  }

  sink(family: 4 | 6, path: SendPath): DarwinRawSink {
    const bindDevice = (fd: number, of: 4 | 6): void => this.#applyPath(fd, of, path);
    return new DarwinRawSink({ system: this.#system, now: () => this.#host.now(), bindDevice }, family);
  }

  reserveUdp(to: SocketAddress, localPort: number, path: SendPath): PortReservation {
    const fd = this.#socket(to.ip.family, SOCK_DGRAM, IPPROTO_UDP);
    return this.#held(fd, () => {
      this.#applyPath(fd, to.ip.family, path);
      if (path.source !== undefined || localPort !== 0) this.#bind(fd, to.ip.family, path.source, localPort);
      const target = to.port === 0 ? new SocketAddress(to.ip, DISCARD_PORT) : to;
      must(this.#system.connect(fd, sockaddr(target)), `the way to ${to.ip}`);
      return this.#watchFrom(fd);
    });
  }

  reserveTcp(to: SocketAddress, localPort: number, path: SendPath): PortReservation {
    const source = this.#sourceTo(to, path);
    const fd = this.#socket(to.ip.family, SOCK_STREAM, IPPROTO_TCP);
    return this.#held(fd, () => {
      this.#applyPath(fd, to.ip.family, path);
      this.#bind(fd, to.ip.family, source, localPort);
      must(this.#system.listen(fd, 1), 'reserving a TCP port');
      return this.#watchFrom(fd);
    });
  }

  session(to: SocketAddress, path: SendPath): SessionConnection {
    const source = this.#sourceTo(to, path);
    const fd = this.#socket(to.ip.family, SOCK_STREAM, IPPROTO_TCP);
    const { local, close } = this.#held(fd, () => {
      this.#applyPath(fd, to.ip.family, path);
      this.#bind(fd, to.ip.family, source, 0);
      return this.#watchFrom(fd);
    });
    let open = true;
    return {
      local,
      connect: (done) =>
        this.#system.connectLater(fd, sockaddr(to), (result) => {
          if (open) done(portable(result));
        }),
      close: () => {
        open = false;
        close();
      },
    };
  }

  probeSocket(): never {
    throw new SallyportError(
      'environment',
      'RAW_NOT_PERMITTED',
      'tracing without privileges: macOS has no error queue',
      {
        hint: 'run as root',
      },
    );
  }

  deviceMtu(to: IpAddress, path: SendPath): number {
    const route = this.reserveUdp(new SocketAddress(to, 0), 0, path);
    const device = path.device ?? this.#host.interfaceOf(route.local.ip);
    route.close();
    if (device === undefined) return USUAL_MTU;
    const fd = this.#socket(4, SOCK_DGRAM, IPPROTO_UDP);
    const request = interfaceRequest(device);
    const asked = this.#system.ioctl(fd, SIOCGIFMTU, request);
    this.#system.close(fd);
    return asked < 0 ? USUAL_MTU : new DataView(request.buffer).getInt32(IFREQ_UNION, true);
  }

  close(): void {
    for (const source of [...this.#sources]) source.close();
  }

  #sourceTo(to: SocketAddress, path: SendPath): IpAddress {
    const route = this.reserveUdp(to, 0, path);
    route.close();
    return route.local.ip;
  }

  /** Where answers to this socket's address come in there has to be a capture. Returns the address. */
  #watchFrom(fd: number): SocketAddress {
    const local = this.#local(fd);
    const device = this.#host.interfaceOf(local.ip);
    if (device === undefined || this.#interfaces.has(device)) return local;
    for (const source of this.#sources) source.add(device);
    this.#interfaces.add(device);
    return local;
  }

  #local(fd: number): SocketAddress {
    const address = new Uint8Array(SOCKADDR_ROOM);
    must(this.#system.getsockname(fd, address, integer(SOCKADDR_ROOM)), 'getsockname');
    return parseSockaddr(address) ?? new SocketAddress(IpAddress.v4(0), 0);
  }

  #socket(family: 4 | 6, type: number, protocol: number): number {
    return must(this.#system.socket(family === 4 ? AF_INET : AF_INET6, type, protocol), 'opening a socket');
  }

  #bind(fd: number, family: 4 | 6, source: IpAddress | undefined, port: number): void {
    const ip = source ?? (family === 4 ? IpAddress.v4(0) : new IpAddress(0, 0, 0, 0));
    const local = new SocketAddress(ip, port);
    must(this.#system.bind(fd, sockaddr(local)), `binding to ${local}`);
  }

  #applyPath(fd: number, family: 4 | 6, { device, mark }: SendPath): void {
    if (mark !== undefined) {
      throw new SallyportError('environment', 'MARK_NOT_SUPPORTED', 'macOS has no firewall marks');
    }
    if (device === undefined) return;
    const index = this.#system.interfaceIndex(device);
    if (index <= 0) throw new SallyportError('environment', 'DEVICE_NOT_FOUND', `device ${device}: there is none`);
    const [level, option] = family === 4 ? [IPPROTO_IP, IP_BOUND_IF] : [IPPROTO_IPV6, IPV6_BOUND_IF];
    must(this.#system.setsockopt(fd, level, option, integer(index)), `sending by device ${device}`);
  }

  #held(fd: number, prepare: () => SocketAddress): PortReservation {
    let open = true;
    const release = (): void => {
      if (open) this.#system.close(fd);
      open = false;
    };
    try {
      return { local: prepare(), close: release };
    } catch (error) {
      release();
      throw error;
    }
  }
}

/** Incoming packets of every interface that traces leave by. */
class InterfaceSource implements PacketSource {
  readonly counters: PacketCounters = { packets: 0, unusable: 0 };
  readonly #system: DarwinSystem;
  readonly #clocks: Clocks;
  readonly #handler: PacketHandler;
  readonly #onClose: () => void;
  readonly #devices = new Map<string, BpfDevice>();
  #spec: FilterSpec = { kind: 'nothing' };

  constructor(system: DarwinSystem, clocks: Clocks, handler: PacketHandler, onClose: () => void) {
    this.#system = system;
    this.#clocks = clocks;
    this.#handler = handler;
    this.#onClose = onClose;
  }

  add(device: string): void {
    if (this.#devices.has(device)) return;
    const opened = new BpfDevice(this.#system, device, this.#clocks, this.#handler, this.counters);
    this.#devices.set(device, opened);
    opened.filter(this.#spec);
  }

  filter(spec: FilterSpec): void {
    this.#spec = spec;
    for (const device of this.#devices.values()) device.filter(spec);
  }

  /** A read is always under way: nothing waits that is not on its way here. */
  drain(): void {}

  close(): void {
    for (const device of this.#devices.values()) device.close();
    this.#devices.clear();
    this.#onClose();
  }
}
