/**
 * The `Crypto` of the pure floors over node:crypto.
 *
 * RFC 5869 (HKDF; node:crypto has no expand-only call, so §2.3 is spelled out over its HMAC), RFC 8032 (Ed25519),
 * RFC 8410 §7 (Ed25519 PKCS #8), RFC 5480 (P-256 SubjectPublicKeyInfo), RFC 3279 §2.2.3 (ECDSA signatures in DER).
 */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  sign,
  timingSafeEqual,
  verify,
} from 'node:crypto';
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';

/** Bytes of a SHA-256 digest. */
const SHA256_LENGTH = 32;
/** RFC 5869 §2.3: the output is at most 255 blocks. */
const HKDF_MAX_LENGTH = 255 * SHA256_LENGTH;
/** Bytes of an AES-GCM tag (RFC 9001 §5.3). */
const GCM_TAG_LENGTH = 16;
const ED25519_KEY_LENGTH = 32;
const ED25519_SIGNATURE_LENGTH = 64;

/** DER in front of an Ed25519 seed in PKCS #8, and of an Ed25519 public key in SubjectPublicKeyInfo (RFC 8410 §4, §7). */
const ED25519_PKCS8_PREFIX = Uint8Array.from([0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20]);
const ED25519_SPKI_PREFIX = Uint8Array.from([0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0]);

/** The system's cryptography. Stateless: one object may serve a whole thread. */
export function createCrypto(): Crypto {
  return new NodeCrypto();
}

class NodeCrypto implements Crypto {
  sha256(data: Uint8Array): Uint8Array {
    return createHash('sha256').update(data).digest();
  }

  hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array {
    return createHmac('sha256', key).update(data).digest();
  }

  hkdfExtractSha256(salt: Uint8Array, secret: Uint8Array): Uint8Array {
    return this.hmacSha256(salt, secret);
  }

  /** @throws SallyportError HKDF_LENGTH (caller) above 8160 bytes. */
  hkdfExpandSha256(prk: Uint8Array, info: Uint8Array, length: number): Uint8Array {
    if (!Number.isInteger(length) || length < 0 || length > HKDF_MAX_LENGTH) {
      throw new SallyportError('caller', 'HKDF_LENGTH', `HKDF cannot make ${length} bytes`);
    }
    const out = new Uint8Array(length);
    let block: Uint8Array = new Uint8Array(0);
    for (let made = 0, counter = 1; made < length; made += SHA256_LENGTH, counter++) {
      block = createHmac('sha256', prk).update(block).update(info).update(Uint8Array.of(counter)).digest();
      out.set(made + SHA256_LENGTH <= length ? block : block.subarray(0, length - made), made);
    }
    return out;
  }

  aes128EcbBlock(key: Uint8Array, block: Uint8Array): Uint8Array {
    const cipher = createCipheriv('aes-128-ecb', key, null);
    cipher.setAutoPadding(false);
    return Buffer.concat([cipher.update(block), cipher.final()]);
  }

  aes128GcmOpen(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    if (sealed.length < GCM_TAG_LENGTH) return undefined;
    const decipher = createDecipheriv('aes-128-gcm', key, nonce, { authTagLength: GCM_TAG_LENGTH });
    decipher.setAAD(aad);
    decipher.setAuthTag(sealed.subarray(sealed.length - GCM_TAG_LENGTH));
    const plain = decipher.update(sealed.subarray(0, sealed.length - GCM_TAG_LENGTH));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return plain;
  }

  /** @throws SallyportError ED25519_SEED (caller) when the seed is not 32 bytes. */
  ed25519Sign(seed: Uint8Array, message: Uint8Array): Uint8Array {
    if (seed.length !== ED25519_KEY_LENGTH) {
      throw new SallyportError('caller', 'ED25519_SEED', `an Ed25519 private key has 32 bytes, not ${seed.length}`);
    }
    const key = createPrivateKey({ key: Buffer.concat([ED25519_PKCS8_PREFIX, seed]), format: 'der', type: 'pkcs8' });
    return sign(null, message, key);
  }

  ed25519Verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
    if (publicKey.length !== ED25519_KEY_LENGTH || signature.length !== ED25519_SIGNATURE_LENGTH) return false;
    return this.spkiVerify(Buffer.concat([ED25519_SPKI_PREFIX, publicKey]), message, signature);
  }

  /** P-256 signatures are ECDSA with SHA-256 in DER, as in TLS and X.509; any other key type is refused. */
  spkiVerify(spki: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
    try {
      const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' });
      if (key.asymmetricKeyType === 'ed25519') return verify(null, message, key, signature);
      return isP256(key) && verify('sha256', message, key, signature);
    } catch {
      return false;
    }
  }

  equal(a: Uint8Array, b: Uint8Array): boolean {
    return a.length === b.length && timingSafeEqual(a, b);
  }
}

function isP256(key: KeyObject): boolean {
  return key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1';
}
