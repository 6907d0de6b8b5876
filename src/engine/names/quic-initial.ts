/**
 * The ClientHello in a QUIC client's Initial packets, which anybody on the path can open: their keys come from a salt of the version
 * and the destination connection id of the first one.
 *
 *   1 F TT rr pp · version u32 · dcid<u8> · scid<u8> · token<varint> · length varint · packet number (pp + 1 bytes) · sealed
 *   └ masked ──┘                                                                     └ masked ────────────────┘
 *
 * A datagram may hold several packets, a hello several packets and datagrams, its CRYPTO frames any order. After a Retry the keys
 * come from the id the server chose; after version negotiation from another salt; an id that only changes leaves them.
 * So: the keys in use are tried first, then those of this packet's version and id, a few times at most.
 *
 * RFC 9000 §12.2, §17.2, §19; RFC 9001 §5.2–5.4; RFC 9369 §3 (version 2); RFC 8999.
 */
import type { Crypto } from '../../base/crypto.js';
import { readU16, readU32 } from '../../wire/bytes.js';
import { type ClientHello, helloLength, type Progress, parseClientHello } from './client-hello.js';
import { CryptoStream } from './crypto-stream.js';

interface Version {
  readonly salt: Uint8Array;
  readonly prefix: string;
  /** Two bits of the first byte. */
  readonly initial: number;
  readonly retry: number;
}

const VERSIONS: ReadonlyMap<number, Version> = new Map([
  // RFC 9001 §5.2; RFC 9000 §17.2.
  [1, { salt: hex('38762cf7f55934b34d179ae6a4c80cadccbb7f0a'), prefix: 'quic ', initial: 0, retry: 3 }],
  // RFC 9369 §3.
  [0x6b3343cf, { salt: hex('0dede3def700a6db819381be6e269dcbf9bd2ed9'), prefix: 'quicv2 ', initial: 1, retry: 0 }],
]);

/** Initial packets of one flow that are looked at; clients send their hello in one to four. */
const PACKETS_MAX = 10;
/** Datagrams of one flow that are looked at: 0-RTT and lost packets may lie between. */
const DATAGRAMS_MAX = 64;
/** Key derivations of one flow: the first, one after a Retry, one after version negotiation, and twice in doubt. */
const DERIVATIONS_MAX = 6;
/** RFC 9000 §17.2. */
const CONNECTION_ID_MAX = 20;
/** RFC 9001 §5.4.2: where the sample begins after the packet number, and its length. */
const SAMPLE_AT = 4;
const SAMPLE = 16;
const TAG = 16;

const FRAME_PADDING = 0;
const FRAME_PING = 1;
const FRAME_ACK = 2;
const FRAME_ACK_ECN = 3;
const FRAME_CRYPTO = 6;

interface Keys {
  readonly version: number;
  readonly connectionId: Uint8Array;
  readonly key: Uint8Array;
  readonly iv: Uint8Array;
  readonly headerKey: Uint8Array;
}

/** Keys of a client's Initial packets. */
export function initialKeys(crypto: Crypto, version: number, connectionId: Uint8Array): Keys | undefined {
  const known = VERSIONS.get(version);
  if (known === undefined) return undefined;
  const initial = crypto.hkdfExtractSha256(known.salt, connectionId);
  const client = expandLabel(crypto, initial, 'client in', 32);
  return {
    version,
    connectionId,
    key: expandLabel(crypto, client, `${known.prefix}key`, 16),
    iv: expandLabel(crypto, client, `${known.prefix}iv`, 12),
    headerKey: expandLabel(crypto, client, `${known.prefix}hp`, 16),
  };
}

/** Whether a datagram begins with a long header of a version whose Initial packets can be opened. */
export function looksLikeInitial(bytes: Uint8Array, offset: number, length: number): boolean {
  if (length < 7 || bytes[offset]! < 0x80) return false;
  const version = VERSIONS.get(readU32(bytes, offset + 1));
  return version !== undefined && ((bytes[offset]! >>> 4) & 3) === version.initial;
}

/** Follows the client's datagrams of one UDP flow until its hello is whole. */
export class QuicInitialReader {
  hello: ClientHello | undefined;
  /** Of the packets that could be opened. */
  version: number | undefined;
  readonly #crypto: Crypto;
  #progress: Progress = 'more';
  #packets = 0;
  #datagrams = 0;
  /** Of every version and id that was tried. */
  readonly #derived: Keys[] = [];
  /** Those of the last packet that could be opened. */
  #keys: Keys | undefined;
  /** The id of the very first Initial: version negotiation inside a connection keeps it (RFC 9369 §4). */
  #firstId: Uint8Array | undefined;
  #stream = new CryptoStream();

  constructor(crypto: Crypto) {
    this.#crypto = crypto;
  }

  get progress(): Progress {
    return this.#progress;
  }

  /** Bytes kept. */
  get held(): number {
    return this.#stream.bytes.length;
  }

  /** The next datagram of the client. Whatever it holds, nothing throws, and it is left as it is. */
  feed(bytes: Uint8Array, offset: number, length: number): Progress {
    const end = offset + length;
    let at = offset;
    while (at < end && this.#progress === 'more') {
      const next = this.#packet(bytes, at, end);
      if (next === undefined) break;
      at = next;
    }
    // Nothing of QUIC in the first datagram: it is something else.
    if (this.#progress === 'more' && (this.#packets === 0 || ++this.#datagrams >= DATAGRAMS_MAX)) this.#end('none');
    return this.#progress;
  }

  /** One packet of a datagram; returns where the next one begins, undefined when the rest says nothing. */
  #packet(bytes: Uint8Array, start: number, end: number): number | undefined {
    if (end - start < 7 || bytes[start]! < 0x80) return undefined;
    const versionNumber = readU32(bytes, start + 1);
    const version = VERSIONS.get(versionNumber);
    if (version === undefined) return this.#skipUnknown(versionNumber);
    let at = start + 5;
    const idLength = bytes[at++]!;
    const idAt = at;
    at += idLength;
    if (idLength > CONNECTION_ID_MAX || at >= end) return undefined;
    at += 1 + bytes[at]!;
    const type = (bytes[start]! >>> 4) & 3;
    if (type === version.retry) return undefined;
    if (type === version.initial) {
      const token = readVarint(bytes, at, end);
      if (token === undefined) return undefined;
      at = token.next + token.value;
    }
    const sealed = readVarint(bytes, at, end);
    if (sealed === undefined || sealed.value > end - sealed.next) return undefined;
    const next = sealed.next + sealed.value;
    if (type === version.initial) {
      if (++this.#packets > PACKETS_MAX) this.#end('none');
      else this.#open(bytes, start, sealed.next, next, versionNumber, bytes.slice(idAt, idAt + idLength));
    }
    return next;
  }

  /** A version that is not known may still be negotiated away; version 0 is a server's answer. */
  #skipUnknown(version: number): undefined {
    if (version !== 0 && ++this.#packets > PACKETS_MAX) this.#end('none');
    return undefined;
  }

  #open(bytes: Uint8Array, start: number, numberAt: number, end: number, version: number, id: Uint8Array): void {
    if (end - numberAt < SAMPLE_AT + SAMPLE) return;
    this.#firstId ??= id;
    const current = this.#keys;
    let plain: Uint8Array | undefined;
    if (current?.version === version) plain = this.#decrypt(current, bytes, start, numberAt, end);
    if (plain === undefined) plain = this.#tryIds(bytes, start, numberAt, end, version, id);
    if (plain === undefined) return;
    this.version = version;
    this.#frames(plain);
  }

  #tryIds(
    bytes: Uint8Array,
    start: number,
    numberAt: number,
    end: number,
    version: number,
    id: Uint8Array,
  ): Uint8Array | undefined {
    const current = this.#keys;
    const first = this.#firstId!;
    for (const candidate of this.#crypto.equal(first, id) ? [id] : [first, id]) {
      const keys = this.#keysOf(version, candidate);
      if (keys === undefined || keys === current) continue;
      const plain = this.#decrypt(keys, bytes, start, numberAt, end);
      if (plain === undefined) continue;
      this.#keys = keys;
      // Another key means that the client began again, and sends its hello from the start.
      if (current !== undefined) this.#stream = new CryptoStream();
      return plain;
    }
    return undefined;
  }

  /** The keys of an id, derived when it is first asked about; undefined when there were too many others. */
  #keysOf(version: number, id: Uint8Array): Keys | undefined {
    const derived = this.#derived;
    const known = derived.find((keys) => keys.version === version && this.#crypto.equal(keys.connectionId, id));
    if (known !== undefined || derived.length >= DERIVATIONS_MAX) return known;
    const keys = initialKeys(this.#crypto, version, id)!;
    derived.push(keys);
    return keys;
  }

  #decrypt(keys: Keys, bytes: Uint8Array, start: number, numberAt: number, end: number): Uint8Array | undefined {
    const sampleAt = numberAt + SAMPLE_AT;
    const mask = this.#crypto.aes128EcbBlock(keys.headerKey, bytes.subarray(sampleAt, sampleAt + SAMPLE));
    const first = bytes[start]! ^ (mask[0]! & 0x0f);
    const numberLength = (first & 3) + 1;
    const headerEnd = numberAt + numberLength;
    if (end - headerEnd < TAG) return undefined;
    const header = bytes.slice(start, headerEnd);
    header[0] = first;
    const nonce = keys.iv.slice();
    for (let i = 0; i < numberLength; i++) {
      const at = numberAt - start + i;
      header[at]! ^= mask[1 + i]!;
      nonce[nonce.length - numberLength + i]! ^= header[at]!;
    }
    return this.#crypto.aes128GcmOpen(keys.key, nonce, header, bytes.subarray(headerEnd, end));
  }

  /** RFC 9000 §12.4, table 3: the frames an Initial may hold. A connection that closes tells nothing more. */
  #frames(plain: Uint8Array): void {
    const end = plain.length;
    for (let at = 0; at < end && this.#progress === 'more'; ) {
      const type = plain[at++]!;
      if (type === FRAME_PADDING || type === FRAME_PING) continue;
      const next =
        type === FRAME_CRYPTO
          ? this.#cryptoFrame(plain, at, end)
          : type === FRAME_ACK || type === FRAME_ACK_ECN
            ? skipAck(plain, at, end, type === FRAME_ACK_ECN)
            : undefined;
      if (next === undefined) return;
      at = next;
    }
  }

  #cryptoFrame(plain: Uint8Array, start: number, end: number): number | undefined {
    const offset = readVarint(plain, start, end);
    const length = offset === undefined ? undefined : readVarint(plain, offset.next, end);
    if (offset === undefined || length === undefined || length.value > end - length.next) return undefined;
    if (!this.#stream.insert(offset.value, plain, length.next, length.value)) this.#end('none');
    else this.#complete();
    return length.next + length.value;
  }

  #complete(): void {
    const { bytes, prefix } = this.#stream;
    if (prefix < 4) return;
    const whole = helloLength(bytes, 0);
    if (whole !== undefined && prefix < whole) return;
    this.hello = whole === undefined ? undefined : parseClientHello(bytes, 0, whole);
    this.#end(this.hello === undefined ? 'none' : 'hello');
  }

  #end(progress: Progress): void {
    this.#progress = progress;
    this.#stream = new CryptoStream();
  }
}

/** RFC 8446 §7.1, RFC 9001 §5.1: HKDF-Expand-Label with an empty context. */
function expandLabel(crypto: Crypto, secret: Uint8Array, label: string, length: number): Uint8Array {
  const name = Uint8Array.from(`tls13 ${label}`, (character) => character.charCodeAt(0));
  const info = new Uint8Array(4 + name.length);
  info[1] = length;
  info[2] = name.length;
  info.set(name, 3);
  return crypto.hkdfExpandSha256(secret, info, length);
}

/** A variable-length integer (RFC 9000 §16) below 2^32; undefined when it is cut off or larger. */
function readVarint(bytes: Uint8Array, at: number, end: number): { value: number; next: number } | undefined {
  if (at >= end) return undefined;
  const size = 1 << (bytes[at]! >>> 6);
  if (at + size > end) return undefined;
  const first = bytes[at]! & 0x3f;
  if (size === 1) return { value: first, next: at + 1 };
  if (size === 2) return { value: (first << 8) | bytes[at + 1]!, next: at + 2 };
  if (size === 4) return { value: first * 0x1000000 + (bytes[at + 1]! << 16) + readU16(bytes, at + 2), next: at + 4 };
  if (first !== 0 || (bytes[at + 1]! | bytes[at + 2]! | bytes[at + 3]!) !== 0) return undefined;
  return { value: readU32(bytes, at + 4), next: at + 8 };
}

/** RFC 9000 §19.3: largest, delay, range count, first range, then pairs; with ECN three counts more. */
function skipAck(bytes: Uint8Array, start: number, end: number, hasEcn: boolean): number | undefined {
  let at = start;
  let ranges = 0;
  for (let field = 0; field < 4; field++) {
    const value = readVarint(bytes, at, end);
    if (value === undefined) return undefined;
    if (field === 2) ranges = value.value;
    at = value.next;
  }
  for (let left = 2 * ranges + (hasEcn ? 3 : 0); left > 0; left--) {
    const value = readVarint(bytes, at, end);
    if (value === undefined) return undefined;
    at = value.next;
  }
  return at;
}

function hex(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g)!, (pair) => Number.parseInt(pair, 16));
}
