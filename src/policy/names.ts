/**
 * The names of a network: networks, nodes, groups and services are each one lower-case DNS label, compared exactly.
 *
 *   spiffe://NETWORK/ROLE/NAME      SAN URI of a certificate (SPIFFE ID)
 *   NAME.ROLE.NETWORK               SAN DNS name of the same certificate, and the TLS server name
 *   SERVICE.NETWORK.internal        what an agent's resolver answers for a service
 *
 * RFC 1035 §2.3.1 and RFC 1123 §2.1 (labels), RFC 5280 §4.2.1.6 (subjectAltName).
 */
import * as v from 'valibot';

/** Who a certificate is for. Relays have certificates but no invitation. */
export const ROLES = ['agent', 'connector', 'relay'] as const;
export type Role = (typeof ROLES)[number];
/** The roles that enrol with an invitation. */
export const NODE_ROLES = ['agent', 'connector'] as const;
export type NodeRole = (typeof NODE_ROLES)[number];

/** One lower-case DNS label of 1 – 63 characters. */
export const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;

export function isLabel(text: string): boolean {
  return LABEL.test(text);
}

/** For schemas. */
export const Label = v.pipe(
  v.string(),
  v.regex(LABEL, 'must be a lower-case DNS label (a–z, 0–9 and inner hyphens, at most 63 characters)'),
);

export function spiffeId(network: string, role: Role, name: string): string {
  return `spiffe://${network}/${role}/${name}`;
}

/** The parts of a SPIFFE ID of ours; undefined for anything else. */
export function parseSpiffeId(uri: string): { network: string; role: Role; name: string } | undefined {
  const match = /^spiffe:\/\/([^/]+)\/([^/]+)\/([^/]+)$/.exec(uri);
  if (match === null) return undefined;
  const [, network, role, name] = match as unknown as [string, string, string, string];
  if (!isLabel(network) || !isLabel(name) || !(ROLES as readonly string[]).includes(role)) return undefined;
  return { network, role: role as Role, name };
}

export function dnsName(network: string, role: Role, name: string): string {
  return `${name}.${role}.${network}`;
}
