/**
 * Datagrams on their way to the proxy's UDP clients: copied here while the turn goes on, handed to the kernel once at its end,
 * or earlier when the memory is full.
 */
import type { TransmitMemory, UdpSocket } from '../../os/io.js';

/** A burst of hundreds of ordinary datagrams, or a few of the largest. */
const OUTBOX_BYTES = 512 * 1024;
/** Largest UDP payload over IPv4 (RFC 768). */
export const MAX_DATAGRAM = 65_507;

export class UdpOutbox {
  readonly #bytes = new Uint8Array(OUTBOX_BYTES);
  #memory: TransmitMemory | undefined;
  #used = 0;
  readonly #dirty: UdpSocket[] = [];

  /**
   * Queues `header` and `length` bytes at `offset` of `bytes` as one datagram to the packed address `to`.
   * `from`: our packed address that it leaves from, where the socket has several. False: longer than a datagram may be.
   */
  add(
    socket: UdpSocket,
    to: Uint32Array,
    header: Uint8Array,
    bytes: Uint8Array,
    offset: number,
    length: number,
    from?: Uint32Array,
  ): boolean {
    const total = header.length + length;
    if (total > MAX_DATAGRAM) return false;
    if (this.#used + total > OUTBOX_BYTES) this.flush();
    this.#memory ??= socket.registerTransmit(this.#bytes);
    const at = this.#used;
    this.#bytes.set(header, at);
    this.#bytes.set(bytes.subarray(offset, offset + length), at + header.length);
    this.#used += total;
    socket.send(this.#memory, at, total, total, to, 0, from, 0);
    if (!this.#dirty.includes(socket)) this.#dirty.push(socket);
    return true;
  }

  /** Sends what is queued; at the end of every turn. */
  flush(): void {
    for (const socket of this.#dirty) socket.flush();
    this.#dirty.length = 0;
    this.#used = 0;
  }

  /** Sends what is queued at a socket that is about to be closed. */
  forget(socket: UdpSocket): void {
    if (this.#dirty.includes(socket)) this.flush();
  }
}
