/**
 * The one place where @peculiar/x509 is loaded: it needs metadata reflection before anything else, and WebCrypto. It takes
 * 150 ms and 5 MB, so only what issues or asks for a certificate imports this module, and only then (`authority.ts`, `csr.ts`).
 */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';

x509.cryptoProvider.set(webcrypto);

/** ECDSA on P-256 with SHA-256 (RFC 5758 §3.2), the only algorithm the network's certificates use. */
export const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

export { x509 };

export function pemToDer(pem: string): Uint8Array {
  return new Uint8Array(x509.PemConverter.decodeFirst(pem));
}

/** A P-256 private key in PEM as WebCrypto takes it. */
export async function importKeyPair(pem: string, spki: Uint8Array): Promise<CryptoKeyPair> {
  const pkcs8 = pemToDer(pem);
  return {
    privateKey: await webcrypto.subtle.importKey('pkcs8', pkcs8, ALGORITHM, false, ['sign']),
    publicKey: await webcrypto.subtle.importKey('spki', spki, ALGORITHM, true, ['verify']),
  };
}

type CryptoKeyPair = webcrypto.CryptoKeyPair;
