/**
 * The packets that wait while a session opens: the first 64, copied, oldest first; more are dropped and counted by the
 * caller.
 */

/** Packets one opening session holds. */
export const WAITING_PACKETS = 64;

export class PacketQueue {
  #packets: Uint8Array[] = [];

  get length(): number {
    return this.#packets.length;
  }

  /** Copies a packet in; false when the queue is full. */
  push(bytes: Uint8Array, offset: number, length: number): boolean {
    if (this.#packets.length >= WAITING_PACKETS) return false;
    this.#packets.push(bytes.slice(offset, offset + length));
    return true;
  }

  /** Takes everything out. */
  drain(): Uint8Array[] {
    const packets = this.#packets;
    this.#packets = [];
    return packets;
  }
}
