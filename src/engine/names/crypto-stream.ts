/**
 * The CRYPTO stream of one QUIC connection attempt put together again: pieces in any order, overlapping, from any packet.
 *
 *   pieces    [0, 40)  [900, 1180)  [40, 300)  …      →     prefix [0, n) once it is whole
 *
 * RFC 9000 §7.5, §19.6.
 */

/** Bytes of the stream that are kept (a ClientHello with post-quantum shares takes about 2 KB). */
const STREAM_MAX = 16_384;
/** Separate stretches at once; clients that shuffle send about a dozen. */
const STRETCHES_MAX = 64;

export class CryptoStream {
  bytes = new Uint8Array(0);
  /** Sorted and disjoint: from, to, from, to … */
  readonly #stretches: number[] = [];

  /** How many bytes from the beginning are there. */
  get prefix(): number {
    return this.#stretches[0] === 0 ? this.#stretches[1]! : 0;
  }

  /** Puts a piece in its place; bytes that are there already stay. False when it lies beyond what is kept. */
  insert(at: number, source: Uint8Array, offset: number, length: number): boolean {
    const end = at + length;
    if (length === 0) return true;
    if (end > STREAM_MAX) return false;
    if (end > this.bytes.length) {
      const larger = new Uint8Array(Math.min(STREAM_MAX, Math.max(2048, 2 * this.bytes.length, end)));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    const s = this.#stretches;
    let first = 0;
    while (first < s.length && s[first + 1]! < at) first += 2;
    let last = first;
    let from = at;
    let to = end;
    let filled = at;
    // Copies the gaps between the stretches that the piece touches, and makes one of them all.
    while (last < s.length && s[last]! <= end) {
      this.#copy(filled, Math.min(s[last]!, end), at, source, offset);
      filled = Math.max(filled, s[last + 1]!);
      from = Math.min(from, s[last]!);
      to = Math.max(to, s[last + 1]!);
      last += 2;
    }
    this.#copy(filled, end, at, source, offset);
    s.splice(first, last - first, from, to);
    return s.length <= 2 * STRETCHES_MAX;
  }

  #copy(from: number, to: number, at: number, source: Uint8Array, offset: number): void {
    if (to > from) this.bytes.set(source.subarray(offset + from - at, offset + to - at), from);
  }
}
