/**
 * A macOS in memory: capture devices, sockets and two interfaces, whose structures are read and written byte for byte as Darwin's.
 * What leaves through a raw socket goes to a network of the test; what that answers is framed, filtered by the program that was
 * set, and handed to the read that waits.
 */
import { IpAddress, SocketAddress } from '../../../src/base/address.js';
import { instantAt } from '../../../src/base/time.js';
import type { DarwinHost } from '../../../src/os/darwin/packet-io.js';
import { parseSockaddr, sockaddr } from '../../../src/os/darwin/sockaddr.js';
import type { DarwinSystem } from '../../../src/os/darwin/system.js';
import { runFilter } from '../bpf-machine.js';

export interface FakeInterface {
  readonly index: number;
  readonly addresses: readonly string[];
  /** DLT_NULL (0), DLT_EN10MB (1) … */
  readonly linkType: number;
  readonly mtu: number;
}

interface Device {
  bound: string | undefined;
  program: Uint8Array | undefined;
  waiting: { into: Uint8Array; done: (result: number) => void } | undefined;
  queue: Uint8Array[];
}

interface Socket {
  readonly family: number;
  readonly type: number;
  readonly protocol: number;
  local: SocketAddress;
  readonly options: Map<string, number>;
}

/** An answer, so many milliseconds after the probe. */
export type FakeNetwork = (packet: Uint8Array) => readonly { readonly after: number; readonly packet: Uint8Array }[];

const BIOC = {
  setLength: 0xc0044266,
  flush: 0x20004268,
  linkType: 0x4004426a,
  setInterface: 0x8020426c,
  setTimeout: 0x8010426d,
  immediate: 0x80044270,
  seeSent: 0x80044277,
  setFilter: 0x8010427e,
};
const GET_MTU = 0xc0206933;
/** The kernel gives less than was asked for. */
const LARGEST_BUFFER = 16_384;

export class FakeDarwin implements DarwinSystem, DarwinHost {
  readonly calls: string[] = [];
  /** Errno by the name of a call. */
  readonly failures = new Map<string, number>();
  /** Devices that somebody else has open. */
  busy = 2;
  readonly interfaces: Record<string, FakeInterface> = {
    lo0: { index: 1, addresses: ['127.0.0.1', '::1'], linkType: 0, mtu: 16_384 },
    en0: { index: 4, addresses: ['192.0.2.1', '2001:db8::1'], linkType: 1, mtu: 1_400 },
  };
  readonly #network: FakeNetwork;
  readonly #devices = new Map<number, Device>();
  readonly #sockets = new Map<number, Socket>();
  readonly #memory = new Map<number, Uint8Array>();
  #next = 10;

  constructor(network: FakeNetwork = () => []) {
    this.#network = network;
  }

  now() {
    return instantAt(performance.now() * 1_000);
  }

  wallMicroseconds(): number {
    return 1_700_000_000_000_000 + performance.now() * 1_000;
  }

  interfaceOf(ip: IpAddress): string | undefined {
    return Object.entries(this.interfaces).find(([, { addresses }]) => addresses.includes(ip.toString()))?.[0];
  }

  /** Descriptors not closed yet. */
  get openCount(): number {
    return this.#devices.size + this.#sockets.size;
  }

  open(path: string): number {
    const number = Number(/^\/dev\/bpf(\d+)$/.exec(path)?.[1]);
    if (this.failures.has('open')) return -this.failures.get('open')!;
    if (number < this.busy) return -16;
    if (number > 8) return -2;
    const fd = this.#next++;
    this.#devices.set(fd, { bound: undefined, program: undefined, waiting: undefined, queue: [] });
    this.calls.push(`open ${path}`);
    return fd;
  }

  close(fd: number): number {
    return this.#devices.delete(fd) || this.#sockets.delete(fd) ? 0 : -9;
  }

  ioctl(fd: number, request: number, argument: Uint8Array): number {
    const view = new DataView(argument.buffer, argument.byteOffset);
    const name = new TextDecoder().decode(argument.subarray(0, 16)).replace(/\0.*$/s, '');
    if (request === GET_MTU) {
      view.setInt32(16, this.interfaces[name]!.mtu, true);
      return 0;
    }
    const device = this.#devices.get(fd);
    const call = Object.entries(BIOC).find(([, number]) => number === request)?.[0];
    if (device === undefined || call === undefined) return -25;
    if (this.failures.has(call)) return -this.failures.get(call)!;
    switch (call) {
      case 'setLength':
        view.setUint32(0, Math.min(LARGEST_BUFFER, view.getUint32(0, true)), true);
        break;
      case 'setInterface':
        if (this.interfaces[name] === undefined) return -6;
        device.bound = name;
        break;
      case 'linkType':
        view.setUint32(0, this.interfaces[device.bound!]!.linkType, true);
        break;
      case 'setFilter': {
        const code = this.#memory.get(Number(view.getBigUint64(8, true)))!;
        device.program = code.slice(0, view.getUint32(0, true) * 8);
        return 0;
      }
    }
    this.calls.push(argument.length === 4 ? `${call} ${view.getUint32(0, true)}` : call);
    return 0;
  }

  readLater(fd: number, into: Uint8Array, done: (result: number) => void): void {
    const device = this.#devices.get(fd)!;
    if (into.length !== LARGEST_BUFFER) return void setImmediate(() => done(-22));
    device.waiting = { into, done };
    this.#deliver(device);
    // The read time-out.
    setTimeout(() => this.#finish(device, 0), 30).unref();
  }

  socket(family: number, type: number, protocol: number): number {
    if (this.failures.has('socket') && type === 3) return -this.failures.get('socket')!;
    const fd = this.#next++;
    this.#sockets.set(fd, {
      family,
      type,
      protocol,
      local: new SocketAddress(IpAddress.v4(0), 0),
      options: new Map(),
    });
    return fd;
  }

  setsockopt(fd: number, level: number, option: number, value: Uint8Array): number {
    this.#sockets.get(fd)!.options.set(`${level}/${option}`, new DataView(value.buffer).getInt32(0, true));
    return 0;
  }

  bind(fd: number, address: Uint8Array): number {
    if (this.failures.has('bind')) return -this.failures.get('bind')!;
    const local = parseSockaddr(address)!;
    this.#sockets.get(fd)!.local = new SocketAddress(local.ip, local.port || 50_000 + fd);
    return 0;
  }

  connect(fd: number, address: Uint8Array): number {
    if (this.failures.has('connect')) return -this.failures.get('connect')!;
    const { ip } = parseSockaddr(address)!;
    const socket = this.#sockets.get(fd)!;
    const device = ip.toString().startsWith('127.') || ip.toString() === '::1' ? 'lo0' : 'en0';
    const [v4, v6] = this.interfaces[device]!.addresses;
    const port = socket.local.port || 50_000 + fd;
    socket.local = new SocketAddress(IpAddress.parse(ip.isV4 ? v4! : v6!)!, port);
    return 0;
  }

  connectLater(_fd: number, _address: Uint8Array, done: (result: number) => void): void {
    setImmediate(() => done(this.failures.has('connectLater') ? -this.failures.get('connectLater')! : 0));
  }

  listen(): number {
    return 0;
  }

  getsockname(fd: number, address: Uint8Array): number {
    address.set(sockaddr(this.#sockets.get(fd)!.local));
    return 0;
  }

  sendto(fd: number, bytes: Uint8Array, length: number, address: Uint8Array): number {
    if (this.failures.has('sendto')) return -this.failures.get('sendto')!;
    const socket = this.#sockets.get(fd)!;
    const packet = this.#packetOf(socket, bytes.slice(0, length), parseSockaddr(address)!.ip);
    for (const { after, packet: answer } of this.#network(packet)) {
      setTimeout(() => this.deliver('en0', answer), after).unref();
    }
    return length;
  }

  interfaceIndex(name: string): number {
    return this.interfaces[name]?.index ?? 0;
  }

  gettimeofday(): number {
    return 0;
  }

  address(bytes: Uint8Array): number {
    const handle = 0x7000_0000 + this.#memory.size;
    this.#memory.set(handle, bytes);
    return handle;
  }

  /** Something comes in by an interface. */
  deliver(name: string, packet: Uint8Array, snap = Number.POSITIVE_INFINITY): void {
    for (const device of this.#devices.values()) {
      if (device.bound !== name || device.program === undefined) continue;
      const { linkType } = this.interfaces[name]!;
      const type = packet[0]! >>> 4 === 4 ? [8, 0] : [0x86, 0xdd];
      const link = linkType === 1 ? [...new Array<number>(12).fill(0xee), ...type] : [2, 0, 0, 0];
      const frame = Uint8Array.from([...link, ...packet]);
      if (runFilter(device.program, frame) === 0) continue;
      device.queue.push(this.#record(frame, Math.min(snap, frame.length)));
      this.#deliver(device);
    }
  }

  /** timeval32 · captured · length · header length · link header and packet, padded to four bytes. */
  #record(frame: Uint8Array, captured: number): Uint8Array {
    const header = 20;
    const out = new Uint8Array(Math.ceil((header + captured) / 4) * 4);
    const view = new DataView(out.buffer);
    const stamp = this.wallMicroseconds();
    view.setInt32(0, Math.floor(stamp / 1_000_000), true);
    view.setInt32(4, Math.floor(stamp % 1_000_000), true);
    view.setUint32(8, captured, true);
    view.setUint32(12, frame.length, true);
    view.setUint16(16, header, true);
    out.set(frame.subarray(0, captured), header);
    return out;
  }

  #deliver(device: Device): void {
    if (device.waiting === undefined || device.queue.length === 0) return;
    let length = 0;
    for (const record of device.queue.splice(0)) {
      device.waiting.into.set(record, length);
      length += record.length;
    }
    this.#finish(device, length);
  }

  #finish(device: Device, result: number): void {
    const { waiting } = device;
    device.waiting = undefined;
    if (waiting !== undefined) setImmediate(() => waiting.done(result));
  }

  /** What is on the wire: IPv4 with two fields back in network order, IPv6 with the header that the kernel writes. */
  #packetOf(socket: Socket, bytes: Uint8Array, to: IpAddress): Uint8Array {
    if (socket.family === 2) {
      if (socket.options.get('0/2') !== 1) throw new Error('no IP_HDRINCL');
      const view = new DataView(bytes.buffer);
      view.setUint16(2, view.getUint16(2, true));
      view.setUint16(6, view.getUint16(6, true));
      return bytes;
    }
    const out = new Uint8Array(40 + bytes.length);
    const view = new DataView(out.buffer);
    view.setUint32(0, 0x6000_0000 | ((socket.options.get('41/36') ?? 0) << 20));
    view.setUint16(4, bytes.length);
    out[6] = socket.protocol;
    out[7] = socket.options.get('41/4') ?? 64;
    out.set(socket.local.ip.toBytes(), 8);
    out.set(to.toBytes(), 24);
    out.set(bytes, 40);
    return out;
  }
}
