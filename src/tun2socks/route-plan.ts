/**
 * Which prefixes go into the tunnel: what is included without what is excluded, in as few prefixes as there can be.
 *
 *   0.0.0.0/0 without 128.0.0.0/2  ─►  0.0.0.0/1, 192.0.0.0/2
 *
 * A whole family becomes two halves, which win over the host's default route without taking its place.
 */
import { IpAddress, Prefix } from '../base/address.js';

/**
 * What goes in when nothing is said: every address that a host of the internet may have. Not multicast and broadcast (224.0.0.0/3,
 * ff00::/8) nor link-local fe80::/10; loopback and the networks this host is connected to have routes of their own, which are longer
 * and win. Unique local and NAT64 addresses go in (RFC 4193, RFC 6052).
 */
const EVERYTHING = ['0.0.0.0/1', '128.0.0.0/2', '192.0.0.0/3', '2000::/3', 'fc00::/7', '64:ff9b::/96'];

export interface RoutePlanInput {
  /** Empty: everything. */
  readonly include: readonly Prefix[];
  readonly exclude: readonly Prefix[];
  /** Where the dialers connect to. */
  readonly upstream: readonly IpAddress[];
}

export function planRoutes({ include, exclude, upstream }: RoutePlanInput): Prefix[] {
  const wanted = include.length === 0 ? EVERYTHING.map((text) => Prefix.parse(text)!) : include;
  const left = [...exclude, ...upstream.map((ip) => Prefix.of(ip, ip.isV4 ? 32 : 128)!)];
  const planned = wanted.flatMap((prefix) => subtract(prefix, left));
  return withoutCovered(planned.flatMap((prefix) => (prefix.length === 0 ? halves(prefix) : [prefix])));
}

/** `prefix` without everything in `left`. */
function subtract(prefix: Prefix, left: readonly Prefix[]): Prefix[] {
  const inside = left.filter((other) => other.overlaps(prefix));
  if (inside.length === 0) return [prefix];
  if (inside.some((other) => other.length <= prefix.length)) return [];
  return halves(prefix).flatMap((half) => subtract(half, inside));
}

function halves(prefix: Prefix): Prefix[] {
  const length = prefix.length + 1;
  const bit = prefix.bits;
  const words = [prefix.ip.w0, prefix.ip.w1, prefix.ip.w2, prefix.ip.w3];
  words[bit >>> 5] = (words[bit >>> 5]! | (0x8000_0000 >>> (bit & 31))) >>> 0;
  return [Prefix.of(prefix.ip, length)!, Prefix.of(new IpAddress(words[0]!, words[1]!, words[2]!, words[3]!), length)!];
}

/** Each prefix once, and none that lies within another. */
function withoutCovered(prefixes: readonly Prefix[]): Prefix[] {
  return prefixes.filter(
    (one, i) =>
      !prefixes.some(
        (other, k) =>
          k !== i && other.overlaps(one) && (other.length < one.length || (other.length === one.length && k < i)),
      ),
  );
}
