/**
 * DER, as far as certificates and requests for them need it (ITU-T X.690 §8, §10, §11): elements with a tag of one byte and a
 * length of its shortest form.
 *
 *   element   tag u8 · length (0 – 127: one byte; else 0x80 + n and n bytes, big-endian) · content
 */
import { type WallTime, wallAt } from '../base/time.js';

/** Tags of X.690 §8 and X.680 §8.4; in a certificate `context(n)` and `primitive(n)` are [n]. */
export const Tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

export const context = (n: number): number => 0xa0 | n;
export const primitive = (n: number): number => 0x80 | n;

/** Bytes of a length beyond the first at most: nothing here comes near 64 KiB. */
const MAX_LENGTH_BYTES = 2;
/** RFC 5280 §4.1.2.5: times before are UTCTime, others GeneralizedTime. */
const FIRST_GENERALIZED = wallAt(Date.UTC(2050, 0, 1));

/** @throws RangeError for 64 KiB of content or more. */
export function element(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  const body = Buffer.concat(content);
  return new Uint8Array(Buffer.concat([Buffer.of(tag, ...lengthOf(body.length)), body]));
}

export const sequence = (...content: readonly Uint8Array[]): Uint8Array => element(Tag.sequence, ...content);

/** @param dotted an identifier whose first two arcs are below 3 and 40. */
export function oid(dotted: string): Uint8Array {
  const [first, second, ...rest] = dotted.split('.').map(Number);
  return element(Tag.oid, Buffer.from([first! * 40 + second!, ...rest.flatMap(base128)]));
}

/** Whole bytes. */
export const bitString = (bytes: Uint8Array): Uint8Array => element(Tag.bitString, Buffer.of(0), bytes);
export const octetString = (...content: readonly Uint8Array[]): Uint8Array => element(Tag.octetString, ...content);
export const printableString = (text: string): Uint8Array => element(Tag.printableString, Buffer.from(text, 'latin1'));
export const TRUE = element(Tag.boolean, Buffer.of(0xff));

/** A non-negative integer of up to 7 bits. */
export const smallInteger = (value: number): Uint8Array => element(Tag.integer, Buffer.of(value));

/** A time in whole seconds (RFC 5280 §4.1.2.5.1, §4.1.2.5.2). */
export function time(wall: WallTime): Uint8Array {
  const digits = new Date(Math.floor(wall / 1000) * 1000).toISOString().replace(/[-:T]|\.000/g, '');
  const isShort = wall < FIRST_GENERALIZED;
  return element(
    isShort ? Tag.utcTime : Tag.generalizedTime,
    Buffer.from(isShort ? digits.slice(2) : digits, 'latin1'),
  );
}

/** An element as it stands in bytes. */
export interface Element {
  readonly tag: number;
  /** With tag and length. */
  readonly whole: Uint8Array;
  readonly content: Uint8Array;
}

/** The elements these bytes are made of; undefined unless they are whole elements to the last byte. */
export function readElements(bytes: Uint8Array): Element[] | undefined {
  const found: Element[] = [];
  for (let at = 0; at < bytes.length; ) {
    const one = readElement(bytes.subarray(at));
    if (one === undefined) return undefined;
    found.push(one);
    at += one.whole.length;
  }
  return found;
}

function readElement(bytes: Uint8Array): Element | undefined {
  const [tag, first] = bytes;
  // Tags of several bytes occur nowhere in what is read here.
  if (tag === undefined || first === undefined || (tag & 0x1f) === 0x1f) return undefined;
  const more = first < 0x80 ? 0 : first - 0x80;
  if (more > MAX_LENGTH_BYTES || (first >= 0x80 && more === 0) || bytes.length < 2 + more) return undefined;
  let length = more === 0 ? first : 0;
  for (let i = 0; i < more; i++) length = length * 256 + bytes[2 + i]!;
  // Its shortest form is the only one.
  if (lengthOf(length).length !== 1 + more || bytes.length < 2 + more + length) return undefined;
  const whole = bytes.subarray(0, 2 + more + length);
  return { tag, whole, content: whole.subarray(2 + more) };
}

function lengthOf(length: number): number[] {
  if (length < 0x80) return [length];
  if (length < 0x100) return [0x81, length];
  if (length < 0x1_0000) return [0x82, length >> 8, length & 0xff];
  throw new RangeError(`an element of ${length} bytes`);
}

/** Seven bits a byte, the highest first, all but the last with the top bit (X.690 §8.19.2). */
function base128(value: number): number[] {
  const bytes = [value & 0x7f];
  for (let rest = value >>> 7; rest > 0; rest >>>= 7) bytes.unshift((rest & 0x7f) | 0x80);
  return bytes;
}
