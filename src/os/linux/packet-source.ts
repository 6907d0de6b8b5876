/**
 * Incoming IP packets of every device, through one packet socket (packet(7)) of type SOCK_DGRAM: the kernel takes off the
 * link-layer header, so that Ethernet, TUN, WireGuard and loopback look alike. Filtered in the kernel, stamped by the kernel.
 *
 *   opening:       "reject all" ─► discard what came before it ─► the program that is wanted
 *   a new filter:  takes the old one's place at once; nothing is lost
 *   receiving:     recvmmsg ─► per entry  sockaddr_ll (skip what this host sent) · time stamp ─► handler(bytes, at)
 *
 *   sockaddr_ll (20 bytes)  family u16 · protocol be16 · interface i32 · hardware u16 · packet type u8 · …
 */
import { filterProgram, INSTRUCTION_BYTES } from '../bpf.js';
import { READABLE, type Watch } from '../io.js';
import type { FilterSpec, PacketCounters, PacketHandler, PacketSource } from '../packet-io.js';
import {
  AF_PACKET,
  ETH_P_ALL,
  MSG_DONTWAIT,
  MSG_TRUNC,
  PACKET_IGNORE_OUTGOING,
  PACKET_OUTGOING,
  SO_ATTACH_FILTER,
  SO_DETACH_FILTER,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_TIMESTAMPNS,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_PACKET,
  SOL_SOCKET,
} from './constants.js';
import { check, close, errno, recvfrom, recvmmsg, setsockopt, socket } from './libc.js';
import type { MainLoop } from './main-loop.js';
import { NativeMemory, putPointer } from './memory.js';
import { FLAGS, HEADER_WORDS, MessageTable, TRANSFERRED } from './msghdr.js';
import { rawError } from './raw-error.js';
import { SOCKADDR_STRIDE } from './sockaddr.js';
import { requireOption, tryOption } from './socket.js';
import { StampReader } from './stamps.js';

/** Packets fetched by one call. */
const BATCH = 32;
/** Batches handed over before other work gets its turn. */
const BATCHES_PER_DRAIN = 32;
/** Room for one packet: answers to a trace are at most an Ethernet frame long; what is longer is cut off and counted. */
const ENTRY_BYTES = 2048;
/** Answers of many traces may come while the main thread is busy: 4 MiB hold several thousand. */
const BUFFER_BYTES = 4 << 20;
/** Where sockaddr_ll keeps the packet type. */
const PACKET_TYPE = 10;

const REJECT_ALL = filterProgram({ kind: 'nothing' })!;

/** @throws SallyportError RAW_NOT_PERMITTED, SOCKET_FAILED (environment) */
export function openPacketSource(loop: MainLoop, handler: PacketHandler): PacketSource {
  const type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = socket(AF_PACKET, type, ((ETH_P_ALL & 0xff) << 8) | (ETH_P_ALL >>> 8));
  if (fd < 0) throw rawError(errno(), 'opening a packet socket');
  try {
    return new LinuxPacketSource(fd, loop, handler);
  } catch (error) {
    close(fd);
    throw error;
  }
}

class LinuxPacketSource implements PacketSource {
  readonly counters: PacketCounters = { packets: 0, unusable: 0 };
  readonly #fd: number;
  readonly #handler: PacketHandler;
  readonly #table = new MessageTable(BATCH);
  readonly #payload = NativeMemory.allocate(BATCH * ENTRY_BYTES);
  readonly #program = NativeMemory.allocate(16);
  readonly #stamps = new StampReader();
  readonly #watch: Watch;
  #open = true;

  constructor(fd: number, loop: MainLoop, handler: PacketHandler) {
    this.#fd = fd;
    this.#handler = handler;
    for (let i = 0; i < BATCH; i++) this.#table.setVector(i, this.#payload.address + i * ENTRY_BYTES, ENTRY_BYTES);
    this.#attach(REJECT_ALL);
    // Kernels before 4.20 do not know it: what this host sends is then recognized by its packet type.
    tryOption(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
    requireOption(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    if (!tryOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)) tryOption(fd, SOL_SOCKET, SO_RCVBUF, BUFFER_BYTES);
    this.#discard();
    this.#watch = loop.watch(fd, READABLE, () => this.drain());
  }

  filter(spec: FilterSpec): void {
    const program = filterProgram(spec);
    if (program !== undefined) this.#attach(program);
    else check(setsockopt(this.#fd, SOL_SOCKET, SO_DETACH_FILTER, this.#program.address, 4), 'filter', 'FILTER_FAILED');
  }

  drain(): void {
    const table = this.#table;
    for (let round = 0; this.#open && round < BATCHES_PER_DRAIN; round++) {
      table.rearm(BATCH);
      // −1: nothing waits (EAGAIN), or a device went down (ENETDOWN), which is no concern of a trace.
      const count = recvmmsg(this.#fd, table.address, BATCH, MSG_DONTWAIT, 0);
      if (count <= 0) return;
      this.#stamps.refresh();
      for (let i = 0; i < count; i++) this.#take(i);
      if (count < BATCH) return;
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watch.close();
    close(this.#fd);
  }

  #take(i: number): void {
    const { words, bytes, nameStart } = this.#table;
    if (!this.#open || bytes[nameStart + i * SOCKADDR_STRIDE + PACKET_TYPE] === PACKET_OUTGOING) return;
    if ((words[i * HEADER_WORDS + FLAGS]! & MSG_TRUNC) !== 0) {
      this.counters.unusable++;
      return;
    }
    this.counters.packets++;
    const length = words[i * HEADER_WORDS + TRANSFERRED]!;
    this.#handler(this.#payload.bytes, i * ENTRY_BYTES, length, this.#stamps.read(this.#table, i));
  }

  /** `struct sock_fprog`: count u16 · padding · pointer. The kernel copies the program. */
  #attach(program: Uint8Array): void {
    const code = new NativeMemory(program);
    const words = this.#program.words();
    words[0] = program.length / INSTRUCTION_BYTES;
    putPointer(words, 2, code.address);
    const done = setsockopt(this.#fd, SOL_SOCKET, SO_ATTACH_FILTER, this.#program.address, 16);
    check(done, 'attaching a packet filter', 'FILTER_FAILED');
  }

  /** Throws away what came before the first filter was there. */
  #discard(): void {
    while (recvfrom(this.#fd, this.#payload.address, 1, MSG_DONTWAIT, 0, 0) >= 0);
  }
}
