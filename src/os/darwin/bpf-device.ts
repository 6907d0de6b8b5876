/**
 * One packet capture device of macOS (bpf(4)), bound to one interface.
 *
 *   /dev/bpf0 … 255, the first that is not busy ─► buffer size ─► interface ─► link type ─► immediate, time-out, nothing of our own
 *                                                ─► "reject all" ─► flush ─► the filter that is wanted
 *   a read:   record · padding to 4 · record …
 *   record:   seconds i32 · microseconds i32 · captured u32 · length u32 · header length u16 · … · link header · IP packet
 *
 * A read blocks on a thread of the pool until a packet comes or the time-out; there is always one under way.
 */
import { SallyportError } from '../../base/error.js';
import { type Instant, instantAt } from '../../base/time.js';
import { filterProgram, INSTRUCTION_BYTES } from '../bpf.js';
import type { FilterSpec, PacketCounters, PacketHandler } from '../packet-io.js';
import {
  BIOCFLUSH,
  BIOCGDLT,
  BIOCIMMEDIATE,
  BIOCSBLEN,
  BIOCSETFNR,
  BIOCSETIF,
  BIOCSRTIMEOUT,
  BIOCSSEESENT,
  EBUSY,
  ENOENT,
  IFNAMSIZ,
  IFREQ_BYTES,
  LINK_HEADERS,
  O_RDWR,
} from './constants.js';
import { must, systemError } from './errors.js';
import type { DarwinSystem } from './system.js';

const DEVICES = 256;
/** One read; several answers of usual size. */
const BUFFER_BYTES = 32_768;
/** Records start at multiples of this. */
const ALIGNMENT = 4;
const RECORD_HEADER = 18;
/** A device is closed at most this much after it was told so: a thread is reading it. */
const READ_TIMEOUT_MICROSECONDS = 200_000;

/** The clocks, read together. */
export interface Clocks {
  now(): Instant;
  /** The wall clock in microseconds, as the kernel stamps packets. */
  wallMicroseconds(): number;
}

export class BpfDevice {
  readonly #system: DarwinSystem;
  readonly #clocks: Clocks;
  readonly #handler: PacketHandler;
  readonly #counters: PacketCounters;
  readonly #fd: number;
  readonly #buffer: Uint8Array;
  readonly #linkHeader: number;
  #open = true;

  /** @throws SallyportError RAW_NOT_PERMITTED, CAPTURE_NOT_AVAILABLE, LINK_TYPE_NOT_SUPPORTED … (environment) */
  constructor(system: DarwinSystem, device: string, clocks: Clocks, handler: PacketHandler, counters: PacketCounters) {
    this.#system = system;
    this.#clocks = clocks;
    this.#handler = handler;
    this.#counters = counters;
    this.#fd = openFree(system);
    try {
      const size = number(BUFFER_BYTES);
      this.#ioctl(BIOCSBLEN, size, 'buffer size');
      // What the kernel made of it: a read of any other size fails.
      this.#buffer = new Uint8Array(new DataView(size.buffer).getUint32(0, true));
      this.#ioctl(BIOCSETIF, interfaceRequest(device), `capturing on ${device}`);
      const type = number(0);
      this.#ioctl(BIOCGDLT, type, 'link type');
      this.#linkHeader = linkHeader(new DataView(type.buffer).getUint32(0, true), device);
      this.#ioctl(BIOCIMMEDIATE, number(1), 'immediate mode');
      this.#ioctl(BIOCSSEESENT, number(0), 'direction');
      this.#ioctl(BIOCSRTIMEOUT, timeval(READ_TIMEOUT_MICROSECONDS), 'read time-out');
      this.filter({ kind: 'nothing' });
      this.#ioctl(BIOCFLUSH, new Uint8Array(0), 'flush');
    } catch (error) {
      system.close(this.#fd);
      throw error;
    }
    this.#read();
  }

  /** @throws SallyportError FILTER_FAILED (environment) */
  filter(spec: FilterSpec): void {
    // A program that accepts everything stands for none: what is captured at all is IP.
    const code = filterProgram(spec, this.#linkHeader) ?? ACCEPT_ALL;
    const program = new Uint8Array(16);
    const view = new DataView(program.buffer);
    view.setUint32(0, code.length / INSTRUCTION_BYTES, true);
    view.setBigUint64(8, BigInt(this.#system.address(code)), true);
    const set = this.#system.ioctl(this.#fd, BIOCSETFNR, program);
    if (set < 0) {
      throw new SallyportError('environment', 'FILTER_FAILED', `attaching a packet filter: errno ${-set}`);
    }
  }

  /** The descriptor goes when the read that is under way returns. */
  close(): void {
    this.#open = false;
  }

  #read(): void {
    this.#system.readLater(this.#fd, this.#buffer, (length) => {
      if (this.#open && length > 0) this.#take(length);
      if (this.#open && length >= 0) this.#read();
      else this.#system.close(this.#fd);
    });
  }

  #take(length: number): void {
    const view = new DataView(this.#buffer.buffer);
    const now = this.#clocks.now();
    const wall = this.#clocks.wallMicroseconds();
    for (let at = 0, next = 0; this.#open && at + RECORD_HEADER <= length; at = next) {
      const captured = view.getUint32(at + 8, true);
      const header = view.getUint16(at + 16, true);
      if (header < RECORD_HEADER || at + header + captured > length) {
        this.#counters.unusable++;
        return;
      }
      next = at + Math.ceil((header + captured) / ALIGNMENT) * ALIGNMENT;
      const bytes = captured - this.#linkHeader;
      if (captured < view.getUint32(at + 12, true) || bytes <= 0) {
        this.#counters.unusable++;
        continue;
      }
      this.#counters.packets++;
      const stamp = view.getInt32(at, true) * 1_000_000 + view.getInt32(at + 4, true);
      // How long ago it was, so that a step of the wall clock spoils no round-trip time but those it falls into.
      const age = Math.max(0, wall - stamp);
      this.#handler(this.#buffer, at + header + this.#linkHeader, bytes, instantAt(now - age));
    }
  }

  #ioctl(request: number, argument: Uint8Array, what: string): void {
    must(this.#system.ioctl(this.#fd, request, argument), what);
  }
}

/** One instruction: return more bytes than any packet has. */
const ACCEPT_ALL = Uint8Array.from([6, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f]);

function openFree(system: DarwinSystem): number {
  for (let i = 0; i < DEVICES; i++) {
    const fd = system.open(`/dev/bpf${i}`, O_RDWR);
    if (fd >= 0) return fd;
    if (fd === -EBUSY) continue;
    if (i > 0 && fd === -ENOENT) break;
    throw systemError(fd, `opening /dev/bpf${i}`);
  }
  throw new SallyportError('environment', 'CAPTURE_NOT_AVAILABLE', 'every packet capture device is in use');
}

function linkHeader(type: number, device: string): number {
  const bytes = LINK_HEADERS.get(type);
  if (bytes !== undefined) return bytes;
  throw new SallyportError('environment', 'LINK_TYPE_NOT_SUPPORTED', `${device} has the link type ${type}`);
}

function number(value: number): Uint8Array {
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, value, true);
  return out;
}

/** `struct timeval`: seconds i64 · microseconds i32 · padding. */
function timeval(microseconds: number): Uint8Array {
  const out = new Uint8Array(16);
  const view = new DataView(out.buffer);
  view.setUint32(0, Math.floor(microseconds / 1_000_000), true);
  view.setUint32(8, microseconds % 1_000_000, true);
  return out;
}

/** `struct ifreq` with nothing but the name. */
export function interfaceRequest(device: string): Uint8Array {
  const out = new Uint8Array(IFREQ_BYTES);
  out.set(new TextEncoder().encode(device).subarray(0, IFNAMSIZ - 1));
  return out;
}
