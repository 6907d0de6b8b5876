/**
 * The head of an HTTP/1 message: a start line and fields, taken strictly, because two programs that read one head differently
 * can be played off against each other (request smuggling).
 *
 *   start line CRLF  (field-name ":" value CRLF)*  CRLF
 *
 * Refused: a line feed without its carriage return, a carriage return elsewhere, folded lines, a space before the colon, control
 * characters. RFC 9112 §2.2, §5, §11.2.
 */
import { NO_BYTES } from './negotiation.js';

/** Longest head, bytes; common servers take 8 – 16 KiB. */
export const MAX_HEAD = 16 * 1024;
/** Room a head usually fits into. */
const FIRST_ROOM = 512;

const CR = 0x0d;
const LF = 0x0a;

/** RFC 9110 §5.6.2. */
export const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** A field line: a token, a colon at once, then printable text, tabs and obs-text. */
const FIELD_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*)$/;

/** Fields that are for one connection only, and those that would ask the next hop for what we do not pass on. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authorization',
  'proxy-authenticate',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

export interface HeadField {
  /** Lower case. */
  readonly name: string;
  /** Without white space around it. */
  readonly value: string;
  /** As it was written, without its end. */
  readonly line: string;
}

/** How the end of a message's content is known (RFC 9112 §6). */
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'close' };

/** Collects a head; latin1, one character a byte. */
export class HeadReader {
  state: 'reading' | 'complete' | 'malformed' | 'too-long' = 'reading';
  #block = new Uint8Array(FIRST_ROOM);
  #length = 0;
  #lineStart = 0;

  /** Whether nothing of a head has been read. */
  get isEmpty(): boolean {
    return this.#length === 0;
  }

  /** Takes the next bytes and returns how many; fewer than `length` only when the head is over. */
  feed(bytes: Uint8Array, offset: number, length: number): number {
    let taken = 0;
    while (taken < length && this.state === 'reading') this.#byte(bytes[offset + taken++]!);
    return taken;
  }

  /** The lines of a complete head, without their ends; the memory is given back. */
  takeLines(): string[] {
    let text = '';
    for (let i = 0; i < this.#lineStart - 2; i++) text += String.fromCharCode(this.#block[i]!);
    this.#block = NO_BYTES;
    return text.split('\r\n');
  }

  #byte(byte: number): void {
    if (this.#length === MAX_HEAD) {
      this.state = 'too-long';
      return;
    }
    if (this.#length === this.#block.length) this.#grow();
    this.#block[this.#length++] = byte;
    if (byte === LF) this.#line();
  }

  /** A line has ended: the empty one ends the head, unless it stands before the start line (RFC 9112 §2.2). */
  #line(): void {
    const length = this.#length - this.#lineStart;
    if (length < 2 || this.#block[this.#length - 2] !== CR) this.state = 'malformed';
    else if (length > 2) this.#lineStart = this.#length;
    else if (this.#lineStart === 0) this.#length = 0;
    else this.state = 'complete';
  }

  #grow(): void {
    const grown = new Uint8Array(Math.min(this.#block.length * 2, MAX_HEAD));
    grown.set(this.#block);
    this.#block = grown;
  }
}

/** The fields of these lines; undefined when one is malformed. */
export function parseFields(lines: readonly string[]): HeadField[] | undefined {
  const fields: HeadField[] = [];
  for (const line of lines) {
    const match = FIELD_LINE.exec(line);
    if (match === null) return undefined;
    fields.push({ name: match[1]!.toLowerCase(), value: match[2]!.replace(/[\t ]+$/, ''), line });
  }
  return fields;
}

export function valuesOf(fields: readonly HeadField[], name: string): string[] {
  return fields.filter((field) => field.name === name).map((field) => field.value);
}

/** Elements of comma-separated fields, lower case. */
export function listOf(fields: readonly HeadField[], name: string): string[] {
  return valuesOf(fields, name).flatMap((value) => value.split(',').map((one) => one.trim().toLowerCase()));
}

/** The fields that go on to the next hop, but for those that say how long the content is. */
export function endToEnd(fields: readonly HeadField[]): string[] {
  const named = new Set(listOf(fields, 'connection'));
  return fields
    .filter(({ name }) => !HOP_BY_HOP.has(name) && !named.has(name) && name !== 'content-length')
    .map(({ line }) => line);
}

/**
 * What `Transfer-Encoding` and `Content-Length` say: undefined when neither is there, a text why the message must be refused.
 * Only "chunked" alone is known, never beside a length, which must be there once and be one number (RFC 9112 §6.1–6.3).
 */
export function announcedFraming(fields: readonly HeadField[], isHttp10: boolean): Framing | string | undefined {
  const codings = valuesOf(fields, 'transfer-encoding');
  const lengths = valuesOf(fields, 'content-length');
  if (codings.length > 0) {
    if (lengths.length > 0) return 'both transfer-encoding and content-length';
    if (isHttp10) return 'transfer-encoding in HTTP/1.0';
    return codings.length === 1 && codings[0]!.toLowerCase() === 'chunked'
      ? { kind: 'chunked' }
      : 'a transfer-encoding other than chunked';
  }
  if (lengths.length === 0) return undefined;
  if (lengths.length > 1 || !/^\d{1,15}$/.test(lengths[0]!)) return 'a malformed or repeated content-length';
  return { kind: 'length', length: Number(lengths[0]) };
}

/** The field lines that say the same of the message as it is passed on. */
export function framingLines(framing: Framing): string[] {
  if (framing.kind === 'length') return [`Content-Length: ${framing.length}`];
  return framing.kind === 'chunked' ? ['Transfer-Encoding: chunked'] : [];
}

/** A head as bytes, latin1. */
export function encodeHead(lines: readonly string[]): Uint8Array {
  return Uint8Array.from(Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'));
}
