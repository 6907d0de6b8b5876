/**
 * What a TLS ClientHello tells in the clear: server name, application protocols, versions, and whether another one is hidden in it.
 *
 *   record     22 · version u16 · length u16 · piece of a handshake message
 *   handshake  01 · length u24 · version u16 · random[32] · session id<u8> · suites<u16> · compression<u8> · extensions<u16>
 *   extension  type u16 · data<u16>     0 server name, 16 ALPN, 43 versions, 0xfe0d encrypted ClientHello
 *
 * A message may be cut over any number of records, and a record over any number of TCP segments (post-quantum key shares make
 * that the rule). With 0xfe0d the name may be the public one that stands in front of the real one; browsers also send that
 * extension without meaning, so it is a flag and no verdict. RFC 8446 §4.1.2, §5.1; RFC 6066 §3; RFC 7301; RFC 9849.
 */
import { readU16 } from '../../wire/bytes.js';
import { hostName } from './host-name.js';

/** Bytes of one handshake message that are looked at. */
export const HELLO_MAX = 65_536;
/** RFC 8446 §5.1: records hold at most 2^14 bytes in the clear. */
const RECORD_MAX = 16_384;
const RECORD_HEADER = 5;
const HANDSHAKE_HEADER = 4;
/** Empty and one-byte records are legal; this many before the message is whole are an attack on our patience. */
const RECORDS_MAX = 1024;
/** Protocols kept of one hello. */
const PROTOCOLS_MAX = 32;
const HANDSHAKE = 22;
const CLIENT_HELLO = 1;

const SERVER_NAME = 0;
const ALPN = 16;
const SUPPORTED_VERSIONS = 43;
const ENCRYPTED_CLIENT_HELLO = 0xfe0d;

export interface ClientHello {
  /** In the form of `hostName`; undefined when there is none or it is not a name. */
  readonly serverName: string | undefined;
  readonly protocols: readonly string[];
  /** Versions offered, for example 0x0304; the legacy field's when the extension is absent. */
  readonly versions: readonly number[];
  /** An encrypted ClientHello (or what looks like one) is inside: `serverName` may be the outer name only. */
  readonly encrypted: boolean;
}

/** `more`: not whole yet. `hello`: done. `none`: there will be no ClientHello. */
export type Progress = 'more' | 'hello' | 'none';

/** The handshake message header at `offset`: bytes of the whole message with its header; undefined when it is no ClientHello. */
export function helloLength(bytes: Uint8Array, offset: number): number | undefined {
  if (bytes[offset] !== CLIENT_HELLO || bytes[offset + 1] !== 0) return undefined;
  return HANDSHAKE_HEADER + readU16(bytes, offset + 2);
}

/** A cursor that never leaves [at, end): after a read too far `failed` is set and everything reads as empty. */
class Cursor {
  failed = false;

  constructor(
    readonly bytes: Uint8Array,
    public at: number,
    public end: number,
  ) {}

  get left(): number {
    return this.end - this.at;
  }

  advance(length: number): number {
    const start = this.at;
    if (length > this.end - start) {
      this.failed = true;
      this.at = this.end;
      return start;
    }
    this.at = start + length;
    return start;
  }

  u8(): number {
    const at = this.advance(1);
    return this.failed ? 0 : this.bytes[at]!;
  }

  u16(): number {
    const at = this.advance(2);
    return this.failed ? 0 : readU16(this.bytes, at);
  }

  /** The next `length` bytes as a cursor of their own. */
  part(length: number): Cursor {
    const start = this.advance(length);
    return new Cursor(this.bytes, start, this.failed ? start : start + length);
  }
}

/**
 * Reads one whole ClientHello message (header included) at `offset`. Undefined when it is malformed: a length that disagrees with
 * another one, or an extension twice (RFC 8446 §4.2), where two readers could see two names.
 */
export function parseClientHello(bytes: Uint8Array, offset: number, length: number): ClientHello | undefined {
  if (length < HANDSHAKE_HEADER || helloLength(bytes, offset) !== length) return undefined;
  const body = new Cursor(bytes, offset + HANDSHAKE_HEADER, offset + length);
  const legacyVersion = body.u16();
  body.advance(32);
  body.advance(body.u8());
  body.advance(body.u16());
  body.advance(body.u8());
  let serverName: string | undefined;
  let protocols: string[] = [];
  let versions: number[] | undefined;
  let encrypted = false;
  // Before TLS 1.3 extensions may be absent altogether.
  if (body.left > 0) {
    const extensions = body.part(body.u16());
    const seen = new Set<number>();
    while (extensions.left > 0) {
      const type = extensions.u16();
      const data = extensions.part(extensions.u16());
      if (extensions.failed || seen.has(type)) return undefined;
      seen.add(type);
      if (type === SERVER_NAME) serverName = readServerName(data);
      else if (type === ALPN) protocols = readProtocols(data);
      else if (type === SUPPORTED_VERSIONS) versions = readVersions(data);
      else if (type === ENCRYPTED_CLIENT_HELLO) encrypted = true;
      if (data.failed) return undefined;
    }
  }
  if (body.failed || body.left > 0) return undefined;
  return { serverName, protocols, versions: versions ?? [legacyVersion], encrypted };
}

/** RFC 6066 §3: a list with one entry of type host_name. More than one name says nothing. */
function readServerName(data: Cursor): string | undefined {
  const list = data.part(data.u16());
  const type = list.u8();
  const name = list.part(list.u16());
  data.failed ||= list.failed;
  if (data.failed || type !== 0 || list.left > 0 || name.left === 0) return undefined;
  const text = ascii(name);
  return text.endsWith('.') ? undefined : hostName(text);
}

function readProtocols(data: Cursor): string[] {
  const list = data.part(data.u16());
  const protocols: string[] = [];
  while (list.left > 0 && protocols.length < PROTOCOLS_MAX) protocols.push(ascii(list.part(list.u8())));
  data.failed ||= list.failed;
  return protocols;
}

function readVersions(data: Cursor): number[] {
  const list = data.part(data.u8());
  const versions: number[] = [];
  while (list.left > 0) versions.push(list.u16());
  data.failed ||= list.failed;
  return versions;
}

/** Bytes beyond ASCII become `?`, which no name contains. */
function ascii(part: Cursor): string {
  let text = '';
  for (let at = part.at; at < part.end; at++) {
    const byte = part.bytes[at]!;
    text += byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '?';
  }
  return text;
}

/** Finds the ClientHello at the beginning of a TCP stream, whatever pieces it comes in. */
export class ClientHelloReader {
  hello: ClientHello | undefined;
  #progress: Progress = 'more';
  readonly #header = new Uint8Array(RECORD_HEADER);
  #headerLength = 0;
  /** Bytes of the current record still to come. */
  #recordLeft = 0;
  #records = 0;
  #message = new Uint8Array(0);
  #length = 0;

  get progress(): Progress {
    return this.#progress;
  }

  /** Bytes kept. */
  get held(): number {
    return this.#message.length;
  }

  /** The next bytes of the stream; nothing is kept of them once the answer is not `more`. */
  feed(bytes: Uint8Array, offset: number, length: number): Progress {
    const end = offset + length;
    for (let at = offset; at < end && this.#progress === 'more'; ) {
      if (this.#recordLeft === 0) {
        at = this.#feedHeader(bytes, at, end);
        continue;
      }
      const n = Math.min(end - at, this.#recordLeft);
      this.#append(bytes, at, n);
      this.#recordLeft -= n;
      at += n;
    }
    return this.#progress;
  }

  #feedHeader(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    const header = this.#header;
    while (at < end && this.#headerLength < RECORD_HEADER) header[this.#headerLength++] = bytes[at++]!;
    // What is no TLS is told by its first bytes, so that nothing of it is kept.
    if (header[0] !== HANDSHAKE || (this.#headerLength > 1 && header[1] !== 3)) this.#end('none');
    else if (this.#headerLength === RECORD_HEADER) {
      this.#headerLength = 0;
      this.#recordLeft = readU16(header, 3);
      // RFC 8446 §5.1: no empty handshake record.
      if (this.#recordLeft === 0 || this.#recordLeft > RECORD_MAX || ++this.#records > RECORDS_MAX) this.#end('none');
    }
    return at;
  }

  #append(bytes: Uint8Array, offset: number, length: number): void {
    const total = this.#length + length;
    if (total > this.#message.length) {
      const larger = new Uint8Array(Math.min(HELLO_MAX, Math.max(2048, 2 * this.#message.length, total)));
      larger.set(this.#message.subarray(0, this.#length));
      this.#message = larger;
    }
    const room = Math.min(length, this.#message.length - this.#length);
    this.#message.set(bytes.subarray(offset, offset + room), this.#length);
    this.#length += room;
    if (this.#message[0] === CLIENT_HELLO && this.#length < HANDSHAKE_HEADER) return;
    const whole = helloLength(this.#message, 0);
    if (whole !== undefined && whole <= HELLO_MAX) {
      if (this.#length < whole) return;
      this.hello = parseClientHello(this.#message, 0, whole);
    }
    this.#end(this.hello === undefined ? 'none' : 'hello');
  }

  #end(progress: Progress): void {
    this.#progress = progress;
    this.#message = new Uint8Array(0);
    this.#length = 0;
  }
}
