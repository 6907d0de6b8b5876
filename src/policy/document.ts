/**
 * The policy document: which services exist, which connectors may serve each, and who may use them. Signed by the
 * operator's key, verified by every node itself; what it does not grant is denied.
 *
 *   {network, version, notAfter, ula, relays?, groups, services: […], grants: […], revocations: […], tests: […]}
 *
 * Unknown fields are refused, not ignored: an older node that skipped a restriction it does not know would allow too much.
 */
import * as v from 'valibot';
import { IpAddress, Prefix } from '../base/address.js';
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import { Days, Hours, type WallTime, wallLater } from '../base/time.js';
import { type Envelope, ed25519Verifier, open, parsePayload, parseWith, type Signer, sealJson } from './envelope.js';
import { Label } from './names.js';
import { RelayContacts } from './relay-contact.js';

/** How long a signed document is valid (protocol §7). */
export const POLICY_LIFETIME = Days(90);
/** How long after its end a document still admits: a late signature must not cut a network at once. */
export const POLICY_GRACE = Hours(24);
/** How long before its end `status` warns. */
export const POLICY_WARNING = Days(14);

/** Virtual addresses of services and overlay addresses of agents (protocol §6). */
export const SERVICE_RANGE_V4 = Prefix.parse('10.100.0.0/16')!;
export const OVERLAY_RANGE_V4 = Prefix.parse('100.64.0.0/10')!;
/** Subnet of the network's ULA that agents' overlay addresses are in: the 16 bits after the /48. */
export const AGENT_SUBNET_V6 = 2;
/** Every network takes a random /48 of the locally assigned half of fc00::/7 (RFC 4193 §3.1). */
const ULA_RANGE = Prefix.parse('fd00::/8')!;

const MAX_SERVICES = 4096;
const MAX_GRANTS = 16_384;
const MAX_NAMES = 16_384;

const address = (family: 4 | 6) =>
  v.pipe(
    v.string(),
    v.check((text) => {
      const ip = IpAddress.parse(text);
      return ip?.family === family && ip.toString() === text;
    }, `must be an IPv${family} address in its usual text form`),
  );
export const Ipv4Text = address(4);
export const Ipv6Text = address(6);

const prefix = v.pipe(
  v.string(),
  v.check((text) => {
    const value = Prefix.parse(text);
    return value !== undefined && value.length > 0 && value.toString() === text;
  }, 'must be a prefix such as 10.0.0.0/24, longer than /0 and without host bits'),
);

const ula = v.pipe(
  v.string(),
  v.check((text) => {
    const value = Prefix.parse(text);
    return value?.toString() === text && value.length === 48 && !value.ip.isV4 && ULA_RANGE.contains(value.ip);
  }, 'must be a /48 of fd00::/8 such as fd12:3456:789a::/48'),
);

const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65535));
const Ports = v.union([
  v.literal('any'),
  v.pipe(
    v.array(
      v.pipe(
        v.tuple([port, port]),
        v.check(([from, to]) => from <= to, 'a port range begins with its lower port'),
      ),
    ),
    v.minLength(1),
    v.maxLength(64),
  ),
]);
/** `'any'`, or inclusive ranges. */
export type Ports = v.InferOutput<typeof Ports>;

/** IP protocols a service can have; `icmp` is echo, for both families. */
export const SERVICE_PROTOCOLS = ['tcp', 'udp', 'icmp'] as const;
export type ServiceProtocol = (typeof SERVICE_PROTOCOLS)[number];

/** Links that packets of a service may be held to. */
export const SERVICE_PATHS = ['relay', 'direct'] as const;
export type ServicePath = (typeof SERVICE_PATHS)[number];

const Service = v.pipe(
  v.strictObject({
    id: Label,
    protocols: v.pipe(
      v.array(v.picklist(SERVICE_PROTOCOLS)),
      v.minLength(1),
      v.check((list) => new Set(list).size === list.length, 'names a protocol twice'),
    ),
    /** Ports of the destination; icmp has none and ignores them. */
    ports: Ports,
    /** single: a virtual address for one backend port; host: for a whole host; cidr: the real addresses of `prefix`. */
    target: v.picklist(['single', 'host', 'cidr']),
    prefix: v.optional(prefix),
    virtualIp4: v.optional(Ipv4Text),
    virtualIp6: v.optional(Ipv6Text),
    /** Names of the connectors that may serve it. */
    connectors: v.pipe(v.array(Label), v.maxLength(256)),
    /** Its packets take such links only, both ways; absent = what the others take. */
    path: v.optional(v.picklist(SERVICE_PATHS)),
  }),
  v.check((s) => (s.target === 'cidr') === (s.prefix !== undefined), 'a cidr service, and only that, has a prefix'),
  v.check(
    (s) =>
      s.target === 'cidr'
        ? s.virtualIp4 === undefined && s.virtualIp6 === undefined
        : s.virtualIp4 !== undefined && s.virtualIp6 !== undefined,
    'a single or host service has both virtual addresses, a cidr service none',
  ),
);
export type ServiceEntry = v.InferOutput<typeof Service>;

const subject = v.pipe(
  v.string(),
  v.regex(/^(?:\*|(?:group|agent):[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)$/, 'must be group:NAME, agent:NAME or *'),
);
const target = v.union([v.literal('*'), Label]);

const Grant = v.strictObject({
  from: v.pipe(v.array(subject), v.minLength(1), v.maxLength(1024)),
  /** Service ids, or `*` for every service. */
  to: v.pipe(v.array(target), v.minLength(1), v.maxLength(MAX_SERVICES)),
  /** Narrows the services' own ports; absent = no narrower. */
  ports: v.optional(Ports),
});
export type Grant = v.InferOutput<typeof Grant>;

const Test = v.strictObject({
  from: subject,
  service: Label,
  protocol: v.optional(v.picklist(SERVICE_PROTOCOLS)),
  port: v.optional(port),
  expect: v.picklist(['allow', 'deny']),
});
/** An assertion the operator keeps with the policy; `apply` refuses a document that breaks one. */
export type PolicyTest = v.InferOutput<typeof Test>;

/** Milliseconds since the epoch, as far as dates go (ECMA-262 §21.4.1.1). */
export const EpochMillis = v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(8.64e15));

export const InvitationId = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/, 'must be 32 hex digits'));

const Document = v.pipe(
  v.strictObject({
    network: Label,
    version: v.pipe(v.number(), v.safeInteger(), v.minValue(1)),
    notAfter: EpochMillis,
    ula,
    /** The network's relays; absent while it has only the one that join tokens name. */
    relays: v.optional(RelayContacts),
    /** Further members of groups, by agent name; an agent's own groups stand in its invitation. */
    groups: v.optional(v.record(Label, v.pipe(v.array(Label), v.maxLength(MAX_NAMES))), {}),
    services: v.pipe(v.array(Service), v.maxLength(MAX_SERVICES)),
    grants: v.pipe(v.array(Grant), v.maxLength(MAX_GRANTS)),
    revocations: v.pipe(v.array(InvitationId), v.maxLength(MAX_NAMES)),
    tests: v.optional(v.pipe(v.array(Test), v.maxLength(MAX_NAMES)), []),
  }),
  v.check((d) => unique(d.services.map((s) => s.id)), 'two services have the same id'),
  v.check(
    (d) => unique(d.services.flatMap((s) => [s.virtualIp4, s.virtualIp6].filter((ip) => ip !== undefined))),
    'two services have the same virtual address',
  ),
  v.check(
    (d) => d.services.every((s) => s.virtualIp4 === undefined || inside(SERVICE_RANGE_V4, s.virtualIp4)),
    `a virtual IPv4 address is outside ${SERVICE_RANGE_V4}`,
  ),
  v.check(
    (d) => d.services.every((s) => s.virtualIp6 === undefined || inside(Prefix.parse(d.ula)!, s.virtualIp6)),
    'a virtual IPv6 address is outside the network’s ula prefix',
  ),
  v.check((d) => onePathEach(d.services), 'two services with one prefix have different paths'),
);
export type PolicyDocument = v.InferOutput<typeof Document>;

/** A document whose signature was right, with the envelope it came in (to be kept and passed on as it is). */
export interface SignedPolicy {
  readonly document: PolicyDocument;
  readonly envelope: Envelope;
}

/**
 * Checks a document that has no signature yet (an operator's file).
 * @throws SallyportError POLICY_MALFORMED (peer), naming the field.
 */
export function parseDocument(value: unknown): PolicyDocument {
  return parseWith(Document, value, 'POLICY_MALFORMED', 'the policy');
}

/** Signs a document. @throws SallyportError POLICY_MALFORMED when it is not a legal one. */
export function sealPolicy(sign: Signer, document: PolicyDocument): SignedPolicy {
  const legal = parseDocument(document);
  return { document: legal, envelope: sealJson(sign, 'policy', legal.network, legal) };
}

/**
 * Verifies and parses a signed document.
 * @throws SallyportError (peer) POLICY_MALFORMED, POLICY_TAMPERED, NETWORK_MISMATCH.
 */
export function openPolicy(crypto: Crypto, policyKey: Uint8Array, network: string, envelope: unknown): SignedPolicy {
  const opened = open(ed25519Verifier(crypto, policyKey), 'policy', network, envelope, 'POLICY');
  const document = parsePayload(Document, opened.bytes, 'POLICY');
  if (document.network !== network) {
    throw new SallyportError('peer', 'NETWORK_MISMATCH', `the policy is for ${document.network}, not ${network}`);
  }
  return { document, envelope: opened.envelope };
}

/** After this a document admits nothing new. */
export function policyEnd(document: PolicyDocument): WallTime {
  return wallLater(document.notAfter as WallTime, POLICY_GRACE);
}

function unique(values: readonly string[]): boolean {
  return new Set(values).size === values.length;
}

/** A packet's path is looked up by its address: services with the same one share it. */
function onePathEach(services: readonly ServiceEntry[]): boolean {
  const paths = new Map<string, ServicePath | undefined>();
  return services.every(({ prefix: one, path }) => {
    if (one === undefined) return true;
    const isSame = !paths.has(one) || paths.get(one) === path;
    paths.set(one, path);
    return isSame;
  });
}

function inside(range: Prefix, text: string): boolean {
  return range.contains(IpAddress.parse(text)!);
}
