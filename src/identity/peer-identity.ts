/**
 * Who a certificate says its holder is. The identity is the SAN alone, and it must be there exactly once and agree with
 * itself; the common name is never looked at. Whether the certificate may be believed (chain, dates) is TLS's to check.
 *
 *   subjectAltName = { URI spiffe://NETWORK/ROLE/NAME, DNS NAME.ROLE.NETWORK, IP … (agents) }
 *
 * RFC 5280 §4.2.1.6, SPIFFE X.509-SVID §2.
 */
import { X509Certificate } from 'node:crypto';
import { IpAddress } from '../base/address.js';
import { SallyportError } from '../base/error.js';
import { type WallTime, wallAt } from '../base/time.js';
import { dnsName, parseSpiffeId, type Role } from '../policy/names.js';

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

/** DER of the object identifier of subjectAltName, 2.5.29.17. */
const SUBJECT_ALTERNATIVE_NAME = Buffer.of(0x06, 0x03, 0x55, 0x1d, 0x11);

/**
 * Reads the identity in a certificate (DER).
 * @throws SallyportError PEER_IDENTITY (peer) when it is not one of ours, names anything else or two things.
 */
export function parsePeerIdentity(der: Uint8Array): PeerIdentity {
  try {
    return read(new X509Certificate(der));
  } catch (cause) {
    if (cause instanceof SallyportError) throw cause;
    throw new SallyportError('peer', 'PEER_IDENTITY', 'the peer’s certificate cannot be read', { cause });
  }
}

function read(certificate: X509Certificate): PeerIdentity {
  // Of several such extensions Node shows the first. Bytes elsewhere that look like another one (a chance of 10⁻⁹ per
  // certificate) make it refuse, never accept.
  const { raw, subjectAltName } = certificate;
  const at = raw.indexOf(SUBJECT_ALTERNATIVE_NAME);
  if (subjectAltName === undefined || at < 0 || raw.indexOf(SUBJECT_ALTERNATIVE_NAME, at + 1) >= 0) {
    throw refused('one SAN');
  }
  const names = namesIn(subjectAltName);
  const [uri, ...moreUris] = names.URI;
  const [dns, ...moreDns] = names.DNS;
  const identity = uri === undefined ? undefined : parseSpiffeId(uri);
  if (identity === undefined || moreUris.length > 0) throw refused('exactly one SPIFFE ID');
  if (dns !== dnsName(identity.network, identity.role, identity.name) || moreDns.length > 0) {
    throw refused('the DNS name of its SPIFFE ID, and no other');
  }
  const addresses = names['IP Address'].map((text) => IpAddress.parse(text)?.toString());
  if (addresses.includes(undefined)) throw refused('addresses that are some');
  if (addresses.length > 0 && identity.role !== 'agent') throw refused('addresses only for an agent');
  const notBefore = wallAt(Date.parse(certificate.validFrom));
  const notAfter = wallAt(Date.parse(certificate.validTo));
  if (!(notBefore < notAfter)) throw refused('a time of validity');
  const spki = new Uint8Array(certificate.publicKey.export({ format: 'der', type: 'spki' }));
  return { ...identity, spki, notBefore, notAfter, addresses: addresses as string[] };
}

/**
 * The general names of Node's text, `KIND:VALUE, KIND:VALUE`. A value with a comma or a quote in it is itself quoted there, so
 * no value can pass for two names; such a value is then none that we know.
 */
function namesIn(text: string): Record<'URI' | 'DNS' | 'IP Address', string[]> {
  const names = { URI: [] as string[], DNS: [] as string[], 'IP Address': [] as string[] };
  for (const name of text.split(', ')) {
    const [, kind, value] = /^(URI|DNS|IP Address):(.+)$/s.exec(name) ?? [];
    if (kind === undefined) throw refused('no other names');
    names[kind as keyof typeof names].push(value!);
  }
  return names;
}

function refused(what: string): SallyportError {
  return new SallyportError('peer', 'PEER_IDENTITY', `the peer’s certificate must have ${what}`);
}
