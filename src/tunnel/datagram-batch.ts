/**
 * Datagrams in one message of a stream: what a relay and a node exchange over TCP where UDP does not pass.
 *
 *   length u16 · payload │ length u16 · payload │ …          (big-endian; a payload has 1 … 2048 bytes)
 */

/** Larger than every UDP payload of this protocol. */
export const MAX_PAYLOAD = 2048;
const LENGTH = 2;
export const MAX_BATCH = 65_536;

/** Gathers datagrams for one message. */
export class DatagramBatchWriter {
  readonly #bytes = new Uint8Array(MAX_BATCH);
  #length = 0;

  get isEmpty(): boolean {
    return this.#length === 0;
  }

  /** False when it does not fit any more, or never would. */
  add(payload: Uint8Array): boolean {
    if (payload.length === 0 || payload.length > MAX_PAYLOAD) return false;
    if (this.#length + LENGTH + payload.length > MAX_BATCH) return false;
    this.#bytes[this.#length] = payload.length >>> 8;
    this.#bytes[this.#length + 1] = payload.length;
    this.#bytes.set(payload, this.#length + LENGTH);
    this.#length += LENGTH + payload.length;
    return true;
  }

  /** The message, a copy; the writer is empty afterwards. */
  take(): Uint8Array {
    const message = this.#bytes.slice(0, this.#length);
    this.#length = 0;
    return message;
  }
}

/** Calls `use` with a view of each datagram. False when the message is malformed; what was whole before that has been used. */
export function readDatagramBatch(message: Uint8Array, use: (payload: Uint8Array) => void): boolean {
  let at = 0;
  while (at + LENGTH <= message.length) {
    const length = (message[at]! << 8) | message[at + 1]!;
    const end = at + LENGTH + length;
    if (length === 0 || length > MAX_PAYLOAD || end > message.length) return false;
    use(message.subarray(at + LENGTH, end));
    at = end;
  }
  return at === message.length;
}
