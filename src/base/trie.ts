/**
 * Longest-prefix match: a table from `Prefix` to a value for both families, looked up by words without allocation.
 *
 * A path-compressed binary trie per family. Every node holds a prefix in the 128-bit form of `IpAddress` (IPv4 = 96 bits of
 * ::ffff:0:0 and then its own); its children are longer prefixes that differ in the bit after it. A node without a value
 * exists only where two branches part.
 *
 *   10.0.0.0/8 ─┬─0─ 10.1.0.0/16
 *               └─1─ (10.128.0.0/9) ─┬─0─ 10.160.0.0/24
 *                                    └─1─ 10.200.7.0/24
 */
import { IpAddress, Prefix, V4_MAPPED } from './address.js';

const V4_BITS = 96;

class Node<T> {
  readonly m0: number;
  readonly m1: number;
  readonly m2: number;
  readonly m3: number;
  zero: Node<T> | undefined = undefined;
  one: Node<T> | undefined = undefined;

  /** Words signed (| 0), so that comparisons stay small integers where they can. */
  constructor(
    readonly w0: number,
    readonly w1: number,
    readonly w2: number,
    readonly w3: number,
    readonly bits: number,
    public value: T | undefined,
  ) {
    this.m0 = maskWord(bits);
    this.m1 = maskWord(bits - 32);
    this.m2 = maskWord(bits - 64);
    this.m3 = maskWord(bits - 96);
  }
}

/** Values are objects or other things that are not undefined. */
export class PrefixTrie<T extends NonNullable<unknown>> {
  #v4: Node<T> | undefined = undefined;
  #v6: Node<T> | undefined = undefined;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The value of the longest prefix that contains the IPv4 address. */
  lookupV4(address: number): T | undefined {
    let best: T | undefined;
    let node = this.#v4;
    while (node !== undefined && ((address ^ node.w3) & node.m3) === 0) {
      if (node.value !== undefined) best = node.value;
      if (node.bits === 128) break;
      node = address << (node.bits - V4_BITS) < 0 ? node.one : node.zero;
    }
    return best;
  }

  /** The value of the longest prefix that contains the address, whose four words are those of `IpAddress`. */
  lookupWords(w0: number, w1: number, w2: number, w3: number): T | undefined {
    if (w0 === 0 && w1 === 0 && w2 === V4_MAPPED) return this.lookupV4(w3);
    let best: T | undefined;
    let node = this.#v6;
    while (
      node !== undefined &&
      ((w0 ^ node.w0) & node.m0) === 0 &&
      ((w1 ^ node.w1) & node.m1) === 0 &&
      ((w2 ^ node.w2) & node.m2) === 0 &&
      ((w3 ^ node.w3) & node.m3) === 0
    ) {
      if (node.value !== undefined) best = node.value;
      const bits = node.bits;
      if (bits === 128) break;
      const word = bits < 64 ? (bits < 32 ? w0 : w1) : bits < 96 ? w2 : w3;
      node = word << (bits & 31) < 0 ? node.one : node.zero;
    }
    return best;
  }

  lookup(ip: IpAddress): T | undefined {
    return this.lookupWords(ip.w0, ip.w1, ip.w2, ip.w3);
  }

  /** The value of exactly this prefix. */
  get(prefix: Prefix): T | undefined {
    let node = prefix.ip.isV4 ? this.#v4 : this.#v6;
    while (node !== undefined && node.bits < prefix.bits) {
      if (commonBits(node, prefix.ip, node.bits) < node.bits) return undefined;
      node = bitOf(prefix.ip, node.bits) ? node.one : node.zero;
    }
    return node !== undefined && isPrefix(node, prefix) ? node.value : undefined;
  }

  /** Sets the value of `prefix` and returns the one that was there before. */
  set(prefix: Prefix, value: T): T | undefined {
    const ip = prefix.ip;
    const bits = prefix.bits;
    let parent: Node<T> | undefined;
    let node = this.#child(parent, prefix);
    while (node !== undefined && node.bits < bits && commonBits(node, ip, node.bits) === node.bits) {
      parent = node;
      node = this.#child(parent, prefix);
    }
    if (node !== undefined && isPrefix(node, prefix)) {
      const old = node.value;
      node.value = value;
      if (old === undefined) this.#size++;
      return old;
    }
    this.#size++;
    const added = new Node(ip.w0 | 0, ip.w1 | 0, ip.w2 | 0, ip.w3 | 0, bits, value);
    if (node === undefined) this.#attach(parent, prefix, added);
    else {
      const common = commonBits(node, ip, Math.min(bits, node.bits));
      if (common === bits) {
        if (bitOf(node, bits)) added.one = node;
        else added.zero = node;
        this.#attach(parent, prefix, added);
      } else {
        const w = [ip.w0, ip.w1, ip.w2, ip.w3].map((word, i) => word & maskWord(common - 32 * i));
        const fork = new Node<T>(w[0]!, w[1]!, w[2]!, w[3]!, common, undefined);
        fork.zero = bitOf(ip, common) ? node : added;
        fork.one = bitOf(ip, common) ? added : node;
        this.#attach(parent, prefix, fork);
      }
    }
    return undefined;
  }

  /** Removes exactly this prefix and returns its value. */
  delete(prefix: Prefix): T | undefined {
    const path: Node<T>[] = [];
    let node = this.#child(undefined, prefix);
    while (node !== undefined && node.bits < prefix.bits) {
      path.push(node);
      node = this.#child(node, prefix);
    }
    if (node === undefined || !isPrefix(node, prefix) || node.value === undefined) return undefined;
    const old = node.value;
    node.value = undefined;
    this.#size--;
    // A node without a value and with fewer than two children is not needed; that may then hold for its parent too.
    for (let at: Node<T> | undefined = node; at !== undefined; at = path.pop()) {
      if (at.value !== undefined || (at.zero !== undefined && at.one !== undefined)) break;
      this.#attach(path[path.length - 1], prefix, at.zero ?? at.one);
    }
    return old;
  }

  clear(): void {
    this.#v4 = undefined;
    this.#v6 = undefined;
    this.#size = 0;
  }

  /** Every prefix and its value: IPv4 first, shorter before longer on one path. */
  entries(): (readonly [Prefix, T])[] {
    const out: (readonly [Prefix, T])[] = [];
    const walk = (node: Node<T> | undefined): void => {
      if (node === undefined) return;
      if (node.value !== undefined) {
        const ip = new IpAddress(node.w0 >>> 0, node.w1 >>> 0, node.w2 >>> 0, node.w3 >>> 0);
        out.push([Prefix.of(ip, ip.isV4 ? node.bits - V4_BITS : node.bits)!, node.value]);
      }
      walk(node.zero);
      walk(node.one);
    };
    walk(this.#v4);
    walk(this.#v6);
    return out;
  }

  #child(parent: Node<T> | undefined, prefix: Prefix): Node<T> | undefined {
    if (parent === undefined) return prefix.ip.isV4 ? this.#v4 : this.#v6;
    return bitOf(prefix.ip, parent.bits) ? parent.one : parent.zero;
  }

  #attach(parent: Node<T> | undefined, prefix: Prefix, node: Node<T> | undefined): void {
    if (parent === undefined) {
      if (prefix.ip.isV4) this.#v4 = node;
      else this.#v6 = node;
    } else if (bitOf(prefix.ip, parent.bits)) parent.one = node;
    else parent.zero = node;
  }
}

interface Words {
  readonly w0: number;
  readonly w1: number;
  readonly w2: number;
  readonly w3: number;
}

/** A mask of the first `bits` bits of a word; `bits` may be below 0 or above 32. */
function maskWord(bits: number): number {
  return bits <= 0 ? 0 : bits >= 32 ? -1 : -1 << (32 - bits);
}

function bitOf(words: Words, bit: number): boolean {
  const word = bit < 64 ? (bit < 32 ? words.w0 : words.w1) : bit < 96 ? words.w2 : words.w3;
  return word << (bit & 31) < 0;
}

/** How many leading bits `a` and `b` share, at most `limit`. */
function commonBits(a: Words, b: Words, limit: number): number {
  let n = Math.clz32(a.w0 ^ b.w0);
  if (n === 32) n += Math.clz32(a.w1 ^ b.w1);
  if (n === 64) n += Math.clz32(a.w2 ^ b.w2);
  if (n === 96) n += Math.clz32(a.w3 ^ b.w3);
  return Math.min(n, limit);
}

function isPrefix(node: Words & { readonly bits: number }, prefix: Prefix): boolean {
  return node.bits === prefix.bits && commonBits(node, prefix.ip, node.bits) === node.bits;
}
