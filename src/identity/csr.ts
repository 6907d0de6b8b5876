/** Certificate requests (RFC 2986 §4), as nodes make them when they enrol and renew. */
import { spkiOf } from './keys.js';

export type CreateCsr = (keyPem: string, name: string) => Promise<string>;

/** A certificate request (PEM) that proves possession of the key; its names are for people, the CA ignores them. */
export async function createCsr(keyPem: string, name: string): Promise<string> {
  const { x509, ALGORITHM, importKeyPair } = await import('./x509.js');
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [name] }],
    keys: await importKeyPair(keyPem, spkiOf(keyPem)),
    signingAlgorithm: ALGORITHM,
  });
  return `${request.toString('pem')}\n`;
}
