/** ClientHellos and QUIC Initial packets for tests, built byte by byte with node:crypto; nothing here comes from src/. */
import { createCipheriv, createHmac } from 'node:crypto';

export const u16 = (n: number): number[] => [n >>> 8, n & 255];
const vector8 = (bytes: readonly number[]): number[] => [bytes.length, ...bytes];
const vector16 = (bytes: readonly number[]): number[] => [...u16(bytes.length), ...bytes];
const text = (value: string): number[] => [...Buffer.from(value, 'latin1')];

export interface HelloShape {
  readonly name?: string;
  readonly protocols?: readonly string[];
  readonly versions?: readonly number[];
  readonly encrypted?: boolean;
  /** Bytes of a key share: post-quantum ones make a hello longer than a segment. */
  readonly keyShare?: number;
  readonly extra?: readonly number[];
}

export const extension = (type: number, data: readonly number[]): number[] => [...u16(type), ...vector16(data)];
export const serverName = (name: string): number[] => extension(0, vector16([0, ...vector16(text(name))]));

/** A handshake message with its header. */
export function clientHello(shape: HelloShape): Uint8Array {
  const extensions: number[] = [];
  if (shape.keyShare !== undefined) extensions.push(...extension(51, new Array<number>(shape.keyShare).fill(0xaa)));
  if (shape.name !== undefined) extensions.push(...serverName(shape.name));
  if (shape.protocols !== undefined) {
    extensions.push(...extension(16, vector16(shape.protocols.flatMap((p) => vector8(text(p))))));
  }
  if (shape.versions !== undefined) extensions.push(...extension(43, vector8(shape.versions.flatMap(u16))));
  if (shape.encrypted === true) extensions.push(...extension(0xfe0d, [0, 0, 1, 0, 1, 7, 0, 0]));
  extensions.push(...(shape.extra ?? []));
  const body = [
    ...u16(0x0303),
    ...new Array<number>(32).fill(9),
    ...vector8(new Array<number>(32).fill(4)),
    ...vector16([0x13, 0x01, 0x13, 0x02]),
    ...vector8([0]),
    ...vector16(extensions),
  ];
  return Uint8Array.from([1, body.length >>> 16, ...u16(body.length & 0xffff), ...body]);
}

/** The message in records of at most `size` bytes. */
export function records(message: Uint8Array, size = 16_384): Uint8Array {
  const out: number[] = [];
  for (let at = 0; at < message.length; at += size) {
    const part = message.subarray(at, at + size);
    out.push(22, 3, 1, ...u16(part.length), ...part);
  }
  return Uint8Array.from(out);
}

export const hex = (value: string): Uint8Array => Uint8Array.from(Buffer.from(value.replaceAll(/\s/g, ''), 'hex'));

const SALTS = {
  1: '38762cf7f55934b34d179ae6a4c80cadccbb7f0a',
  [0x6b3343cf]: '0dede3def700a6db819381be6e269dcbf9bd2ed9',
} as const;
export const V1 = 1;
export const V2 = 0x6b3343cf;

function label(secret: Uint8Array, name: string, length: number): Uint8Array {
  // node:crypto has no expand-only call: RFC 5869 §2.3 for one block, by HMAC.
  const info = Uint8Array.from([...u16(length), ...vector8(text(`tls13 ${name}`)), 0]);
  return createHmac('sha256', secret).update(info).update(Uint8Array.of(1)).digest().subarray(0, length);
}

export function clientKeys(version: 1 | typeof V2, id: Uint8Array) {
  const initial = createHmac('sha256', hex(SALTS[version])).update(id).digest();
  const client = label(initial, 'client in', 32);
  const prefix = version === 1 ? 'quic ' : 'quicv2 ';
  return {
    key: label(client, `${prefix}key`, 16),
    iv: label(client, `${prefix}iv`, 12),
    hp: label(client, `${prefix}hp`, 16),
  };
}

export interface InitialShape {
  readonly version?: 1 | typeof V2;
  readonly id: Uint8Array;
  /** The id the keys come from; default `id`. */
  readonly keyId?: Uint8Array;
  readonly number?: number;
  readonly numberLength?: 1 | 2 | 3 | 4;
  readonly token?: Uint8Array;
  readonly payload: Uint8Array;
  /** Instead of derived ones. */
  readonly keys?: { readonly key: Uint8Array; readonly iv: Uint8Array; readonly hp: Uint8Array };
  readonly sourceId?: Uint8Array;
}

export function varint(n: number): number[] {
  return n < 64 ? [n] : n < 16_384 ? [0x40 | (n >>> 8), n & 255] : [0x80, (n >>> 16) & 255, ...u16(n & 0xffff)];
}

/** A client's protected Initial packet. */
export function initialPacket(shape: InitialShape): Uint8Array {
  const version = shape.version ?? V1;
  const numberLength = shape.numberLength ?? 4;
  const number = shape.number ?? 0;
  const keys = shape.keys ?? clientKeys(version, shape.keyId ?? shape.id);
  const numberBytes = [...u16(number >>> 16), ...u16(number & 0xffff)].slice(4 - numberLength);
  const type = version === V1 ? 0xc0 : 0xd0;
  const v = version >>> 0;
  const sourceId = shape.sourceId ?? new Uint8Array(0);
  const length = numberLength + shape.payload.length + 16;
  const header = Uint8Array.from([
    type | (numberLength - 1),
    v >>> 24,
    (v >>> 16) & 255,
    ...u16(v & 0xffff),
    ...vector8([...shape.id]),
    ...vector8([...sourceId]),
    ...varint(shape.token?.length ?? 0),
    ...(shape.token ?? []),
    0x40 | (length >>> 8),
    length & 255,
    ...numberBytes,
  ]);
  const nonce = Uint8Array.from(keys.iv);
  numberBytes.forEach((byte, i) => {
    nonce[12 - numberLength + i]! ^= byte;
  });
  const cipher = createCipheriv('aes-128-gcm', keys.key, nonce);
  cipher.setAAD(header);
  const sealed = Buffer.concat([cipher.update(shape.payload), cipher.final(), cipher.getAuthTag()]);
  const packet = Buffer.concat([header, sealed]);
  const numberAt = header.length - numberLength;
  const ecb = createCipheriv('aes-128-ecb', keys.hp, null);
  const mask = ecb.update(packet.subarray(numberAt + 4, numberAt + 20));
  packet[0]! ^= mask[0]! & 0x0f;
  for (let i = 0; i < numberLength; i++) packet[numberAt + i]! ^= mask[1 + i]!;
  return Uint8Array.from(packet);
}

export const cryptoFrame = (stream: Uint8Array, from: number, to: number): number[] => [
  6,
  ...varint(from),
  ...varint(to - from),
  ...stream.subarray(from, to),
];

/** Frames and padding up to `size` bytes. */
export function padded(frames: readonly number[], size = 1000): Uint8Array {
  const out = new Uint8Array(Math.max(size, frames.length));
  out.set(frames);
  return out;
}

export const join = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((p) => [...p]));
