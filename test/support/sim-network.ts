/**
 * An internet in virtual time: UDP sockets with batches and coalescing as Linux makes them, and between them delay, seeded
 * loss, size limits, NATs that change a mapping, and blackouts.
 *
 *   socket ─ flush ─► path of the sender ─► (delay) ─► path of the receiver ─► queue ─ receive ─► entries of equal datagrams
 */
import { ADDRESS_WORDS, SocketAddress } from '../../src/base/address.js';
import { SeededEntropy } from '../../src/base/entropy.js';
import { type Duration, earliest, type Instant, later, Millis } from '../../src/base/time.js';
import {
  type IoResult,
  MAX_SEGMENTS,
  READABLE,
  type TransmitMemory,
  type UdpBatch,
  type UdpCounters,
  type UdpOptions,
  type UdpSocket,
  WRITABLE,
} from '../../src/os/io.js';
import { SimDevice } from './sim-device.js';
import type { SimNat } from './sim-nat.js';
import type { Descriptor, SimClock, SimReactor } from './sim-reactor.js';

/** Most bytes of one send: the kernel's own limit on a UDP payload. */
const MAX_SEND_BYTES = 65_507;
const DEFAULT_BATCH = 16;
const DEFAULT_ENTRY = 65_536;
/** Datagrams a socket's receive buffer holds. */
const QUEUE_LIMIT = 8192;

/** What happens to packets between a host and the middle of the internet, both ways. */
export interface Path {
  /** One way. */
  delay: Duration;
  /** 0 … 1. */
  loss: number;
  /** Largest UDP payload that passes, bytes. */
  maxPayload: number;
  /** Nothing passes. */
  isDown: boolean;
}

/** A datagram on its way. */
export interface Packet {
  readonly from: SocketAddress;
  readonly to: SocketAddress;
  readonly bytes: Uint8Array;
}

interface Flying extends Packet {
  readonly at: Instant;
}

export class SimNetwork {
  readonly clock: SimClock;
  /** Sees every datagram that is sent; false drops it. */
  filter: ((packet: Packet) => boolean) | undefined;
  /** How much longer than usual each copy of a datagram takes: none and it is lost, two and it comes twice. */
  lag: ((packet: Packet) => readonly Duration[]) | undefined;
  /** Datagrams dropped by size, so that a test of sizes can show that it met the limit. */
  tooLarge = 0;
  readonly #entropy: SeededEntropy;
  readonly #sockets = new Map<string, SimUdpSocket>();
  readonly #flying: Flying[] = [];
  readonly #nats = new Map<string, SimNat>();
  readonly #devices = new Set<SimDevice>();

  constructor(clock: SimClock, seed: number) {
    this.clock = clock;
    this.#entropy = new SeededEntropy(seed);
  }

  attach(socket: SimUdpSocket): void {
    this.#sockets.set(socket.external.toString(), socket);
  }

  detach(socket: SimUdpSocket): void {
    if (this.#sockets.get(socket.external.toString()) === socket) this.#sockets.delete(socket.external.toString());
  }

  isTaken(address: SocketAddress): boolean {
    return this.#sockets.has(address.toString());
  }

  addDevice(device: SimDevice): void {
    this.#devices.add(device);
  }

  addNat(nat: SimNat): void {
    this.#nats.set(nat.publicIp.toString(), nat);
  }

  /** Puts a datagram on its way, as if `inside` had sent it over `path`, from behind `nat` where there is one. */
  send(inside: SocketAddress, to: SocketAddress, bytes: Uint8Array, path: Path, nat?: SimNat): void {
    const isLocal = nat?.isInside(to.ip) === true;
    const from = nat === undefined || isLocal ? inside : nat.outbound(this.clock.now, inside, to);
    const packet = { from, to, bytes };
    if (this.filter?.(packet) === false || !this.#passes(path, bytes.length)) return;
    if (nat !== undefined && !nat.hairpins && to.ip.equals(nat.publicIp)) return;
    const receiver = this.#receiver(from, to);
    const at = later(later(this.clock.now, path.delay), receiver?.path.delay ?? Millis(0));
    for (const lag of this.lag?.(packet) ?? [Millis(0)]) this.#fly({ ...packet, at: later(at, lag) });
  }

  #fly(packet: Flying): void {
    let i = this.#flying.length;
    while (i > 0 && this.#flying[i - 1]!.at > packet.at) i--;
    this.#flying.splice(i, 0, packet);
  }

  /** When something arrives, or leaves a device, next. */
  nextArrival(): Instant | undefined {
    let next: Instant | undefined = this.#flying[0]?.at;
    for (const device of this.#devices) next = earliest(next, device.next());
    return next;
  }

  /** Hands over what has arrived by now. */
  deliver(): void {
    for (const device of this.#devices) device.advance(this.clock.now);
    let count = 0;
    for (const { at, from, to, bytes } of this.#flying) {
      if (at > this.clock.now) break;
      count++;
      const receiver = this.#receiver(from, to);
      if (receiver !== undefined && this.#passes(receiver.path, bytes.length)) receiver.arrive(from, bytes);
    }
    this.#flying.splice(0, count);
  }

  /** Whom a packet reaches; what is behind a NAT is reached through it, or from behind the same one. */
  #receiver(from: SocketAddress, to: SocketAddress): SimUdpSocket | undefined {
    const nat = this.#nats.get(to.ip.toString());
    const inside = nat === undefined ? to : nat.inbound(this.clock.now, from, to);
    const receiver = inside === undefined ? undefined : this.#sockets.get(inside.toString());
    if (nat !== undefined || receiver?.nat === undefined) return receiver;
    return receiver.nat.isInside(from.ip) ? receiver : undefined;
  }

  #passes(path: Path, length: number): boolean {
    if (length > path.maxPayload) {
      this.tooLarge++;
      return false;
    }
    return !path.isDown && !(path.loss > 0 && this.#entropy.unit() < path.loss);
  }
}

interface Waiting {
  readonly source: SocketAddress;
  readonly bytes: Uint8Array;
}

interface Queued {
  readonly memory: Uint8Array;
  readonly offset: number;
  readonly length: number;
  readonly segment: number;
  readonly to: SocketAddress;
}

export class SimUdpSocket implements UdpSocket, Descriptor {
  readonly fd: number;
  readonly local: SocketAddress;
  readonly capabilities = {
    batch: true,
    segmentationOffload: true,
    receiveOffload: true,
    dontFragment: true,
    sourceAddress: true,
  };
  readonly rx: UdpBatch;
  readonly counters: UdpCounters = {
    datagramsIn: 0,
    datagramsOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    sendBlocked: 0,
    sendFailed: 0,
    receiveErrors: 0,
  };
  readonly path: Path;
  /** What others see as its address; `rebind` changes it. */
  external: SocketAddress;
  isClosed = false;
  isBlocked = false;
  waits = 0;
  /** What it sends through, where that is slower than the network. */
  device: SimDevice | undefined;
  #sendRoom: number | undefined;
  readonly #keepsUnsent: boolean;
  #isStuck = false;
  /** What it is behind. */
  nat: SimNat | undefined;
  /** Sees every datagram that arrives, before the socket's owner does. */
  readonly arrivals: ((from: SocketAddress, bytes: Uint8Array) => void)[] = [];
  readonly #network: SimNetwork;
  readonly #waiting: Waiting[] = [];
  readonly #queued: Queued[] = [];
  readonly #entries: number;
  readonly #entryBytes: number;
  readonly #own = new Map<Uint8Array, TransmitMemory>();

  /** @param external the address the socket has on the network (a NAT's mapping, where there is one). */
  constructor(
    network: SimNetwork,
    reactor: SimReactor,
    local: SocketAddress,
    external: SocketAddress,
    path: Path,
    options: UdpOptions = {},
  ) {
    this.#network = network;
    this.local = local;
    this.external = external;
    this.path = path;
    this.#keepsUnsent = options.keepsUnsent ?? false;
    this.#entries = options.batch ?? DEFAULT_BATCH;
    this.#entryBytes = options.entryBytes ?? DEFAULT_ENTRY;
    this.rx = {
      memory: new Uint8Array(this.#entries * this.#entryBytes),
      offsets: Uint32Array.from({ length: this.#entries }, (_, i) => i * this.#entryBytes),
      lengths: new Uint32Array(this.#entries),
      segments: new Uint32Array(this.#entries),
      sources: new Uint32Array(this.#entries * ADDRESS_WORDS),
      locals: new Uint32Array(this.#entries * ADDRESS_WORDS),
    };
    this.fd = reactor.register(this);
    network.attach(this);
  }

  readiness(): number {
    return (this.#waiting.length > 0 ? READABLE : 0) | (this.device?.isWritable === false ? 0 : WRITABLE);
  }

  /** The NAT in front gives another mapping: what is sent to the old one is lost. */
  rebind(external: SocketAddress): void {
    this.#network.detach(this);
    this.external = external;
    this.#network.attach(this);
  }

  arrive(source: SocketAddress, bytes: Uint8Array): void {
    for (const see of this.arrivals) see(source, bytes);
    if (this.#waiting.length < QUEUE_LIMIT) this.#waiting.push({ source, bytes });
  }

  /** Coalesces neighbours of one source and one size, the last of which may be shorter, as UDP_GRO does. */
  receive(): IoResult {
    const { memory, offsets, lengths, segments, sources, locals } = this.rx;
    let entry = 0;
    let used = 0;
    for (; entry < this.#entries && used < this.#waiting.length; entry++) {
      const first = this.#waiting[used]!;
      const size = first.bytes.length;
      let at = offsets[entry]!;
      const end = at + this.#entryBytes;
      for (let count = 0; used < this.#waiting.length && count < MAX_SEGMENTS; count++) {
        const next = this.#waiting[used]!;
        if (!next.source.equals(first.source) || next.bytes.length > size || at + next.bytes.length > end) break;
        memory.set(next.bytes, at);
        at += next.bytes.length;
        used++;
        this.counters.datagramsIn++;
        this.counters.bytesIn += next.bytes.length;
        if (next.bytes.length < size) break;
      }
      lengths[entry] = at - offsets[entry]!;
      segments[entry] = size;
      first.source.write(sources, entry);
      this.local.write(locals, entry);
    }
    this.#waiting.splice(0, used);
    return entry;
  }

  send(
    memory: TransmitMemory,
    offset: number,
    length: number,
    segment: number,
    addresses: Uint32Array,
    index: number,
  ): void {
    if (this.isClosed) throw new Error('send on a closed socket');
    if (this.isBlocked) throw new Error('send on a blocked socket, whose memory is not free');
    if (length > MAX_SEND_BYTES || Math.ceil(length / segment) > MAX_SEGMENTS) {
      throw new Error(`one send of ${length} bytes in segments of ${segment}`);
    }
    if (this.#own.get(memory.bytes) !== memory) throw new Error('memory that is not registered with this socket');
    this.#queued.push({ memory: memory.bytes, offset, length, segment, to: SocketAddress.read(addresses, index) });
  }

  /** From now on it sends through a device of `rate` Mbit/s. */
  limit(rate: number): void {
    const { now } = this.#network.clock;
    if (this.device === undefined) {
      this.device = new SimDevice(now, rate);
      this.#network.addDevice(this.device);
      if (this.#sendRoom !== undefined) this.device.room = this.#sendRoom;
    } else this.device.setRate(now, rate);
  }

  setSendRoom(bytes: number): void {
    this.#sendRoom = bytes;
    if (this.device !== undefined) this.device.room = bytes;
  }

  /** Memory is read only here, as the kernel does: what changed it in between is a bug that shows. */
  flush(): void {
    const { device } = this;
    this.isBlocked = false;
    while (this.#queued.length > 0) {
      if (device?.hasRoom === false) {
        if (this.#keepsUnsent && !this.#isStuck) this.isBlocked = true;
        else this.#drop();
        return;
      }
      this.#isStuck = false;
      const { memory, offset, length, segment, to } = this.#queued.shift()!;
      for (let at = offset; at < offset + length; at += segment) {
        const bytes = memory.slice(at, Math.min(at + segment, offset + length));
        this.counters.datagramsOut++;
        this.counters.bytesOut += bytes.length;
        const leave = (): void => this.#network.send(this.external, to, bytes, this.path, this.nat);
        if (device === undefined) leave();
        else device.push(this.#network.clock.now, bytes.length, leave);
      }
    }
  }

  giveUp(): void {
    this.isBlocked = false;
    this.#isStuck = true;
    this.#drop();
  }

  #drop(): void {
    for (const { length, segment } of this.#queued.splice(0)) this.counters.sendBlocked += Math.ceil(length / segment);
  }

  /** Sends one datagram of the test's own. */
  sendRaw(to: SocketAddress, bytes: Uint8Array, from: SocketAddress = this.external): void {
    this.#network.send(from, to, bytes.slice(), this.path, this.nat);
  }

  registerTransmit(memory: Uint8Array): TransmitMemory {
    const known = this.#own.get(memory) ?? { bytes: memory };
    this.#own.set(memory, known);
    return known;
  }

  close(): void {
    this.isClosed = true;
    this.#network.detach(this);
  }
}
