/**
 * Packets by way of the kernel driver: a handle to read from, another to write to.
 *
 *   once in a process:  service opened (init) ─► started
 *   a source:           handle ─► filters ─► completion port ─► 800 reads with room for 150 bytes, each given again after it was taken
 *   other filters:      a new handle takes the place of the old one
 *   end:                reads cancelled ─► port and handle closed ─► memory let go when no read can write to it any more
 */
import { SallyportError } from '../../base/error.js';
import type { Instant } from '../../base/time.js';
import type { FilterSpec, PacketCounters, PacketHandler, PacketSource } from '../packet-io.js';
import {
  ERROR_IO_PENDING,
  ERROR_SERVICE_ALREADY_RUNNING,
  FILE_FLAG_OVERLAPPED,
  GENERIC_READ,
  GENERIC_WRITE,
} from './constants.js';
import {
  DEVICE_PATH,
  PACKET_HEADER,
  PACKET_HEADER_BYTES,
  READ_BUFFERS,
  READ_BYTES,
  SERVICE,
  SET_DATA_FILTER,
} from './driver-constants.js';
import { driverFilters } from './driver-filters.js';
import { COMPLETION, OVERLAPPED_BYTES, type WindowsSystem } from './system.js';

/** One read: the driver's header and the beginning of a packet. */
const ROOM = PACKET_HEADER_BYTES + READ_BYTES;
/** OVERLAPPED and room, and a multiple of 8. */
const STRIDE = Math.ceil((OVERLAPPED_BYTES + ROOM) / 8) * 8;
/** One wait for a packet: a deadline that passes is no packet, and the next wait begins. */
const WAIT_MS = 200;
/** Packets taken before other work gets its turn. */
const TAKEN_PER_DRAIN = READ_BUFFERS;

/** Systems on which the driver was started: once in a process. */
const started = new WeakSet<WindowsSystem>();

/** @throws SallyportError DRIVER_NOT_AVAILABLE (environment) */
export function startDriver(system: WindowsSystem): void {
  if (started.has(system)) return;
  const service = system.openService(SERVICE);
  if (service < 0) throw unavailable(`StartDriver failed to init driver: error ${-service}`);
  const result = system.startService(service);
  system.closeService(service);
  if (result < 0 && result !== -ERROR_SERVICE_ALREADY_RUNNING) {
    throw unavailable(`StartDriver failed to start driver: error ${-result}`);
  }
  started.add(system);
}

/** A handle of the driver. @throws SallyportError DRIVER_NOT_AVAILABLE (environment) */
export function openHandle(system: WindowsSystem, flags: number): number {
  const handle = system.createFile(DEVICE_PATH, GENERIC_READ + GENERIC_WRITE, flags);
  if (handle < 0) throw unavailable(`opening the driver: error ${-handle}`);
  return handle;
}

export class DriverSource implements PacketSource {
  readonly counters: PacketCounters = { packets: 0, unusable: 0 };
  readonly #system: WindowsSystem;
  readonly #handler: PacketHandler;
  readonly #now: () => Instant;
  #reader: DriverReader | undefined;
  #open = true;

  constructor(system: WindowsSystem, handler: PacketHandler, now: () => Instant) {
    this.#system = system;
    this.#handler = handler;
    this.#now = now;
  }

  filter(spec: FilterSpec): void {
    const filters = driverFilters(spec);
    const former = this.#reader;
    this.#reader =
      filters.length === 0 || !this.#open
        ? undefined
        : new DriverReader(this.#system, filters, (b, at, n) => this.#take(b, at, n));
    former?.drain();
    former?.close();
  }

  drain(): void {
    this.#reader?.drain();
  }

  close(): void {
    this.#open = false;
    this.#reader?.close();
    this.#reader = undefined;
  }

  /** @param length what was read at `at`: header and packet; a packet whose end was cut off is of no use */
  #take(memory: Uint8Array, at: number, length: number): void {
    const view = new DataView(memory.buffer, memory.byteOffset + at, ROOM);
    const [header, size] =
      length < PACKET_HEADER_BYTES
        ? [0, 0]
        : [
            Number(view.getBigUint64(PACKET_HEADER.size, true)),
            Number(view.getBigUint64(PACKET_HEADER.packetSize, true)),
          ];
    if (size === 0 || header < PACKET_HEADER_BYTES || header + size > length) {
      this.counters.unusable++;
      return;
    }
    this.counters.packets++;
    this.#handler(memory, at + header, size, this.#now());
  }
}

type Take = (memory: Uint8Array, at: number, length: number) => void;

/** One handle with its filters and reads. */
class DriverReader {
  readonly #system: WindowsSystem;
  readonly #take: Take;
  readonly #handle: number;
  readonly #port: number;
  readonly #memory = new Uint8Array(READ_BUFFERS * STRIDE);
  readonly #base: number;
  readonly #completion = new Uint8Array(COMPLETION.size);
  readonly #waited = new Uint8Array(COMPLETION.size);
  #waiting = false;
  #open = true;

  /** @throws SallyportError FILTER_FAILED, DRIVER_NOT_AVAILABLE (environment) */
  constructor(system: WindowsSystem, filters: readonly Uint8Array[], take: Take) {
    this.#system = system;
    this.#take = take;
    this.#base = system.address(this.#memory);
    this.#handle = openHandle(system, FILE_FLAG_OVERLAPPED);
    let port = -1;
    try {
      for (const filter of filters) {
        const set = system.deviceIoControl(this.#handle, SET_DATA_FILTER, filter, new Uint8Array(8));
        if (set < 0) {
          const why = `failed to set filter: failed to create packet filters: error ${-set}`;
          throw new SallyportError('environment', 'FILTER_FAILED', why);
        }
      }
      port = system.createPort(this.#handle);
      if (port < 0) throw unavailable(`creating a completion port: error ${-port}`);
      for (let i = 0; i < READ_BUFFERS; i++) this.#submit(i);
    } catch (error) {
      if (port >= 0) system.closeHandle(port);
      system.closeHandle(this.#handle);
      throw error;
    }
    this.#port = port;
    this.#wait();
  }

  drain(): void {
    for (let i = 0; this.#open && i < TAKEN_PER_DRAIN; i++) {
      if (!this.#system.takeCompletion(this.#port, this.#completion)) return;
      this.#completed(this.#completion);
    }
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#system.cancelIo(this.#handle);
    // The wait that is under way ends with a cancelled read, or its time-out.
    if (!this.#waiting) this.#dispose();
  }

  #wait(): void {
    this.#waiting = true;
    this.#system.waitCompletion(this.#port, WAIT_MS, this.#waited, (taken) => {
      this.#waiting = false;
      if (!this.#open) {
        this.#dispose();
        return;
      }
      if (taken) {
        this.#completed(this.#waited);
        this.drain();
      }
      if (this.#open) this.#wait();
      else this.#dispose();
    });
  }

  #completed(completion: Uint8Array): void {
    const view = new DataView(completion.buffer);
    const address = Number(view.getBigUint64(COMPLETION.overlapped, true));
    const index = (address - this.#base) / STRIDE;
    if (!Number.isInteger(index) || index < 0 || index >= READ_BUFFERS) return;
    this.#take(this.#memory, index * STRIDE + OVERLAPPED_BYTES, view.getUint32(COMPLETION.bytes, true));
    if (this.#open) this.#submit(index);
  }

  /** @throws SallyportError DRIVER_NOT_AVAILABLE (environment) */
  #submit(index: number): void {
    const at = index * STRIDE;
    this.#memory.fill(0, at, at + OVERLAPPED_BYTES);
    const read = this.#system.readFile(this.#handle, this.#memory, at, ROOM);
    if (read < 0 && read !== -ERROR_IO_PENDING) throw unavailable(`reading from the driver: error ${-read}`);
  }

  #dispose(): void {
    this.#system.closeHandle(this.#port);
    this.#system.closeHandle(this.#handle);
  }
}

function unavailable(message: string): SallyportError {
  return new SallyportError('environment', 'DRIVER_NOT_AVAILABLE', message, {
    hint: 'trace without --windows-driver',
  });
}
