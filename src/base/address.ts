/**
 * IP addresses and socket addresses: one 128-bit form for both families (IPv4 as ::ffff:a.b.c.d, RFC 4291 §2.5.5.2), held
 * as four 32-bit words so that tables on the packet path compare numbers and never strings.
 *
 *   word 0       word 1       word 2       word 3       word 4
 *   ip[0..3]     ip[4..7]     ip[8..11]    ip[12..15]   port        (each word = the big-endian integer of its bytes)
 */

/** Words that one socket address takes in a packed table: four of address and one of port. */
export const ADDRESS_WORDS = 5;

/** The third word of an IPv4 address in full length (RFC 4291 §2.5.5.2); the two before it are 0. */
export const V4_MAPPED = 0xffff;

/** An IPv4 or IPv6 address; immutable. Words are unsigned. */
export class IpAddress {
  constructor(
    readonly w0: number,
    readonly w1: number,
    readonly w2: number,
    readonly w3: number,
  ) {}

  static v4(value: number): IpAddress {
    return new IpAddress(0, 0, V4_MAPPED, value >>> 0);
  }

  /** From 4 or 16 bytes at `offset`. */
  static fromBytes(bytes: Uint8Array, offset = 0, length: 4 | 16 = bytes.length === 4 ? 4 : 16): IpAddress {
    const word = (o: number): number =>
      ((bytes[o]! << 24) | (bytes[o + 1]! << 16) | (bytes[o + 2]! << 8) | bytes[o + 3]!) >>> 0;
    if (length === 4) return IpAddress.v4(word(offset));
    return new IpAddress(word(offset), word(offset + 4), word(offset + 8), word(offset + 12));
  }

  /** Text of either family, without brackets, zone or prefix; undefined if it is not one. */
  static parse(text: string): IpAddress | undefined {
    return text.includes(':') ? parseV6(text) : parseV4(text);
  }

  get isV4(): boolean {
    return this.w0 === 0 && this.w1 === 0 && this.w2 === V4_MAPPED;
  }

  get family(): 4 | 6 {
    return this.isV4 ? 4 : 6;
  }

  /** 4 bytes for IPv4, 16 for IPv6, in network order. */
  toBytes(): Uint8Array {
    const words = this.isV4 ? [this.w3] : [this.w0, this.w1, this.w2, this.w3];
    const out = new Uint8Array(words.length * 4);
    words.forEach((w, i) => {
      out[i * 4] = w >>> 24;
      out[i * 4 + 1] = w >>> 16;
      out[i * 4 + 2] = w >>> 8;
      out[i * 4 + 3] = w;
    });
    return out;
  }

  equals(other: IpAddress): boolean {
    return this.w0 === other.w0 && this.w1 === other.w1 && this.w2 === other.w2 && this.w3 === other.w3;
  }

  /** Dotted quad, or RFC 5952 text. */
  toString(): string {
    if (this.isV4) return formatV4(this.w3);
    const groups = [this.w0, this.w1, this.w2, this.w3].flatMap((w) => [w >>> 16, w & 0xffff]);
    let best = -1;
    let bestLength = 1;
    for (let i = 0; i < 8; i++) {
      let n = 0;
      while (i + n < 8 && groups[i + n] === 0) n++;
      if (n > bestLength) {
        best = i;
        bestLength = n;
      }
    }
    const hex = (part: number[]): string => part.map((g) => g.toString(16)).join(':');
    if (best < 0) return hex(groups);
    return `${hex(groups.slice(0, best))}::${hex(groups.slice(best + bestLength))}`;
  }
}

/** An address and a port; immutable. */
export class SocketAddress {
  constructor(
    readonly ip: IpAddress,
    readonly port: number,
  ) {}

  /** `192.0.2.1:443` or `[2001:db8::1]:443`; undefined if it is not one. */
  static parse(text: string): SocketAddress | undefined {
    const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
    if (match === null) return undefined;
    const ip = IpAddress.parse(match[1] ?? match[2]!);
    const port = Number(match[3]);
    if (ip === undefined || port > 65535 || (match[1] !== undefined && ip.isV4)) return undefined;
    return new SocketAddress(ip, port);
  }

  static read(words: Uint32Array, index: number): SocketAddress {
    const i = index * ADDRESS_WORDS;
    return new SocketAddress(new IpAddress(words[i]!, words[i + 1]!, words[i + 2]!, words[i + 3]!), words[i + 4]!);
  }

  write(words: Uint32Array, index: number): void {
    const i = index * ADDRESS_WORDS;
    words[i] = this.ip.w0;
    words[i + 1] = this.ip.w1;
    words[i + 2] = this.ip.w2;
    words[i + 3] = this.ip.w3;
    words[i + 4] = this.port;
  }

  /** Whether the packed address at `index` is this one. */
  matches(words: Uint32Array, index: number): boolean {
    const i = index * ADDRESS_WORDS;
    return (
      words[i + 3] === this.ip.w3 &&
      words[i + 4] === this.port &&
      words[i + 2] === this.ip.w2 &&
      words[i + 1] === this.ip.w1 &&
      words[i] === this.ip.w0
    );
  }

  equals(other: SocketAddress): boolean {
    return this.port === other.port && this.ip.equals(other.ip);
  }

  toString(): string {
    return this.ip.isV4 ? `${this.ip}:${this.port}` : `[${this.ip}]:${this.port}`;
  }
}

/** An address and a prefix length: 0 … 32 or 0 … 128, counted in the address's own family. */
export class Prefix {
  private constructor(
    readonly ip: IpAddress,
    readonly length: number,
  ) {}

  /** Undefined when the length is out of range. Host bits are cleared. */
  static of(ip: IpAddress, length: number): Prefix | undefined {
    const bits = ip.isV4 ? 32 : 128;
    if (!Number.isInteger(length) || length < 0 || length > bits) return undefined;
    const n = ip.isV4 ? length + 96 : length;
    const mask = (w: number, i: number): number => {
      const left = n - i * 32;
      return left >= 32 ? w : left <= 0 ? 0 : (w & (0xffffffff << (32 - left))) >>> 0;
    };
    return new Prefix(new IpAddress(mask(ip.w0, 0), mask(ip.w1, 1), mask(ip.w2, 2), mask(ip.w3, 3)), length);
  }

  /** `10.0.0.0/24`, `2001:db8::/32`, or a bare address (full length). */
  static parse(text: string): Prefix | undefined {
    const match = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text);
    const ip = match === null ? undefined : IpAddress.parse(match[1]!);
    if (ip === undefined) return undefined;
    return Prefix.of(ip, match![2] === undefined ? (ip.isV4 ? 32 : 128) : Number(match![2]));
  }

  /** Prefix length in the 128-bit form. */
  get bits(): number {
    return this.ip.isV4 ? this.length + 96 : this.length;
  }

  contains(ip: IpAddress): boolean {
    if (ip.isV4 !== this.ip.isV4) return false;
    const other = Prefix.of(ip, this.length);
    return other?.ip.equals(this.ip) ?? false;
  }

  overlaps(other: Prefix): boolean {
    return this.length <= other.length ? this.contains(other.ip) : other.contains(this.ip);
  }

  toString(): string {
    return `${this.ip}/${this.length}`;
  }
}

export function formatV4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

function parseV4(text: string): IpAddress | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    value = value * 256 + Number(part);
  }
  return IpAddress.v4(value);
}

function parseV6(text: string): IpAddress | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const groups = (part: string): number[] | undefined => {
    if (part === '') return [];
    const out: number[] = [];
    const fields = part.split(':');
    for (const [i, field] of fields.entries()) {
      if (field.includes('.') && i === fields.length - 1) {
        const v4 = parseV4(field);
        if (v4 === undefined) return undefined;
        out.push(v4.w3 >>> 16, v4.w3 & 0xffff);
      } else if (/^[0-9a-fA-F]{1,4}$/.test(field)) out.push(Number.parseInt(field, 16));
      else return undefined;
    }
    return out;
  };
  const head = groups(halves[0]!);
  const tail = halves.length === 2 ? groups(halves[1]!) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const all = [...head, ...new Array<number>(missing).fill(0), ...tail];
  const word = (i: number): number => ((all[i * 2]! << 16) | all[i * 2 + 1]!) >>> 0;
  return new IpAddress(word(0), word(1), word(2), word(3));
}

/** Whether entry `i` of one packed table and entry `j` of another are the same address and port. */
export function sameWords(a: Uint32Array, i: number, b: Uint32Array, j: number): boolean {
  const x = i * ADDRESS_WORDS;
  const y = j * ADDRESS_WORDS;
  return (
    a[x + 3] === b[y + 3] && a[x + 4] === b[y + 4] && a[x + 2] === b[y + 2] && a[x + 1] === b[y + 1] && a[x] === b[y]
  );
}
