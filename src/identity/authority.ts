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
 *
 * The library is loaded by the first function that is called: a start that issues nothing does not wait for it.
 */
import type { webcrypto } from 'node:crypto';
import { SallyportError } from '../base/error.js';
import { Days, type Duration, Minutes, scale, type WallTime, wallLater } from '../base/time.js';
import { dnsName, type Role, spiffeId } from '../policy/names.js';
import { certificateDer } from './certificate-pem.js';
import { generateTlsKey, spkiOf } from './keys.js';

/** Lifetimes (protocol §9): short for nodes, which renew by themselves; a relay's renewal restarts nothing either. */
export const NODE_CERTIFICATE_LIFETIME = Days(7);
export const RELAY_CERTIFICATE_LIFETIME = Days(90);
export const CA_CERTIFICATE_LIFETIME = Days(3650);
/** Certificates begin this much in the past: clocks of the two ends differ. */
export const BACKDATE = Minutes(5);

export interface CaFiles {
  readonly certificatePem: string;
  readonly keyPem: string;
}

/** A new CA for a network. */
export async function createCa(network: string, wall: WallTime): Promise<CaFiles> {
  const { x509, ALGORITHM, importKeyPair } = await import('./x509.js');
  const keyPem = generateTlsKey();
  const keys = await importKeyPair(keyPem, spkiOf(keyPem));
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [`Sallyport CA of ${network}`] }],
    notBefore: date(wallLater(wall, scale(BACKDATE, -1))),
    notAfter: date(wallLater(wall, CA_CERTIFICATE_LIFETIME)),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificatePem: `${certificate.toString('pem')}\n`, keyPem };
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
  readonly #certificate: Uint8Array;
  readonly #keyPem: string;

  /** @throws SallyportError CERTIFICATE_MALFORMED (peer). */
  constructor(network: string, files: CaFiles) {
    this.network = network;
    this.certificatePem = files.certificatePem;
    this.#certificate = certificateDer(files.certificatePem);
    this.#keyPem = files.keyPem;
  }

  /**
   * Issues a certificate (PEM) that begins now.
   * @throws SallyportError CSR_MALFORMED (peer) when the key is not P-256.
   */
  async issue(request: CertificateRequest, wall: WallTime): Promise<string> {
    const { x509, ALGORITHM, importKeyPair } = await import('./x509.js');
    const { role, name } = request;
    const issuer = new x509.X509Certificate(this.#certificate.slice().buffer);
    const { privateKey } = await importKeyPair(this.#keyPem, spkiOf(this.#keyPem));
    const publicKey = await importPublic(request.spki);
    const usages = [x509.ExtendedKeyUsage.clientAuth];
    if (role !== 'agent') usages.unshift(x509.ExtendedKeyUsage.serverAuth);
    const certificate = await x509.X509CertificateGenerator.create({
      subject: [{ CN: [dnsName(this.network, role, name).slice(0, 64)] }],
      issuer: issuer.subjectName,
      notBefore: date(wallLater(wall, scale(BACKDATE, -1))),
      notAfter: date(wallLater(wall, lifetimeOf(role))),
      signingAlgorithm: ALGORITHM,
      publicKey,
      signingKey: privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(usages),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: spiffeId(this.network, role, name) },
          { type: 'dns', value: dnsName(this.network, role, name) },
          ...request.addresses.map((value) => ({ type: 'ip' as const, value })),
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
        await x509.SubjectKeyIdentifierExtension.create(publicKey),
      ],
    });
    return `${certificate.toString('pem')}\n`;
  }
}

export function lifetimeOf(role: Role): Duration {
  return role === 'relay' ? RELAY_CERTIFICATE_LIFETIME : NODE_CERTIFICATE_LIFETIME;
}

/**
 * The key (DER SubjectPublicKeyInfo) of a certificate request whose own signature is right.
 * @throws SallyportError CSR_MALFORMED (peer).
 */
export async function verifyCsr(pem: string): Promise<Uint8Array> {
  const { x509 } = await import('./x509.js');
  try {
    const request = new x509.Pkcs10CertificateRequest(pem);
    if (await request.verify()) return new Uint8Array(request.publicKey.rawData);
  } catch {
    // Whatever is wrong with its bytes, the answer is the same.
  }
  throw new SallyportError('peer', 'CSR_MALFORMED', 'the certificate request is not valid');
}

async function importPublic(spki: Uint8Array): Promise<webcrypto.CryptoKey> {
  const { x509, ALGORITHM } = await import('./x509.js');
  try {
    return await new x509.PublicKey(spki.slice().buffer).export(ALGORITHM, ['verify']);
  } catch (cause) {
    throw new SallyportError('peer', 'CSR_MALFORMED', 'the key of a certificate must be P-256', { cause });
  }
}

/** Certificates count whole seconds (RFC 5280 §4.1.2.5). */
function date(wall: WallTime): Date {
  return new Date(Math.floor(wall / 1000) * 1000);
}
