/**
 * Candidates: where a node may be reached (RFC 8445 §5.1), as it tells its peer, and which of a peer's are believed.
 *
 * A peer's list is an attacker's input: it may name this host's own services, its neighbours, or a third party that is to be
 * sprayed. What is refused is counted by reason.
 */
import { IpAddress, Prefix, SocketAddress } from '../../base/address.js';

/** Candidates of one node at most, told or believed. */
export const MAX_CANDIDATES = 32;

export const CANDIDATE_KINDS = ['host', 'srflx', 'prflx', 'mapped', 'fixed'] as const;
/** host: an interface's; srflx: as the relay sees it; prflx: as a peer sees it; mapped: a port mapping's; fixed: the operator's. */
export type CandidateKind = (typeof CANDIDATE_KINDS)[number];

export interface Candidate {
  readonly kind: CandidateKind;
  readonly address: SocketAddress;
  readonly priority: number;
}

/** RFC 8445 §5.1.2.2; what an operator or a router has opened for us comes right after the interface's own address. */
const TYPE_PREFERENCE: Record<CandidateKind, number> = { host: 126, fixed: 120, mapped: 115, prflx: 110, srflx: 100 };
/** RFC 8421 §4: IPv6 first. */
const LOCAL_PREFERENCE = { 4: 32_767, 6: 65_535 } as const;
/** RFC 8445 §5.1.2.1: of the first component, the only one there is. */
const COMPONENT = 256 - 1;

/** RFC 8445 §5.1.2.1. `order` (0 …) tells apart candidates of one kind and family. */
export function candidatePriority(kind: CandidateKind, address: SocketAddress, order: number): number {
  const local = LOCAL_PREFERENCE[address.ip.family] - Math.min(order, 255);
  return TYPE_PREFERENCE[kind] * 2 ** 24 + local * 2 ** 8 + COMPONENT;
}

/** A list as it is told: without duplicates (the better kind stays), best first, at most 32. */
export function gatherCandidates(found: readonly { kind: CandidateKind; address: SocketAddress }[]): Candidate[] {
  const byAddress = new Map<string, Candidate>();
  const orders = new Map<string, number>();
  for (const { kind, address } of found) {
    const group = `${kind}${address.ip.family}`;
    const order = orders.get(group) ?? 0;
    orders.set(group, order + 1);
    const priority = candidatePriority(kind, address, order);
    const known = byAddress.get(address.toString());
    if (known === undefined || known.priority < priority)
      byAddress.set(address.toString(), { kind, address, priority });
  }
  return fewest([...byAddress.values()].sort((a, b) => b.priority - a.priority));
}

/**
 * At most 32, best first. Of a host with many addresses only some of its own are left out: behind a NAT none of them leads anywhere,
 * and the one seen from outside does.
 */
function fewest(sorted: readonly Candidate[]): Candidate[] {
  let hosts = MAX_CANDIDATES - sorted.filter(({ kind }) => kind !== 'host').length;
  return sorted.filter(({ kind }) => kind !== 'host' || hosts-- > 0).slice(0, MAX_CANDIDATES);
}

/** The same list with addresses besides at which one peer sees this node. */
export function withSeen(candidates: readonly Candidate[], seen: Iterable<SocketAddress>): readonly Candidate[] {
  const more = [...seen].filter((address) => !candidates.some((one) => one.address.equals(address)));
  return more.length === 0
    ? candidates
    : gatherCandidates([...candidates, ...more.map((address) => ({ kind: 'prflx' as const, address }))]);
}

/** Where this host's routing table sends an address. */
export type RouteKind = 'specific' | 'default' | 'tunnel' | 'none';

export const REFUSALS = [
  'form',
  'port',
  'not_unicast',
  'private',
  'tunnel',
  'no_route',
  'relay',
  'own',
  'many',
] as const;
/** Why a peer's candidate is not tried. */
export type Refusal = (typeof REFUSALS)[number];

export interface CandidateRules {
  /** Asked for every candidate, and again when routes change. */
  readonly route: (ip: IpAddress) => RouteKind;
  /** Private prefixes behind the default route that the operator allows. */
  readonly allowed: readonly Prefix[];
  /** The relay's and this node's own addresses: they are nobody else's. */
  readonly isRelay: (address: SocketAddress) => boolean;
  readonly isOwn: (address: SocketAddress) => boolean;
}

const prefixes = (...texts: string[]): readonly Prefix[] => texts.map((text) => Prefix.parse(text)!);

/** Loopback, "this network", multicast, reserved, broadcast; for IPv6 also link-local (it needs a zone) and mapped IPv4. */
const NOT_UNICAST = prefixes(
  '0.0.0.0/8',
  '127.0.0.0/8',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/96',
  'fe80::/10',
  'ff00::/8',
);
/** RFC 1918, RFC 6598, RFC 3927, RFC 4193: what they mean depends on where one stands. */
const PRIVATE = prefixes(
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '100.64.0.0/10',
  '169.254.0.0/16',
  'fc00::/7',
);

export function isUnicast(ip: IpAddress): boolean {
  return !NOT_UNICAST.some((prefix) => prefix.contains(ip));
}

function isPrivate(ip: IpAddress): boolean {
  return PRIVATE.some((prefix) => prefix.contains(ip));
}

/** Why a candidate is refused; undefined when it may be tried. */
export function judgeCandidate(address: SocketAddress, rules: CandidateRules): Refusal | undefined {
  const { ip, port } = address;
  if (port === 0) return 'port';
  if (!isUnicast(ip)) return 'not_unicast';
  if (rules.isRelay(address)) return 'relay';
  if (rules.isOwn(address)) return 'own';
  const route = rules.route(ip);
  if (route === 'tunnel') return 'tunnel';
  if (route === 'none') return 'no_route';
  const isForeign = route === 'default' && isPrivate(ip) && !rules.allowed.some((prefix) => prefix.contains(ip));
  return isForeign ? 'private' : undefined;
}

/** A peer's candidate as its message has it. */
export interface ToldCandidate {
  readonly kind: CandidateKind;
  readonly address: string;
  readonly port: number;
  readonly priority: number;
}

export function tellCandidates(candidates: readonly Candidate[]): ToldCandidate[] {
  return candidates.map(({ kind, address, priority }) => ({
    kind,
    address: address.ip.toString(),
    port: address.port,
    priority,
  }));
}

/** What of a peer's list may be tried, best first; `refuse` hears of every other one. */
export function believeCandidates(
  told: readonly ToldCandidate[],
  rules: CandidateRules,
  refuse: (why: Refusal) => void,
): Candidate[] {
  const believed: Candidate[] = [];
  for (const { kind, address: text, port, priority } of told) {
    const ip = IpAddress.parse(text);
    if (ip === undefined) {
      refuse('form');
      continue;
    }
    const address = new SocketAddress(ip, port);
    const why = judgeCandidate(address, rules);
    if (why !== undefined) refuse(why);
    else if (!believed.some((one) => one.address.equals(address))) believed.push({ kind, address, priority });
  }
  return believed.sort((a, b) => b.priority - a.priority);
}
