/**
 * DNS messages in a stream: `length u16 · message`, in whatever pieces. RFC 1035 §4.2.2, RFC 7766 §8.
 */
import { readU16, writeU16 } from '../../wire/bytes.js';

export function frame(message: Uint8Array): Uint8Array {
  const framed = new Uint8Array(2 + message.length);
  writeU16(framed, 0, message.length);
  framed.set(message, 2);
  return framed;
}

/** Cuts a stream into messages. At most one unfinished message is kept: 65,537 bytes. */
export class DnsFraming {
  readonly #onMessage: (message: Uint8Array) => void;
  #kept = new Uint8Array(0);

  /** @param onMessage gets a copy of every message. */
  constructor(onMessage: (message: Uint8Array) => void) {
    this.#onMessage = onMessage;
  }

  feed(bytes: Uint8Array, offset: number, length: number): void {
    const joined = new Uint8Array(this.#kept.length + length);
    joined.set(this.#kept);
    joined.set(bytes.subarray(offset, offset + length), this.#kept.length);
    let at = 0;
    while (joined.length - at >= 2) {
      const end = at + 2 + readU16(joined, at);
      if (end > joined.length) break;
      this.#onMessage(joined.slice(at + 2, end));
      at = end;
    }
    this.#kept = joined.slice(at);
  }
}
