/**
 * Who a certificate says its holder is. The identity is the SAN alone, and it must be there exactly once and agree with
 * itself; the common name is never looked at. Whether the certificate may be believed (chain, dates) is TLS's to check.
 *
 *   subjectAltName = { URI spiffe://NETWORK/ROLE/NAME, DNS NAME.ROLE.NETWORK, IP … (agents) }
 *
 * RFC 5280 §4.2.1.6, SPIFFE X.509-SVID §2.
 */
import { SallyportError } from '../base/error.js';
import { type WallTime, wallAt } from '../base/time.js';
import { dnsName, parseSpiffeId, type Role } from '../policy/names.js';
import { x509 } from './x509.js';

export interface PeerIdentity {
  readonly network: string;
  readonly role: Role;
  readonly name: string;
  /** DER SubjectPublicKeyInfo; for `verifyProof`. */
  readonly spki: Uint8Array;
  readonly notBefore: WallTime;
  readonly notAfter: WallTime;
  /** Overlay addresses (IP SANs) as text. */
  readonly addresses: readonly string[];
}

const SUBJECT_ALTERNATIVE_NAME = '2.5.29.17';

/**
 * Reads the identity in a certificate (DER).
 * @throws SallyportError PEER_IDENTITY (peer) when it is not one of ours, names anything else or two things.
 */
export function parsePeerIdentity(der: Uint8Array): PeerIdentity {
  try {
    return read(new x509.X509Certificate(der.slice().buffer));
  } catch (cause) {
    if (cause instanceof SallyportError) throw cause;
    throw new SallyportError('peer', 'PEER_IDENTITY', 'the peer’s certificate cannot be read', { cause });
  }
}

function read(certificate: InstanceType<typeof x509.X509Certificate>): PeerIdentity {
  const [extension, ...more] = certificate.extensions.filter((e) => e.type === SUBJECT_ALTERNATIVE_NAME);
  if (more.length > 0 || !(extension instanceof x509.SubjectAlternativeNameExtension)) throw refused('one SAN');
  const names = extension.names.items;
  const of = (type: string): string[] => names.filter((n) => n.type === type).map((n) => n.value);
  const [uri, ...moreUris] = of('url');
  const [dns, ...moreDns] = of('dns');
  const addresses = of('ip');
  const identity = uri === undefined ? undefined : parseSpiffeId(uri);
  if (identity === undefined || moreUris.length > 0) throw refused('exactly one SPIFFE ID');
  if (dns !== dnsName(identity.network, identity.role, identity.name) || moreDns.length > 0) {
    throw refused('the DNS name of its SPIFFE ID, and no other');
  }
  if (names.length !== 2 + addresses.length) throw refused('no other names');
  if (addresses.length > 0 && identity.role !== 'agent') throw refused('addresses only for an agent');
  const notBefore = wallAt(certificate.notBefore.getTime());
  const notAfter = wallAt(certificate.notAfter.getTime());
  if (!(notBefore < notAfter)) throw refused('a time of validity');
  return { ...identity, spki: new Uint8Array(certificate.publicKey.rawData), notBefore, notAfter, addresses };
}

function refused(what: string): SallyportError {
  return new SallyportError('peer', 'PEER_IDENTITY', `the peer’s certificate must have ${what}`);
}
