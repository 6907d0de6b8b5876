/**
 * QUIC probes: a first packet in a version that nobody speaks, which a server must answer with the versions it does.
 *
 *   probe   1 1 xxxxxx · version 0x?a?a?a?a · 8 · destination id · 8 · source id · random, 1200 bytes in all
 *   answer  1 xxxxxxx  · version 0          · 8 · our source id  · 8 · our destination id · versions
 *
 * The ids are random and tell which probe was answered. RFC 9000 §6.1, §14.1, §15, §17.2.1; RFC 8999 §6.
 */
import type { Entropy } from '../../base/entropy.js';
import { readU32, writeU32 } from '../../wire/bytes.js';
import type { Probe } from './probe.js';
import type { DatagramProtocol } from './udp.js';

/** A datagram that opens a connection is at least this long (RFC 9000 §14.1). */
const DATAGRAM = 1200;
/** Reserved to make servers negotiate (RFC 9000 §15). */
const GREASED_VERSION = 0x1a2a3a4a;
const ID_BYTES = 8;
const DESTINATION_ID = 6;
const SOURCE_ID = DESTINATION_ID + ID_BYTES + 1;
const HEADER = SOURCE_ID + ID_BYTES;
const ANSWER_MIN = HEADER + 4;

export class QuicDatagrams implements DatagramProtocol {
  readonly usual = DATAGRAM;
  readonly least = HEADER;
  readonly #entropy: Entropy;
  readonly #content = new Uint8Array(DATAGRAM - HEADER);
  readonly #ids = new Uint8Array(2 * ID_BYTES);
  /** By the first word of the destination id; the rest is compared. */
  readonly #probes = new Map<number, { readonly probe: Probe; readonly ids: Uint8Array }>();

  constructor(entropy: Entropy) {
    this.#entropy = entropy;
    entropy.fill(this.#content);
  }

  writePayload(bytes: Uint8Array, at: number, length: number, probe: Probe): void {
    this.#entropy.fill(this.#ids);
    bytes.fill(0, at, at + length);
    bytes[at] = 0xc0;
    writeU32(bytes, at + 1, GREASED_VERSION);
    bytes[at + 5] = ID_BYTES;
    bytes.set(this.#ids.subarray(0, ID_BYTES), at + DESTINATION_ID);
    bytes[at + SOURCE_ID - 1] = ID_BYTES;
    bytes.set(this.#ids.subarray(ID_BYTES), at + SOURCE_ID);
    bytes.set(this.#content.subarray(0, length - HEADER), at + HEADER);
    this.#probes.set(readU32(this.#ids, 0), { probe, ids: this.#ids.slice() });
  }

  matchPayload(bytes: Uint8Array, at: number, length: number): Probe | undefined {
    if (length < ANSWER_MIN || (bytes[at]! & 0x80) === 0 || readU32(bytes, at + 1) !== 0) return undefined;
    if (bytes[at + 5] !== ID_BYTES || bytes[at + SOURCE_ID - 1] !== ID_BYTES) return undefined;
    // Our ids come back exchanged.
    const sent = this.#probes.get(readU32(bytes, at + SOURCE_ID));
    if (sent === undefined) return undefined;
    for (let i = 0; i < ID_BYTES; i++) {
      if (bytes[at + SOURCE_ID + i] !== sent.ids[i] || bytes[at + DESTINATION_ID + i] !== sent.ids[ID_BYTES + i]) {
        return undefined;
      }
    }
    return sent.probe;
  }
}
