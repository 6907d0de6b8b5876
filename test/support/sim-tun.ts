/** A TUN device in memory: the test writes the host's packets and reads what the agent delivers. */
import type { DeviceMemory, TunDevice } from '../../src/os/io.js';
import { READABLE, VNET_HEADER_SIZE } from '../../src/os/io.js';
import type { Descriptor, SimReactor } from './sim-reactor.js';

export class SimTun implements TunDevice, Descriptor {
  readonly fd: number;
  readonly name = 'sim0';
  readonly offload = true;
  readonly udpOffload: boolean = false;
  /** Packets for the host, each with its virtio header. */
  readonly delivered: Uint8Array[] = [];
  /** Called with each delivered packet, virtio header included. */
  onPacket: ((packet: Uint8Array) => void) | undefined;
  isClosed = false;
  readonly #outgoing: Uint8Array[] = [];

  constructor(reactor: SimReactor) {
    this.fd = reactor.register(this);
  }

  /** The host sends a complete packet, or one with a virtio header of its own. */
  send(packet: Uint8Array, header: Uint8Array = new Uint8Array(VNET_HEADER_SIZE)): void {
    const whole = new Uint8Array(header.length + packet.length);
    whole.set(header);
    whole.set(packet, header.length);
    this.#outgoing.push(whole);
  }

  /** What was delivered since the last call, without virtio headers. */
  take(): Uint8Array[] {
    return this.delivered.splice(0).map((packet) => packet.slice(VNET_HEADER_SIZE));
  }

  readiness(): number {
    return this.#outgoing.length > 0 ? READABLE : 0;
  }

  read(target: DeviceMemory, offset: number, length: number): number {
    const packet = this.#outgoing.shift();
    if (packet === undefined) return 0;
    if (packet.length > length) throw new Error('the packet is longer than the room for it');
    target.bytes.set(packet, offset);
    return packet.length;
  }

  write(source: DeviceMemory, offset: number, length: number): number {
    const packet = source.bytes.slice(offset, offset + length);
    this.delivered.push(packet);
    this.onPacket?.(packet);
    return length;
  }

  writeParts(...[source, offset, length, payload, from, size]: Parameters<TunDevice['writeParts']>): number {
    source.bytes.set(payload.subarray(from, from + size), offset + length);
    return this.write(source, offset, length + size);
  }

  writeGathered(...[source, offset, length, payload, pieces, count]: Parameters<TunDevice['writeGathered']>): number {
    const parts = [source.bytes.subarray(offset, offset + length)];
    for (let i = 0; i < count * 2; i += 2) {
      parts.push(payload.bytes.subarray(pieces[i]!, pieces[i]! + pieces[i + 1]!));
    }
    const packet = Buffer.concat(parts);
    return this.write({ bytes: packet }, 0, packet.length);
  }

  register(memory: Uint8Array): DeviceMemory {
    return { bytes: memory };
  }

  close(): void {
    this.isClosed = true;
  }
}
