/**
 * A Windows in memory: sockets, and the kernel driver with its handles, filters and overlapped reads, whose structures are read and
 * written byte for byte. What leaves goes to a network of the test.
 */
import { IpAddress, SocketAddress } from '../../../src/base/address.js';
import { parseSockaddr, sockaddr } from '../../../src/os/windows/sockaddr.js';
import { COMPLETION, OVERLAPPED_BYTES, type WindowsSystem } from '../../../src/os/windows/system.js';

/** Answers to a packet, so many milliseconds later. */
export type FakeNetwork = (packet: Uint8Array) => readonly { readonly after: number; readonly packet: Uint8Array }[];

/** What becomes of a connection attempt: an error of Winsock (0: connected), and whose ICMP error it was. */
export interface Attempt {
  readonly after: number;
  readonly error: number;
  readonly router?: IpAddress;
  readonly type?: number;
  readonly code?: number;
}

interface Socket {
  readonly type: number;
  local: SocketAddress;
  readonly options: Map<string, number>;
  readonly queue: Uint8Array[];
  attempt: Attempt | undefined;
  over: boolean;
  poll: (() => void) | undefined;
}

export interface Filter {
  readonly family: number;
  readonly protocol: number;
  readonly local: string;
  readonly remote: string;
  readonly localPort: number;
  readonly remotePort: number;
  readonly discard: boolean;
}

interface Handle {
  readonly flags: number;
  readonly filters: Filter[];
  readonly reads: { memory: Uint8Array; at: number; length: number }[];
  readonly done: { address: number; bytes: number }[];
  waiting: (() => void) | undefined;
}

const HEADER = 72;

export class FakeWindows implements WindowsSystem {
  /** Negated results by the name of a call. */
  readonly failures = new Map<string, number>();
  starts = 0;
  readonly handles = new Map<number, Handle>();
  readonly sockets = new Map<number, Socket>();
  readonly #ports = new Map<number, number>();
  readonly #network: FakeNetwork;
  readonly #attempt: (ttl: number, to: SocketAddress) => Attempt;
  readonly #memory = new Map<Uint8Array, number>();
  #next = 100;

  constructor(
    network: FakeNetwork = () => [],
    attempt: (ttl: number, to: SocketAddress) => Attempt = () => ({ after: 1, error: 0 }),
  ) {
    this.#network = network;
    this.#attempt = attempt;
  }

  /** Sockets, handles and ports not closed yet. */
  get openCount(): number {
    return this.sockets.size + this.handles.size + this.#ports.size;
  }

  socket(_family: number, type: number): number {
    if (this.failures.has('socket') && type === 3) return -this.failures.get('socket')!;
    const socket = this.#next++;
    const local = new SocketAddress(IpAddress.v4(0), 0);
    this.sockets.set(socket, {
      type,
      local,
      options: new Map(),
      queue: [],
      attempt: undefined,
      over: false,
      poll: undefined,
    });
    return socket;
  }

  closesocket(socket: number): number {
    return this.sockets.delete(socket) ? 0 : -10038;
  }

  setsockopt(socket: number, level: number, option: number, value: Uint8Array): number {
    this.sockets.get(socket)!.options.set(`${level}/${option}`, new DataView(value.buffer).getInt32(0, true));
    return 0;
  }

  getsockopt(socket: number, level: number, option: number, into: Uint8Array): number {
    const { attempt, over } = this.sockets.get(socket)!;
    const view = new DataView(into.buffer);
    if (level === 0xffff && option === 0x1007) {
      view.setInt32(0, over ? attempt!.error : 0, true);
      return 0;
    }
    if (level !== 6 || option !== 19 || attempt?.router === undefined || into.length !== 36) return -10042;
    into.set(sockaddr(new SocketAddress(attempt.router, 0)));
    view.setInt32(28, attempt.router.isV4 ? 1 : 58, true);
    into[32] = attempt.type!;
    into[33] = attempt.code!;
    return 0;
  }

  bind(socket: number, address: Uint8Array): number {
    if (this.failures.has('bind')) return -this.failures.get('bind')!;
    const local = parseSockaddr(address)!;
    this.sockets.get(socket)!.local = new SocketAddress(local.ip, local.port || 50_000 + socket);
    return 0;
  }

  connect(socket: number, address: Uint8Array): number {
    const to = parseSockaddr(address)!;
    const one = this.sockets.get(socket)!;
    if (one.type !== 1) {
      if (this.failures.has('connect')) return -this.failures.get('connect')!;
      one.local = new SocketAddress(IpAddress.parse(to.ip.isV4 ? '192.0.2.1' : '2001:db8::1')!, 50_000 + socket);
      return 0;
    }
    if (one.options.get('6/18') !== 1) throw new Error('TCP_FAIL_CONNECT_ON_ICMP_ERROR is not set');
    one.attempt = this.#attempt(one.options.get(to.ip.isV4 ? '0/4' : '41/4')!, to);
    setTimeout(() => {
      one.over = true;
      one.poll?.();
    }, one.attempt.after).unref();
    return -10035;
  }

  listen(): number {
    return 0;
  }

  getsockname(socket: number, into: Uint8Array): number {
    into.set(sockaddr(this.sockets.get(socket)!.local));
    return 0;
  }

  ioctlsocket(): number {
    return 0;
  }

  sendto(socket: number, bytes: Uint8Array, length: number): number {
    if (this.failures.has('sendto')) return -this.failures.get('sendto')!;
    const one = this.sockets.get(socket)!;
    if (one.options.get('0/2') !== 1) throw new Error('no IP_HDRINCL');
    // By rule of the system.
    if (bytes[9] === 6) return -10013;
    this.#send(bytes.slice(0, length));
    return length;
  }

  recv(socket: number, into: Uint8Array): number {
    const packet = this.sockets.get(socket)!.queue.shift();
    if (packet === undefined) return -10035;
    if (packet.length > into.length) return -10040;
    into.set(packet);
    return packet.length;
  }

  pollLater(socket: number, events: number, milliseconds: number, done: (ready: boolean) => void): void {
    const one = this.sockets.get(socket)!;
    const isReady = (): boolean => (events === 0x0100 ? one.queue.length > 0 : one.over);
    const finish = (): void => {
      if (one.poll === undefined) return;
      one.poll = undefined;
      clearTimeout(timer);
      setImmediate(() => done(isReady()));
    };
    const timer = setTimeout(finish, Math.min(milliseconds, 20));
    timer.unref();
    one.poll = finish;
    if (isReady()) finish();
  }

  openService(name: string): number {
    if (name !== 'ddnpm') return -1060;
    return this.failures.has('openService') ? -this.failures.get('openService')! : 7;
  }

  startService(): number {
    this.starts++;
    return this.failures.has('startService') ? -this.failures.get('startService')! : 1;
  }

  closeService(): number {
    return 1;
  }

  createFile(path: string, access: number, flags: number): number {
    if (this.failures.has('createFile')) return -this.failures.get('createFile')!;
    if (!path.startsWith('\\\\.\\') || access !== 0xc000_0000) return -5;
    const handle = this.#next++;
    this.handles.set(handle, { flags, filters: [], reads: [], done: [], waiting: undefined });
    return handle;
  }

  closeHandle(handle: number): number {
    return this.handles.delete(handle) || this.#ports.delete(handle) ? 1 : -6;
  }

  deviceIoControl(handle: number, code: number, input: Uint8Array, output: Uint8Array): number {
    if (this.failures.has('deviceIoControl')) return -this.failures.get('deviceIoControl')!;
    const view = new DataView(input.buffer);
    const word = (at: number): number => Number(view.getBigUint64(at, true));
    if (code !== 0x12200c || input.length !== 160 || word(8) !== 160 || word(0) !== 0xddfd_0000_0018) return -87;
    if (word(16) !== 1 || word(136) !== 0 || output.length !== 8) return -87;
    const address = (at: number): string => {
      if (word(at) === 0) return '';
      return IpAddress.fromBytes(
        word(at) === 2 ? input.slice(at + 8, at + 12) : input.slice(at + 16, at + 32),
      ).toString();
    };
    this.handles.get(handle)!.filters.push({
      family: word(24),
      protocol: word(128),
      local: address(32),
      remote: address(72),
      localPort: word(112),
      remotePort: word(120),
      discard: word(152) === 1,
    });
    return 1;
  }

  createPort(handle: number): number {
    const port = this.#next++;
    this.#ports.set(port, handle);
    return port;
  }

  readFile(handle: number, memory: Uint8Array, at: number, length: number): number {
    if (memory.subarray(at, at + OVERLAPPED_BYTES).some((byte) => byte !== 0)) throw new Error('a used OVERLAPPED');
    this.handles.get(handle)!.reads.push({ memory, at, length });
    return -997;
  }

  takeCompletion(port: number, into: Uint8Array): boolean {
    const done = this.handles.get(this.#ports.get(port)!)!.done.shift();
    if (done === undefined) return false;
    const view = new DataView(into.buffer);
    view.setUint32(COMPLETION.bytes, done.bytes, true);
    view.setBigUint64(COMPLETION.overlapped, BigInt(done.address), true);
    return true;
  }

  waitCompletion(port: number, milliseconds: number, into: Uint8Array, done: (taken: boolean) => void): void {
    const handle = this.handles.get(this.#ports.get(port)!)!;
    const finish = (): void => {
      if (handle.waiting === undefined) return;
      handle.waiting = undefined;
      clearTimeout(timer);
      setImmediate(() => done(this.#ports.has(port) && this.takeCompletion(port, into)));
    };
    const timer = setTimeout(finish, Math.min(milliseconds, 20));
    timer.unref();
    handle.waiting = finish;
    if (handle.done.length > 0) finish();
  }

  writeFile(handle: number, bytes: Uint8Array, length: number): number {
    if (!this.handles.has(handle)) return -6;
    this.#send(bytes.slice(0, length));
    return 1;
  }

  cancelIo(handle: number): number {
    this.handles.get(handle)?.reads.splice(0);
    this.handles.get(handle)?.waiting?.();
    return 1;
  }

  address(bytes: Uint8Array): number {
    const known = this.#memory.get(bytes) ?? 0x1000_0000_0000 + this.#memory.size * 0x1_0000_0000;
    this.#memory.set(bytes, known);
    return known;
  }

  /** Something comes in. */
  deliver(packet: Uint8Array): void {
    for (const socket of this.sockets.values()) {
      if (socket.type !== 3) continue;
      socket.queue.push(packet);
      socket.poll?.();
    }
    for (const handle of this.handles.values()) {
      if (!handle.filters.some((filter) => !filter.discard && matches(filter, packet))) continue;
      const read = handle.reads.shift();
      if (read === undefined) continue;
      const header = new DataView(new ArrayBuffer(HEADER));
      header.setBigUint64(8, BigInt(HEADER), true);
      header.setBigUint64(40, BigInt(packet.length), true);
      const whole = Uint8Array.from([...new Uint8Array(header.buffer), ...packet]).subarray(0, read.length);
      read.memory.set(whole, read.at + OVERLAPPED_BYTES);
      // What the kernel leaves in an OVERLAPPED.
      read.memory[read.at] = 1;
      handle.done.push({ address: this.address(read.memory) + read.at, bytes: whole.length });
      handle.waiting?.();
    }
  }

  #send(packet: Uint8Array): void {
    for (const { after, packet: answer } of this.#network(packet))
      setTimeout(() => this.deliver(answer), after).unref();
  }
}

function matches(filter: Filter, packet: Uint8Array): boolean {
  const isV4 = packet[0]! >>> 4 === 4;
  const [protocol, at] = isV4 ? [packet[9]!, 20] : [packet[6]!, 40];
  const view = new DataView(packet.buffer, packet.byteOffset);
  if (filter.family !== 0 && filter.family !== (isV4 ? 2 : 23)) return false;
  if (filter.protocol !== 0 && filter.protocol !== protocol) return false;
  if (filter.localPort !== 0 && filter.localPort !== view.getUint16(at + 2)) return false;
  if (filter.remotePort !== 0 && filter.remotePort !== view.getUint16(at)) return false;
  const end = (start: number): string => IpAddress.fromBytes(packet.slice(start, start + (isV4 ? 4 : 16))).toString();
  if (filter.remote !== '' && filter.remote !== end(isV4 ? 12 : 8)) return false;
  return filter.local === '' || filter.local === end(isV4 ? 16 : 24);
}
