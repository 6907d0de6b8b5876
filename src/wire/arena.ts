/**
 * Packet memory: one stretch of bytes with the views the packet path needs, made once and kept. Packets start at offsets
 * that are multiples of 4, so that copies and checksums go by words.
 *
 *   bytes[offset] … bytes[offset + length)      words[offset / 4] = bytes 0–3 of the packet, little-endian
 *
 * The word view is in the host's byte order; everything that uses it is written for little-endian hosts (x86-64, arm64).
 */

/** The next offset at or above `offset` where a packet may start. */
export const align = (offset: number): number => (offset + 3) & ~3;

export class Arena {
  readonly bytes: Uint8Array;
  /** `words.length` = whole words in `bytes`. */
  readonly words: Uint32Array;

  /**
   * @param memory a size in bytes, or existing memory whose first byte lies at a multiple of 4 of its ArrayBuffer (every
   * Uint8Array from `new Uint8Array(n)` does; a piece of Node's Buffer pool may not: RangeError).
   */
  constructor(memory: number | Uint8Array) {
    this.bytes = typeof memory === 'number' ? new Uint8Array(align(memory)) : memory;
    this.words = new Uint32Array(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length >>> 2);
  }

  get size(): number {
    return this.bytes.length;
  }
}

/** Below this many bytes a word loop beats making a view for `TypedArray.set` (measured: they meet near 500 bytes). */
const WORD_COPY_LIMIT = 512;

/** Copies `length` bytes between arenas; the ranges must not overlap. */
export function copyBytes(
  source: Arena,
  sourceOffset: number,
  target: Arena,
  targetOffset: number,
  length: number,
): void {
  if (length > WORD_COPY_LIMIT) {
    target.bytes.set(source.bytes.subarray(sourceOffset, sourceOffset + length), targetOffset);
    return;
  }
  let from = sourceOffset;
  let to = targetOffset;
  const end = sourceOffset + length;
  if (((sourceOffset | targetOffset) & 3) === 0) {
    const s = source.words;
    const t = target.words;
    let i = from >>> 2;
    let k = to >>> 2;
    for (const last = end >>> 2; i < last; i++, k++) t[k] = s[i]!;
    from = i << 2;
    to = k << 2;
  }
  const s = source.bytes;
  const t = target.bytes;
  while (from < end) t[to++] = s[from++]!;
}
