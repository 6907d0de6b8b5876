/**
 * DNS messages: read in place, so that what passes through keeps every byte, and written where we answer or ask ourselves.
 *
 *   id u16 · QR opcode AA TC RD · RA Z AD CD rcode · counts 4×u16 · question · answer, authority, additional records
 *   question  name · type u16 · class u16          record  name · type u16 · class u16 · ttl u32 · length u16 · data
 *   name      (length u8 · label)… 0, or a pointer 11xxxxxx xxxxxxxx to an earlier one
 *
 * Names are text in lower case, without the final dot, bytes that are no host name characters as \DDD: so no two names share
 * a text. RFC 1035 §4; RFC 4343 (case); RFC 2181 §8 (times to live); RFC 6891 (EDNS); RFC 9267 (what parsers got wrong).
 */
import { readU16, readU32, writeU16, writeU32 } from '../../wire/bytes.js';

export const DNS_HEADER = 12;
export const TYPE = { A: 1, CNAME: 5, SOA: 6, PTR: 12, AAAA: 28, OPT: 41, SVCB: 64, HTTPS: 65 } as const;
export const CLASS_IN = 1;
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;

export const FLAG_QR = 0x8000;
export const FLAG_TC = 0x0200;
export const FLAG_RD = 0x0100;
export const FLAG_RA = 0x0080;
export const FLAG_AD = 0x0020;
export const FLAG_CD = 0x0010;
const OPCODE = 0x7800;
/** EDNS: the answer may carry signatures (RFC 3225). */
const DNSSEC_OK = 0x8000;

/** Fits every path unfragmented (DNS flag day 2020). */
export const EDNS_SIZE = 1232;
/** Without EDNS (RFC 1035 §4.2.1). */
export const PLAIN_SIZE = 512;
/** Bytes of the OPT record written here. */
export const OPT_LENGTH = 11;
const NAME_MAX = 255;
const LABEL_MAX = 63;
/** Records of one message that are read; a message that is full of the smallest ones has 5,957. */
const RECORDS_MAX = 1024;

export interface DnsQuestion {
  readonly name: string;
  readonly type: number;
  readonly class: number;
}

export interface DnsRecord {
  readonly section: 'answer' | 'authority' | 'additional';
  readonly name: string;
  readonly type: number;
  readonly class: number;
  /** Seconds. */
  readonly ttl: number;
  /** Where the record begins, its TTL and its data, from the beginning of the message. */
  readonly at: number;
  readonly ttlAt: number;
  readonly dataAt: number;
  readonly dataLength: number;
}

export interface DnsMessage {
  readonly id: number;
  readonly flags: number;
  readonly rcode: number;
  /** Undefined when there is not exactly one. */
  readonly question: DnsQuestion | undefined;
  /** Where the question ends; the header's end when there is none. */
  readonly questionEnd: number;
  readonly records: readonly DnsRecord[];
  /** From the OPT record: payload size and whether signatures are wanted. */
  readonly edns: { readonly size: number; readonly dnssec: boolean; readonly at: number } | undefined;
}

/** Reads a message; undefined when anything in it disagrees with its length. Bytes behind the last record are ignored. */
export function readMessage(bytes: Uint8Array): DnsMessage | undefined {
  if (bytes.length < DNS_HEADER) return undefined;
  const flags = readU16(bytes, 2);
  const questions = readU16(bytes, 4);
  const counts = [readU16(bytes, 6), readU16(bytes, 8), readU16(bytes, 10)] as const;
  if (questions > 1 || counts[0] + counts[1] + counts[2] > RECORDS_MAX) return undefined;
  let at = DNS_HEADER;
  let question: DnsQuestion | undefined;
  if (questions === 1) {
    const name = readName(bytes, at);
    if (name === undefined || name.next + 4 > bytes.length) return undefined;
    question = { name: name.text, type: readU16(bytes, name.next), class: readU16(bytes, name.next + 2) };
    at = name.next + 4;
  }
  const questionEnd = at;
  const records: DnsRecord[] = [];
  let edns: DnsMessage['edns'];
  for (const [i, section] of (['answer', 'authority', 'additional'] as const).entries()) {
    for (let n = counts[i]!; n > 0; n--) {
      const record = readRecord(bytes, at, section);
      if (record === undefined) return undefined;
      at = record.dataAt + record.dataLength;
      if (record.type !== TYPE.OPT) records.push(record);
      else if (edns !== undefined) return undefined;
      else edns = { size: record.class, dnssec: (record.ttl & DNSSEC_OK) !== 0, at: record.at };
    }
  }
  return { id: readU16(bytes, 0), flags, rcode: flags & 15, question, questionEnd, records, edns };
}

/** Whether the message is a plain query: not an answer, opcode 0. */
export function isQuery(message: DnsMessage): boolean {
  return (message.flags & (FLAG_QR | OPCODE)) === 0;
}

function readRecord(bytes: Uint8Array, at: number, section: DnsRecord['section']): DnsRecord | undefined {
  const name = readName(bytes, at);
  if (name === undefined || name.next + 10 > bytes.length) return undefined;
  const ttlAt = name.next + 4;
  const type = readU16(bytes, name.next);
  const ttl = readU32(bytes, ttlAt);
  const dataAt = ttlAt + 6;
  const dataLength = readU16(bytes, ttlAt + 4);
  if (dataAt + dataLength > bytes.length) return undefined;
  return {
    section,
    name: name.text,
    type,
    class: readU16(bytes, name.next + 2),
    // RFC 2181 §8: with the top bit set it is 0. (OPT keeps flags there.)
    ttl: ttl > 0x7fffffff && type !== TYPE.OPT ? 0 : ttl,
    at,
    ttlAt,
    dataAt,
    dataLength,
  };
}

/**
 * The name at `at` and where what follows it begins. A pointer must point before the part it stands in, so there are no
 * loops; the whole is at most 255 bytes.
 */
export function readName(bytes: Uint8Array, start: number): { text: string; next: number } | undefined {
  let text = '';
  let length = 1;
  let at = start;
  let lowest = start;
  let next: number | undefined;
  for (;;) {
    const size = bytes[at];
    if (size === undefined) return undefined;
    if (size === 0) return { text, next: next ?? at + 1 };
    if (size >= 0xc0) {
      if (at + 1 >= bytes.length) return undefined;
      const target = readU16(bytes, at) & 0x3fff;
      if (target >= lowest || target < DNS_HEADER) return undefined;
      next ??= at + 2;
      lowest = target;
      at = target;
      continue;
    }
    length += size + 1;
    if (size > LABEL_MAX || length > NAME_MAX || at + 1 + size > bytes.length) return undefined;
    if (text !== '') text += '.';
    for (let i = at + 1; i <= at + size; i++) text += characterOf(bytes[i]!);
    at += 1 + size;
  }
}

function characterOf(byte: number): string {
  if (byte >= 0x41 && byte <= 0x5a) return String.fromCharCode(byte + 32);
  const isPlain = (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || byte === 0x2d || byte === 0x5f;
  return isPlain ? String.fromCharCode(byte) : `\\${String(byte).padStart(3, '0')}`;
}

/** The bytes of a name as `readName` gives it; undefined when it is too long or has an empty label. */
export function writeName(text: string): Uint8Array | undefined {
  const out: number[] = [];
  if (text !== '') {
    for (const label of text.split('.')) {
      const bytes: number[] = [];
      for (let i = 0; i < label.length; i++) {
        const byte = label[i] === '\\' ? Number(label.slice(i + 1, i + 4)) : label.charCodeAt(i);
        if (label[i] === '\\') i += 3;
        if (!(byte <= 255)) return undefined;
        bytes.push(byte);
      }
      if (bytes.length === 0 || bytes.length > LABEL_MAX) return undefined;
      out.push(bytes.length, ...bytes);
    }
  }
  out.push(0);
  return out.length > NAME_MAX ? undefined : Uint8Array.from(out);
}

export interface QueryShape {
  readonly id: number;
  readonly name: Uint8Array;
  readonly type: number;
  readonly checkingDisabled: boolean;
  /** Undefined: no EDNS at all. */
  readonly dnssec: boolean | undefined;
}

/** A recursive query for one name in class IN. */
export function writeQuery(shape: QueryShape): Uint8Array {
  const end = DNS_HEADER + shape.name.length + 4;
  const bytes = new Uint8Array(end + (shape.dnssec === undefined ? 0 : OPT_LENGTH));
  writeU16(bytes, 0, shape.id);
  writeU16(bytes, 2, FLAG_RD | (shape.checkingDisabled ? FLAG_CD : 0));
  writeU16(bytes, 4, 1);
  bytes.set(shape.name, DNS_HEADER);
  writeU16(bytes, end - 4, shape.type);
  writeU16(bytes, end - 2, CLASS_IN);
  if (shape.dnssec !== undefined) {
    writeU16(bytes, 10, 1);
    writeOpt(bytes, end, shape.dnssec);
  }
  return bytes;
}

/** Writes an OPT record of 11 bytes. */
export function writeOpt(bytes: Uint8Array, offset: number, dnssec: boolean): void {
  bytes[offset] = 0;
  writeU16(bytes, offset + 1, TYPE.OPT);
  writeU16(bytes, offset + 3, EDNS_SIZE);
  writeU32(bytes, offset + 5, dnssec ? DNSSEC_OK : 0);
  writeU16(bytes, offset + 9, 0);
}

export interface PlainRecord {
  readonly type: number;
  /** Seconds. */
  readonly ttl: number;
  readonly data: Uint8Array;
}

/** An answer with the question of `query`, whose `questionEnd` is given, and records for its name; flags and id are set later. */
export function writeAnswer(
  query: Uint8Array,
  questionEnd: number,
  rcode: number,
  records: readonly PlainRecord[],
): Uint8Array {
  const size = records.reduce((sum, record) => sum + 12 + record.data.length, questionEnd);
  const bytes = new Uint8Array(size);
  bytes.set(query.subarray(0, questionEnd));
  writeU16(bytes, 2, FLAG_QR | rcode);
  writeU16(bytes, 4, questionEnd > DNS_HEADER ? 1 : 0);
  writeU16(bytes, 6, records.length);
  writeU32(bytes, 8, 0);
  let at = questionEnd;
  for (const record of records) {
    writeU16(bytes, at, 0xc000 | DNS_HEADER);
    writeU16(bytes, at + 2, record.type);
    writeU16(bytes, at + 4, CLASS_IN);
    writeU32(bytes, at + 6, record.ttl);
    writeU16(bytes, at + 10, record.data.length);
    bytes.set(record.data, at + 12);
    at += 12 + record.data.length;
  }
  return bytes;
}

/** The message without its OPT record and whatever follows that: additional data nobody depends on. */
export function withoutOpt(bytes: Uint8Array, message: DnsMessage): Uint8Array {
  if (message.edns === undefined) return bytes.slice();
  const at = message.edns.at;
  const copy = bytes.slice(0, at);
  writeU16(copy, 10, message.records.filter((record) => record.section === 'additional' && record.at < at).length);
  return copy;
}
