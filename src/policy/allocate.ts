/**
 * Addresses of a network, given out by the operator when it signs: the lowest that was never given to another name.
 *
 *   service n   10.100.0.0 + n   ULA : 1 :: n        agent n   100.64.0.0 + n   ULA : 2 :: n        n = 1, 2, …
 */
import { IpAddress, Prefix } from '../base/address.js';
import type { Entropy } from '../base/entropy.js';
import { SallyportError } from '../base/error.js';
import { AGENT_SUBNET_V6, OVERLAY_RANGE_V4, SERVICE_RANGE_V4 } from './document.js';

/** Subnet of the network's ULA that services are in: the 16 bits after the /48. */
const SERVICE_SUBNET = 1;

/** One name's pair of addresses, as text. */
export interface Addresses {
  readonly v4: string;
  readonly v6: string;
}

/** Names with their addresses; a name keeps its own for good. */
export type Allocations = Readonly<Record<string, Addresses>>;

export type AllocationKind = 'service' | 'agent';

/** A random locally assigned /48 (RFC 4193 §3.2.2 leaves the way to the randomness open). */
export function randomUla(entropy: Entropy): string {
  const bytes = new Uint8Array(16);
  entropy.fill(bytes.subarray(1, 6));
  bytes[0] = 0xfd;
  return `${Prefix.of(IpAddress.fromBytes(bytes), 48)}`;
}

/**
 * The addresses of a name: its old ones, the wanted ones, or the next free.
 * @throws SallyportError ADDRESS_TAKEN (caller) when a wanted one belongs to another name or differs from the name's own,
 * ADDRESSES_EXHAUSTED (caller).
 */
export function allocate(
  kind: AllocationKind,
  ula: string,
  taken: Allocations,
  name: string,
  wanted: Partial<Addresses> = {},
): Addresses {
  const own = taken[name];
  const others = new Set(
    Object.entries(taken).flatMap(([other, addresses]) => (other === name ? [] : [addresses.v4, addresses.v6])),
  );
  for (const want of [wanted.v4, wanted.v6]) {
    if (want !== undefined && others.has(want)) {
      throw new SallyportError('caller', 'ADDRESS_TAKEN', `${want} belongs to another ${kind}`);
    }
  }
  if (own !== undefined) return { v4: wanted.v4 ?? own.v4, v6: wanted.v6 ?? own.v6 };
  const range = kind === 'service' ? SERVICE_RANGE_V4 : OVERLAY_RANGE_V4;
  const subnet = kind === 'service' ? SERVICE_SUBNET : AGENT_SUBNET_V6;
  const size = 2 ** (32 - range.length);
  // The first and the last address of a range are left alone: some stacks treat them as network and broadcast.
  for (let n = 1; n < size - 1; n++) {
    const v4 = wanted.v4 ?? IpAddress.v4(range.ip.w3 + n).toString();
    const v6 = wanted.v6 ?? numbered(ula, subnet, n);
    if (!others.has(v4) && !others.has(v6)) return { v4, v6 };
  }
  throw new SallyportError('caller', 'ADDRESSES_EXHAUSTED', `all addresses of ${range} are given out`);
}

function numbered(ula: string, subnet: number, n: number): string {
  const { ip } = Prefix.parse(ula)!;
  return new IpAddress(ip.w0, ((ip.w1 & 0xffff0000) | subnet) >>> 0, 0, n).toString();
}
