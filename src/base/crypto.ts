/**
 * The cryptographic primitives the pure floors need, as one synchronous object. node:crypto stands behind it in `os`;
 * nothing of this is written by hand.
 */

export interface Crypto {
  sha256(data: Uint8Array): Uint8Array;
  hmacSha256(key: Uint8Array, data: Uint8Array): Uint8Array;
  hkdfExtractSha256(salt: Uint8Array, secret: Uint8Array): Uint8Array;
  hkdfExpandSha256(prk: Uint8Array, info: Uint8Array, length: number): Uint8Array;
  /** One AES-128 block in ECB mode (QUIC header protection, RFC 9001 §5.4.3). */
  aes128EcbBlock(key: Uint8Array, block: Uint8Array): Uint8Array;
  /** AEAD open; undefined when the tag does not match. */
  aes128GcmOpen(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array | undefined;
  /** `seed` is the 32-byte Ed25519 private key (RFC 8032); returns the 64-byte signature. */
  ed25519Sign(seed: Uint8Array, message: Uint8Array): Uint8Array;
  /** `publicKey` is 32 bytes. False for any malformed input. */
  ed25519Verify(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
  /** Verifies with a key given as DER SubjectPublicKeyInfo (P-256 or Ed25519). False for any malformed input. */
  spkiVerify(spki: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
  equal(a: Uint8Array, b: Uint8Array): boolean;
}
