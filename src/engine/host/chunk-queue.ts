/** Pieces of a stream, or datagrams with where they are from, in order; the owner bounds them. */
import type { SocketAddress } from '../../base/address.js';

export interface Chunk {
  readonly bytes: Uint8Array;
  readonly from: SocketAddress | undefined;
}

/** How many taken chunks are kept at the front before the list is moved up. */
const SPARE = 64;

export class ChunkQueue {
  /** Bytes that wait. */
  bytes = 0;
  #chunks: Chunk[] = [];
  /** Chunks taken, and bytes taken of the one after them. */
  #first = 0;
  #offset = 0;

  get length(): number {
    return this.#chunks.length - this.#first;
  }

  push(bytes: Uint8Array, from: SocketAddress | undefined): void {
    this.#chunks.push({ bytes, from });
    this.bytes += bytes.length;
  }

  /** The oldest, whole. */
  shift(): Chunk | undefined {
    const chunk = this.#chunks[this.#first];
    if (chunk === undefined) return undefined;
    this.bytes -= chunk.bytes.length - this.#offset;
    this.#next();
    return chunk;
  }

  /** Copies bytes of the stream; returns how many. */
  read(target: Uint8Array, offset: number, length: number): number {
    let done = 0;
    for (
      let chunk = this.#chunks[this.#first];
      chunk !== undefined && done < length;
      chunk = this.#chunks[this.#first]
    ) {
      const n = Math.min(length - done, chunk.bytes.length - this.#offset);
      target.set(chunk.bytes.subarray(this.#offset, this.#offset + n), offset + done);
      done += n;
      this.#offset += n;
      if (this.#offset === chunk.bytes.length) this.#next();
    }
    this.bytes -= done;
    return done;
  }

  clear(): void {
    this.#chunks = [];
    this.#first = 0;
    this.#offset = 0;
    this.bytes = 0;
  }

  #next(): void {
    this.#first++;
    this.#offset = 0;
    if (this.#first < SPARE && this.#first < this.#chunks.length) return;
    this.#chunks.splice(0, this.#first);
    this.#first = 0;
  }
}
