/**
 * Whether something in front of the relay hides its nodes: when every node is seen from one private address that is not this
 * machine's, that is a load balancer, a container network or a NAT of the relay's own, and what nodes are told about where they are
 * seen from (OBSERVED) is of no use to them.
 */
import { type IpAddress, Prefix, SocketAddress } from '../base/address.js';
import type { RelayNode } from './node.js';

/** RFC 1918, RFC 6598 (shared), RFC 3927 (link-local), RFC 4193 and RFC 4291 §2.5.6 (IPv6). Loopback is a demo, not a NAT. */
const PRIVATE = [
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '169.254.0.0/16',
  'fc00::/7',
  'fe80::/10',
].map((text) => Prefix.parse(text)!);
/** One node alone may be a neighbour. */
const LEAST_NODES = 2;

/** The one private address all nodes come from, or undefined. */
export function hidingAddress(nodes: Iterable<RelayNode>): IpAddress | undefined {
  let shared: IpAddress | undefined;
  let count = 0;
  for (const node of nodes) {
    const { ip } = node.forwardingAddress;
    if (shared !== undefined && !shared.equals(ip)) return undefined;
    // A node on the relay's own machine is seen from the address that it asked.
    if (SocketAddress.read(node.local, 0).ip.equals(ip)) return undefined;
    shared = ip;
    count++;
  }
  if (shared === undefined || count < LEAST_NODES) return undefined;
  const address = shared;
  return PRIVATE.some((prefix) => prefix.contains(address)) ? address : undefined;
}
