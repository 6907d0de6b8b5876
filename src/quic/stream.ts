/**
 * The few things that code above a raw QUIC stream asks of the endpoint: reads and writes go through one scratch memory.
 */

/** State of a stream after a read: more may come, its end was reached, the peer gave it up. */
export const StreamState = { open: 0, finished: 1, reset: 2 } as const;

export interface StreamHost {
  /** Reads and writes use these bytes, from the first. */
  readonly scratch: Uint8Array;
  /** Reads up to `max` bytes to `scratch`; returns how many, or a negative number when the stream is over. */
  readStream(connection: number, stream: number, max: number): number;
  /** The state after the last `readStream`. */
  readonly readState: number;
  /** Writes the first `length` bytes of `scratch`; returns how many were taken, or a negative number when it is over. */
  writeStream(connection: number, stream: number, length: number): number;
  finishStream(connection: number, stream: number): void;
  stopStream(connection: number, stream: number, code: number): void;
}

/** Bytes waiting to be written to a stream, first in first out. */
export class SendQueue {
  readonly #chunks: Uint8Array[] = [];
  #offset = 0;
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
  }

  clear(): void {
    this.#chunks.length = 0;
    this.#offset = 0;
    this.#bytes = 0;
  }

  /** Writes as much as the stream takes; false when the stream is over. */
  drain(host: StreamHost, connection: number, stream: number): boolean {
    while (this.#bytes > 0) {
      let filled = 0;
      let from = this.#offset;
      for (const chunk of this.#chunks) {
        const part = chunk.subarray(from, from + host.scratch.length - filled);
        host.scratch.set(part, filled);
        filled += part.length;
        from = 0;
        if (filled === host.scratch.length) break;
      }
      const taken = host.writeStream(connection, stream, filled);
      if (taken < 0) return false;
      this.#drop(taken);
      if (taken < filled) return true;
    }
    return true;
  }

  #drop(taken: number): void {
    this.#bytes -= taken;
    let left = taken + this.#offset;
    while (this.#chunks.length > 0 && left >= this.#chunks[0]!.length) {
      left -= this.#chunks[0]!.length;
      this.#chunks.shift();
    }
    this.#offset = left;
  }
}
