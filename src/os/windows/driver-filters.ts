/**
 * Filters of the kernel driver, as data: what a trace waits for, and for each a twin that keeps the packet from the system's own
 * stack, which would answer it.
 *
 *   nothing   none                                            icmp, udp   ICMP and ICMPv6 inbound
 *   none      everything inbound                              tcp         those, and TCP of one tuple
 *   syn-ack   those, and TCP from the remote end              ports       those, and TCP to each local port
 */
import type { SocketAddress } from '../../base/address.js';
import { PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP } from '../../wire/ip.js';
import type { FilterSpec } from '../packet-io.js';
import { AF_INET, AF_INET6 } from './constants.js';
import {
  DIRECTION_INBOUND,
  FILTER,
  FILTER_ADDRESS,
  FILTER_BYTES,
  LAYER_TRANSPORT,
  SIGNATURE,
} from './driver-constants.js';

interface Wanted {
  readonly family: 0 | typeof AF_INET | typeof AF_INET6;
  /** 0: any. */
  readonly protocol: number;
  readonly local?: SocketAddress;
  readonly remote?: SocketAddress;
  /** Without an address. */
  readonly localPort?: number;
}

const ICMP: readonly Wanted[] = [
  { family: AF_INET, protocol: PROTO_ICMP },
  { family: AF_INET6, protocol: PROTO_ICMPV6 },
];

const familyOf = ({ ip }: SocketAddress): typeof AF_INET | typeof AF_INET6 => (ip.isV4 ? AF_INET : AF_INET6);

/** The filters for `spec`, each followed by its twin. */
export function driverFilters(spec: FilterSpec): Uint8Array[] {
  return wantedBy(spec).flatMap((wanted) => [encode(wanted, false), encode(wanted, true)]);
}

function wantedBy(spec: FilterSpec): readonly Wanted[] {
  switch (spec.kind) {
    case 'nothing':
      return [];
    case 'none':
      return [AF_INET, AF_INET6].map((family) => ({ family, protocol: 0 }) as Wanted);
    case 'icmp':
    case 'udp':
      return ICMP;
    case 'tcp': {
      // Seen from the packet: its destination is here.
      const { source: remote, destination: local } = spec;
      return [...ICMP, { family: familyOf(remote), protocol: PROTO_TCP, local, remote }];
    }
    case 'syn-ack':
      return [...ICMP, ...[AF_INET, AF_INET6].map((family) => ({ family, protocol: PROTO_TCP }) as Wanted)];
    case 'ports':
      return [
        ...ICMP,
        ...spec.ports.flatMap((localPort) =>
          [AF_INET, AF_INET6].map((family) => ({ family, protocol: PROTO_TCP, localPort }) as Wanted),
        ),
      ];
  }
}

function encode({ family, protocol, local, remote, localPort }: Wanted, discard: boolean): Uint8Array {
  const out = new Uint8Array(FILTER_BYTES);
  const view = new DataView(out.buffer);
  const set = (at: number, value: bigint): void => view.setBigUint64(at, value, true);
  set(FILTER.version, SIGNATURE);
  set(FILTER.size, BigInt(FILTER_BYTES));
  set(FILTER.layer, LAYER_TRANSPORT);
  set(FILTER.family, BigInt(family));
  set(FILTER.protocol, BigInt(protocol));
  set(FILTER.direction, DIRECTION_INBOUND);
  set(FILTER.discard, discard ? 1n : 0n);
  set(FILTER.localPort, BigInt(local?.port ?? localPort ?? 0));
  set(FILTER.remotePort, BigInt(remote?.port ?? 0));
  for (const [end, at] of [
    [local, FILTER.local],
    [remote, FILTER.remote],
  ] as const) {
    if (end === undefined) continue;
    set(at + FILTER_ADDRESS.family, BigInt(familyOf(end)));
    set(at + FILTER_ADDRESS.length, end.ip.isV4 ? 32n : 128n);
    out.set(end.ip.toBytes(), at + (end.ip.isV4 ? FILTER_ADDRESS.v4 : FILTER_ADDRESS.v6));
  }
  return out;
}
