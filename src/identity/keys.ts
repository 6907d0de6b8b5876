/**
 * The keys of a network: TLS keys (ECDSA P-256, PKCS #8 in PEM) and signing keys (Ed25519: policy and invite keys).
 *
 * RFC 5208 / RFC 5958 (PKCS #8), RFC 5480 §2.1.1 (P-256), RFC 8032 (Ed25519), RFC 8037 §2 (its raw form in a JWK).
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { SallyportError } from '../base/error.js';
import type { Signer } from '../policy/envelope.js';

export interface SigningKey {
  /** 32 bytes, secret. */
  readonly seed: Uint8Array;
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** A new TLS private key as PEM. */
export function generateTlsKey(): string {
  return pem(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
}

/** DER SubjectPublicKeyInfo of a private key in PEM. @throws SallyportError KEY_UNREADABLE (environment). */
export function spkiOf(keyPem: string): Uint8Array {
  return new Uint8Array(createPublicKey(parsePrivate(keyPem)).export({ type: 'spki', format: 'der' }));
}

/** Signs as TLS and X.509 do with this key: ECDSA with SHA-256, DER. */
export function tlsSigner(keyPem: string): Signer {
  const key = parsePrivate(keyPem);
  return (message) => sign('sha256', message, key);
}

export function generateSigningKey(): SigningKey {
  return rawEd25519(generateKeyPairSync('ed25519').privateKey);
}

export function signingKeyToPem(key: SigningKey): string {
  const encode = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url');
  const jwk = { kty: 'OKP', crv: 'Ed25519', d: encode(key.seed), x: encode(key.publicKey) };
  return pem(createPrivateKey({ key: jwk, format: 'jwk' }));
}

/** @throws SallyportError KEY_UNREADABLE (environment) when it is no Ed25519 private key. */
export function signingKeyFromPem(text: string): SigningKey {
  const key = parsePrivate(text);
  if (key.asymmetricKeyType !== 'ed25519') {
    throw new SallyportError('environment', 'KEY_UNREADABLE', 'this is not an Ed25519 private key');
  }
  return rawEd25519(key);
}

export function ed25519Signer(key: SigningKey): Signer {
  const secret = parsePrivate(signingKeyToPem(key));
  return (message) => sign(null, message, secret);
}

function rawEd25519(key: KeyObject): SigningKey {
  const { d, x } = key.export({ format: 'jwk' });
  return {
    seed: new Uint8Array(Buffer.from(d as string, 'base64url')),
    publicKey: new Uint8Array(Buffer.from(x as string, 'base64url')),
  };
}

function pem(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }) as string;
}

function parsePrivate(text: string): KeyObject {
  try {
    return createPrivateKey(text);
  } catch (cause) {
    throw new SallyportError('environment', 'KEY_UNREADABLE', 'this is not a private key in PEM', { cause });
  }
}
