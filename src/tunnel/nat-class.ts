/**
 * What kind of NAT is before a node, from what probes have shown: how it maps inside ports to public ones and whom it lets in, by the
 * terms of RFC 4787 §4 and §5, and under the name people know.
 *
 *   mapping      seen at two places of one relay (two ports)     equal ─► not by port     different ─► port-dependent
 *                seen at two relay addresses                     equal ─► endpoint-independent, surely
 *   filtering    an answer from a port that was never asked      came ─► not by port      never came ─► port-dependent
 *
 * With one relay address "not by port" may still be by address: the result then says the likelier mapping and that it is not sure,
 * and of filtering no more than was seen.
 */
import type { SocketAddress } from '../base/address.js';

/** One question to a relay from one socket, and what became of it. */
export interface ProbeOutcome {
  /** The address that was asked. */
  readonly asked: SocketAddress;
  /** Another port of that address was to answer, which this socket has never sent to. */
  readonly fromOtherPort: boolean;
  /** Where the relay saw the question come from; undefined: no answer, however often it was asked. */
  readonly observed: SocketAddress | undefined;
}

export interface NatObservations {
  /** The socket's own address. */
  readonly local: SocketAddress;
  readonly outcomes: readonly ProbeOutcome[];
  /** Whether a datagram to the public address of another socket of this host came back in; undefined: not tried. */
  readonly hairpin: boolean | undefined;
}

export type NatMapping = 'none' | 'endpoint-independent' | 'address-dependent' | 'port-dependent' | 'unknown';
/** `by-address-at-most`: endpoint-independent or address-dependent (answers come from one address only). */
export type NatFiltering = 'by-address-at-most' | 'port-dependent' | 'unknown';

export interface NatClass {
  /** `none`: the socket's own address is the public one. */
  readonly mapping: NatMapping;
  /** False: another relay address might show a mapping by address. */
  readonly mappingIsSure: boolean;
  readonly filtering: NatFiltering;
  /** Whether the public port is the socket's own; undefined where nothing translates or nothing answered. */
  readonly preservesPort: boolean | undefined;
  readonly hairpin: boolean | undefined;
  /** The public address; undefined: nothing answered. */
  readonly publicAddress: SocketAddress | undefined;
  /** What people call it. */
  readonly name: NatName;
}

export type NatName =
  | 'no NAT'
  | 'firewall'
  /** Who was never asked at all would have to answer to tell the two apart. */
  | 'full or restricted cone'
  | 'port-restricted cone'
  | 'symmetric'
  | 'UDP blocked'
  | 'unknown';

/** The outcomes may be of one address family only. */
export function classifyNat({ local, outcomes, hairpin }: NatObservations): NatClass {
  const plain = outcomes.filter((one) => !one.fromOtherPort);
  const answered = plain.filter((one) => one.observed !== undefined);
  const publicAddress = answered[0]?.observed;
  if (publicAddress === undefined) {
    return {
      mapping: 'unknown',
      mappingIsSure: false,
      filtering: 'unknown',
      preservesPort: undefined,
      hairpin: undefined,
      publicAddress: undefined,
      name: plain.length === 0 ? 'unknown' : 'UDP blocked',
    };
  }
  const mapping = mappingOf(local, answered);
  const filtering = filteringOf(answered, outcomes);
  return {
    mapping: mapping.kind,
    mappingIsSure: mapping.isSure,
    filtering,
    preservesPort: mapping.kind === 'none' ? undefined : publicAddress.port === local.port,
    hairpin,
    publicAddress,
    name: nameOf(mapping.kind, filtering),
  };
}

function mappingOf(
  local: SocketAddress,
  answered: readonly ProbeOutcome[],
): { readonly kind: NatMapping; readonly isSure: boolean } {
  if (answered.every(({ observed }) => observed!.equals(local))) return { kind: 'none', isSure: true };
  const pairs = answered.flatMap((one, index) => answered.slice(index + 1).map((other) => ({ one, other })));
  const isSame = ({ one, other }: (typeof pairs)[number]): boolean => one.observed!.equals(other.observed!);
  const ofOneAddress = pairs.filter(({ one, other }) => one.asked.ip.equals(other.asked.ip));
  const ofTwo = pairs.filter(({ one, other }) => !one.asked.ip.equals(other.asked.ip));
  const isByPort = ofOneAddress.some(
    ({ one, other }) => one.asked.port !== other.asked.port && !one.observed!.equals(other.observed!),
  );
  if (isByPort) return { kind: 'port-dependent', isSure: true };
  const portsAsked = ofOneAddress.some(({ one, other }) => one.asked.port !== other.asked.port);
  if (ofTwo.length > 0) {
    if (ofTwo.every(isSame)) return { kind: 'endpoint-independent', isSure: true };
    // Two ports of one address were treated alike, two addresses were not.
    return { kind: 'address-dependent', isSure: portsAsked };
  }
  return portsAsked ? { kind: 'endpoint-independent', isSure: false } : { kind: 'unknown', isSure: false };
}

function filteringOf(answered: readonly ProbeOutcome[], outcomes: readonly ProbeOutcome[]): NatFiltering {
  // Only of an address that answers at all.
  const asked = outcomes.filter(
    (one) => one.fromOtherPort && answered.some((plain) => plain.asked.ip.equals(one.asked.ip)),
  );
  if (asked.length === 0) return 'unknown';
  return asked.some((one) => one.observed !== undefined) ? 'by-address-at-most' : 'port-dependent';
}

function nameOf(mapping: NatMapping, filtering: NatFiltering): NatName {
  switch (mapping) {
    case 'none':
      return filtering === 'port-dependent' ? 'firewall' : filtering === 'unknown' ? 'unknown' : 'no NAT';
    case 'endpoint-independent':
      if (filtering === 'unknown') return 'unknown';
      return filtering === 'port-dependent' ? 'port-restricted cone' : 'full or restricted cone';
    case 'address-dependent':
    case 'port-dependent':
      return 'symmetric';
    case 'unknown':
      return 'unknown';
  }
}
