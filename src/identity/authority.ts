/**
 * The network's certificate authority: issues the certificates that TLS checks. It cannot make an enrolment proof, so a
 * stolen CA key alone lets nobody in.
 *
 *   CA            CA:TRUE, pathLen 0, keyCertSign + cRLSign                        10 y
 *   relay         SAN URI + DNS; serverAuth + clientAuth; digitalSignature         90 d
 *   connector     likewise                                                          7 d
 *   agent         likewise and its overlay addresses as IP SANs; clientAuth only    7 d
 *
 * RFC 5280 §4.1 – 4.2, SPIFFE X.509-SVID §2 (one URI SAN), RFC 2986 (certificate requests).
 */
import { createHash, createPrivateKey, createPublicKey, randomBytes, sign, verify } from 'node:crypto';
import { IpAddress } from '../base/address.js';
import { SallyportError } from '../base/error.js';
import { Days, type Duration, Minutes, scale, type WallTime, wallLater } from '../base/time.js';
import { dnsName, type Role, spiffeId } from '../policy/names.js';
import { certificateDer, certificatePem } from './certificate-pem.js';
import {
  bitString,
  context,
  type Element,
  element,
  octetString,
  oid,
  primitive,
  printableString,
  readElements,
  sequence,
  smallInteger,
  Tag,
  TRUE,
  time,
} from './der.js';
import { generateTlsKey, spkiOf } from './keys.js';

/** Lifetimes (protocol §9): short for nodes, which renew by themselves; a relay's renewal restarts nothing either. */
export const NODE_CERTIFICATE_LIFETIME = Days(7);
export const RELAY_CERTIFICATE_LIFETIME = Days(90);
export const CA_CERTIFICATE_LIFETIME = Days(3650);
/** Certificates begin this much in the past: clocks of the two ends differ. */
export const BACKDATE = Minutes(5);

/** ECDSA on P-256 with SHA-256 (RFC 5758 §3.2), the only algorithm the network's certificates use. */
const ALGORITHM = sequence(oid('1.2.840.10045.4.3.2'));
/** X.520 §6.2.2; RFC 5280 appendix A.1 bounds it to 64 characters. */
const COMMON_NAME = oid('2.5.4.3');
const MAX_COMMON_NAME = 64;
/** RFC 5280 §4.2.1.12. */
const SERVER_AUTH = oid('1.3.6.1.5.5.7.3.1');
const CLIENT_AUTH = oid('1.3.6.1.5.5.7.3.2');
/** RFC 5280 §4.1.2.2: positive, at most 20 bytes; this many bits from a random source (CA/B forum's rules ask for 64). */
const SERIAL_BYTES = 16;
/** Bytes of an uncompressed point (SEC 1 §2.3.3). */
const P256_POINT = 65;
/** Fields of a TBSCertificate (RFC 5280 §4.1): version, serial number, algorithm, issuer, validity, subject … */
const SUBJECT = 5;
/** RFC 2986 §4: version 1. */
const REQUEST_VERSION = smallInteger(0);
const REQUEST_LABEL = 'CERTIFICATE REQUEST';

export interface CaFiles {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** A new CA for a network. */
export function createCa(network: string, wall: WallTime): CaFiles {
  const keyPem = generateTlsKey();
  const spki = spkiOf(keyPem);
  const name = nameOf(`Sallyport CA of ${network}`);
  const certificate = signed(
    keyPem,
    toBeSigned(name, name, validity(wall, CA_CERTIFICATE_LIFETIME), spki, [
      // CA:TRUE, no CA below it; keyCertSign and cRLSign (RFC 5280 §4.2.1.9, §4.2.1.3).
      extension('2.5.29.19', true, sequence(TRUE, smallInteger(0))),
      extension('2.5.29.15', true, element(Tag.bitString, Buffer.of(1, 0x06))),
      extension('2.5.29.14', false, octetString(keyId(spki))),
    ]),
  );
  return { certificatePem: certificatePem(certificate), keyPem };
}

/** What a certificate says. */
export interface CertificateRequest {
  readonly role: Role;
  readonly name: string;
  /** DER SubjectPublicKeyInfo, P-256. */
  readonly spki: Uint8Array;
  /** Overlay addresses of an agent, as text. */
  readonly addresses: readonly string[];
}

export class CertificateAuthority {
  readonly network: string;
  readonly certificatePem: string;
  /** Its subject, in DER. */
  readonly #name: Uint8Array;
  readonly #keyPem: string;

  /** @throws SallyportError CERTIFICATE_MALFORMED (peer). */
  constructor(network: string, files: CaFiles) {
    this.network = network;
    this.certificatePem = files.certificatePem;
    this.#name = subjectOf(certificateDer(files.certificatePem));
    this.#keyPem = files.keyPem;
  }

  /**
   * Issues a certificate (PEM) that begins now.
   * @throws SallyportError CSR_MALFORMED (peer) when the key is not P-256, KEY_UNREADABLE (environment).
   */
  issue({ role, name, spki, addresses }: CertificateRequest, wall: WallTime): string {
    if (!isP256(spki)) throw new SallyportError('peer', 'CSR_MALFORMED', 'the key of a certificate must be P-256');
    const dns = dnsName(this.network, role, name);
    const usages = role === 'agent' ? [CLIENT_AUTH] : [SERVER_AUTH, CLIENT_AUTH];
    const tbs = toBeSigned(this.#name, nameOf(dns), validity(wall, lifetimeOf(role)), spki, [
      // Not a CA; digitalSignature (RFC 5280 §4.2.1.9, §4.2.1.3).
      extension('2.5.29.19', true, sequence()),
      extension('2.5.29.15', true, element(Tag.bitString, Buffer.of(7, 0x80))),
      extension('2.5.29.37', false, sequence(...usages)),
      // URI [6], DNS name [2], IP addresses [7] (RFC 5280 §4.2.1.6).
      extension(
        '2.5.29.17',
        false,
        sequence(
          element(primitive(6), Buffer.from(spiffeId(this.network, role, name), 'latin1')),
          element(primitive(2), Buffer.from(dns, 'latin1')),
          ...addresses.map((text) => element(primitive(7), IpAddress.parse(text)!.toBytes())),
        ),
      ),
      extension('2.5.29.35', false, sequence(element(primitive(0), keyId(spkiOf(this.#keyPem))))),
      extension('2.5.29.14', false, octetString(keyId(spki))),
    ]);
    return certificatePem(signed(this.#keyPem, tbs));
  }
}

export function lifetimeOf(role: Role): Duration {
  return role === 'relay' ? RELAY_CERTIFICATE_LIFETIME : NODE_CERTIFICATE_LIFETIME;
}

/** A certificate request (PEM, RFC 2986) that proves possession of the key; its names are for people, the CA ignores them. */
export function createCsr(keyPem: string, name: string): string {
  const info = sequence(REQUEST_VERSION, nameOf(name), spkiOf(keyPem), element(context(0)));
  const lines = Buffer.from(signed(keyPem, info))
    .toString('base64')
    .match(/.{1,64}/g)!;
  return [`-----BEGIN ${REQUEST_LABEL}-----`, ...lines, `-----END ${REQUEST_LABEL}-----`, ''].join('\n');
}

/**
 * The key (DER SubjectPublicKeyInfo) of a certificate request whose own signature is right.
 * @throws SallyportError CSR_MALFORMED (peer).
 */
export function verifyCsr(pem: string): Uint8Array {
  const spki = requestedKey(pem);
  if (spki === undefined) throw new SallyportError('peer', 'CSR_MALFORMED', 'the certificate request is not valid');
  return spki;
}

function requestedKey(pem: string): Uint8Array | undefined {
  const text = new RegExp(`-----BEGIN ${REQUEST_LABEL}-----([^-]*)-----END ${REQUEST_LABEL}-----`).exec(pem)?.[1];
  const [request, ...others] = readElements(Buffer.from(text ?? '', 'base64')) ?? [];
  if (request === undefined || others.length > 0) return undefined;
  const [info, algorithm, signature, ...more] = partsOf(request, Tag.sequence);
  if (info === undefined || signature?.tag !== Tag.bitString || more.length > 0) return undefined;
  const [version, , key] = partsOf(info, Tag.sequence);
  if (key === undefined || !equal(version!.whole, REQUEST_VERSION) || !equal(algorithm!.whole, ALGORITHM))
    return undefined;
  // A bit string of whole bytes.
  if (!isP256(key.whole) || signature.content[0] !== 0) return undefined;
  const publicKey = createPublicKey({ key: Buffer.from(key.whole), format: 'der', type: 'spki' });
  return verify('sha256', info.whole, publicKey, signature.content.subarray(1)) ? new Uint8Array(key.whole) : undefined;
}

/** What is in an element; nothing unless it has this tag and is well-formed. */
function partsOf({ tag, content }: Element, expected: number): readonly Element[] {
  return (tag === expected ? readElements(content) : undefined) ?? [];
}

/** @throws SallyportError CERTIFICATE_MALFORMED (peer). */
function subjectOf(certificate: Uint8Array): Uint8Array {
  const [whole] = readElements(certificate) ?? [];
  const [tbs] = whole === undefined ? [] : partsOf(whole, Tag.sequence);
  const subject = tbs === undefined ? undefined : partsOf(tbs, Tag.sequence)[SUBJECT];
  if (subject !== undefined) return subject.whole;
  throw new SallyportError('peer', 'CERTIFICATE_MALFORMED', 'a certificate cannot be parsed');
}

/** Whether these bytes are the one SubjectPublicKeyInfo (RFC 5480 §2) of a key on P-256, its point not compressed. */
function isP256(spki: Uint8Array): boolean {
  try {
    const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
    const isOnCurve = key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
    return isOnCurve && equal(key.export({ format: 'der', type: 'spki' }), spki);
  } catch {
    return false;
  }
}

/** RFC 5280 §4.2.1.2, method 1: SHA-1 of the key's bit string, here the point of 65 bytes at the end. */
function keyId(spki: Uint8Array): Uint8Array {
  return createHash('sha1').update(spki.subarray(-P256_POINT)).digest();
}

function nameOf(commonName: string): Uint8Array {
  const attribute = sequence(COMMON_NAME, printableString(commonName.slice(0, MAX_COMMON_NAME)));
  return sequence(element(Tag.set, attribute));
}

function validity(wall: WallTime, lifetime: Duration): Uint8Array {
  return sequence(time(wallLater(wall, scale(BACKDATE, -1))), time(wallLater(wall, lifetime)));
}

function extension(id: string, isCritical: boolean, value: Uint8Array): Uint8Array {
  return sequence(oid(id), ...(isCritical ? [TRUE] : []), octetString(value));
}

/** A TBSCertificate of version 3 (RFC 5280 §4.1). */
function toBeSigned(
  issuer: Uint8Array,
  subject: Uint8Array,
  valid: Uint8Array,
  spki: Uint8Array,
  extensions: readonly Uint8Array[],
): Uint8Array {
  const serial = randomBytes(SERIAL_BYTES);
  // Positive, and in its shortest form.
  serial[0] = (serial[0]! & 0x3f) | 0x40;
  const version = element(context(0), smallInteger(2));
  const serialNumber = element(Tag.integer, serial);
  const all = element(context(3), sequence(...extensions));
  return sequence(version, serialNumber, ALGORITHM, issuer, valid, subject, spki, all);
}

/** What is signed, with algorithm and signature: a certificate (RFC 5280 §4.1) or a request (RFC 2986 §4.2). */
function signed(keyPem: string, content: Uint8Array): Uint8Array {
  return sequence(content, ALGORITHM, bitString(sign('sha256', content, createPrivateKey(keyPem))));
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
