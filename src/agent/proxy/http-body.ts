/**
 * The content of an HTTP/1 message as it passes: finds its end and, of chunks, lets through only what means the same to
 * everybody: extensions and trailer fields are taken out, and anything malformed ends it.
 *
 *   chunk-size [; extension] CRLF  data CRLF   …   0 CRLF  (trailer field CRLF)*  CRLF
 *
 * RFC 9112 §6–7. What comes out is never longer than what went in, so that it may be written over it.
 */
import type { Framing } from './http-head.js';

/** Hexadecimal digits of a chunk size: below 2^52. */
const MAX_DIGITS = 13;
/** Bytes of extensions in one chunk, and of all trailer fields. */
const MAX_DROPPED = 8 * 1024;

const CR = 0x0d;
const LF = 0x0a;
const SEMICOLON = 0x3b;

type Step =
  | 'size'
  | 'extension'
  | 'size-end'
  | 'data'
  | 'data-cr'
  | 'data-end'
  | 'trailer-start'
  | 'trailer'
  | 'trailer-end'
  | 'last-end';

export class HttpBody {
  isComplete: boolean;
  isMalformed = false;
  /** Bytes that the last `feed` wrote. */
  produced = 0;
  readonly #kind: Framing['kind'];
  readonly #decode: boolean;
  /** Bytes of the length or of the present chunk that have not come. */
  #left: number;
  #step: Step = 'size';
  #digits = 0;
  #dropped = 0;

  /** @param decode chunks are taken out of their framing, for a receiver that does not know it. */
  constructor(framing: Framing, decode = false) {
    this.#kind = framing.kind;
    this.#decode = decode;
    this.#left = framing.kind === 'length' ? framing.length : 0;
    this.isComplete = framing.kind === 'none' || (framing.kind === 'length' && framing.length === 0);
  }

  /** Whether the bytes go on as they are. */
  get isVerbatim(): boolean {
    return this.#kind !== 'chunked';
  }

  /** Of a verbatim content: how many of the next `length` bytes belong to it. */
  wanted(length: number): number {
    if (this.isComplete) return 0;
    return this.#kind === 'length' ? Math.min(length, this.#left) : length;
  }

  /** Of a verbatim content: `length` of the wanted bytes have passed. */
  passed(length: number): void {
    if (this.#kind !== 'length') return;
    this.#left -= length;
    this.isComplete = this.#left === 0;
  }

  /** The stream has ended. Whether that was the end of the content too. */
  endOfStream(): boolean {
    if (this.#kind === 'close') this.isComplete = true;
    return this.isComplete;
  }

  /**
   * Takes the next bytes and writes what goes on to `out` at `at` (which may be the same memory, no further ahead).
   * Returns how many were taken; fewer than `length` when the content is complete or malformed.
   */
  feed(bytes: Uint8Array, offset: number, length: number, out: Uint8Array, at: number): number {
    this.produced = 0;
    if (this.isVerbatim) {
      const n = this.wanted(length);
      out.set(bytes.subarray(offset, offset + n), at);
      this.passed(n);
      this.produced = n;
      return n;
    }
    let taken = 0;
    while (taken < length && !this.isComplete && !this.isMalformed) {
      if (this.#step === 'data') {
        const n = Math.min(this.#left, length - taken);
        out.set(bytes.subarray(offset + taken, offset + taken + n), at + this.produced);
        this.produced += n;
        taken += n;
        this.#left -= n;
        if (this.#left === 0) this.#step = 'data-cr';
      } else this.#byte(bytes[offset + taken++]!, out, at);
    }
    return taken;
  }

  #byte(byte: number, out: Uint8Array, at: number): void {
    switch (this.#step) {
      case 'size':
        this.#size(byte, out, at);
        break;
      case 'extension':
        if (byte === CR) this.#expect(byte, CR, 'size-end', out, at);
        else this.#drop(byte);
        break;
      case 'size-end':
        this.#expect(byte, LF, this.#left > 0 ? 'data' : 'trailer-start', out, at);
        this.#digits = 0;
        this.#dropped = 0;
        break;
      case 'data-cr':
        this.#expect(byte, CR, 'data-end', out, at);
        break;
      case 'data-end':
        this.#expect(byte, LF, 'size', out, at);
        break;
      case 'trailer-start':
        if (byte === CR) this.#expect(byte, CR, 'last-end', out, at);
        else {
          this.#step = 'trailer';
          this.#drop(byte);
        }
        break;
      case 'trailer':
        if (byte === CR) this.#step = 'trailer-end';
        else this.#drop(byte);
        break;
      case 'trailer-end':
        if (byte === LF) this.#step = 'trailer-start';
        else this.isMalformed = true;
        break;
      case 'last-end':
        this.#expect(byte, LF, 'size', out, at);
        this.isComplete = !this.isMalformed;
        break;
    }
  }

  #size(byte: number, out: Uint8Array, at: number): void {
    const digit = hexDigit(byte);
    if (digit >= 0) {
      if (this.#digits === 0) this.#left = 0;
      if (++this.#digits > MAX_DIGITS) this.isMalformed = true;
      this.#left = this.#left * 16 + digit;
      this.#keep(byte, out, at);
    } else if (this.#digits === 0) this.isMalformed = true;
    else if (byte === CR) this.#expect(byte, CR, 'size-end', out, at);
    else if (byte === SEMICOLON) this.#step = 'extension';
    else this.isMalformed = true;
  }

  #keep(byte: number, out: Uint8Array, at: number): void {
    if (!this.#decode && !this.isMalformed) out[at + this.produced++] = byte;
  }

  /** Control characters have no place in what is dropped either: a lone line feed is one reader's end of line. */
  #drop(byte: number): void {
    if ((byte < 0x20 && byte !== 0x09) || byte === 0x7f || ++this.#dropped > MAX_DROPPED) this.isMalformed = true;
  }

  /** A byte of the framing that goes on. */
  #expect(byte: number, wanted: number, next: Step, out: Uint8Array, at: number): void {
    if (byte === wanted) {
      this.#step = next;
      this.#keep(byte, out, at);
    } else this.isMalformed = true;
  }
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}
