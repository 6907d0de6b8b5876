import { generateKeyPairSync, sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { SystemClock } from '../../src/os/clock.js';
import { createCrypto } from '../../src/os/crypto.js';
import { SystemEntropy } from '../../src/os/entropy.js';

const crypto = createCrypto();
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));
const text = (bytes: Uint8Array | undefined): string => Buffer.from(bytes!).toString('hex');

describe('cryptography', () => {
  it('makes SHA-256 digests (FIPS 180-4 example "abc")', () => {
    expect(text(crypto.sha256(Buffer.from('abc')))).toBe(
      'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
  });

  it('derives keys (RFC 5869 A.1 and A.2)', () => {
    const prk = crypto.hkdfExtractSha256(hex('000102030405060708090a0b0c'), hex('0b'.repeat(22)));
    expect(text(prk)).toBe('077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5');
    expect(text(crypto.hkdfExpandSha256(prk, hex('f0f1f2f3f4f5f6f7f8f9'), 42))).toBe(
      '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865',
    );
    const range = (from: number, to: number): Uint8Array =>
      Uint8Array.from({ length: to - from + 1 }, (_, i) => from + i);
    const long = crypto.hkdfExtractSha256(range(0x60, 0xaf), range(0, 0x4f));
    expect(text(crypto.hkdfExpandSha256(long, range(0xb0, 0xff), 82))).toBe(
      'b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87',
    );
    expect(() => crypto.hkdfExpandSha256(prk, prk, 8161)).toThrow(expect.objectContaining({ code: 'HKDF_LENGTH' }));
  });

  it('enciphers one block (FIPS 197 C.1)', () => {
    const block = crypto.aes128EcbBlock(
      hex('000102030405060708090a0b0c0d0e0f'),
      hex('00112233445566778899aabbccddeeff'),
    );
    expect(text(block)).toBe('69c4e0d86a7b0430d8cdb78070b4c55a');
  });

  it('opens AES-GCM, and nothing that was tampered with (GCM specification, test case 4)', () => {
    const key = hex('feffe9928665731c6d6a8f9467308308');
    const nonce = hex('cafebabefacedbaddecaf888');
    const aad = hex('feedfacedeadbeeffeedfacedeadbeefabaddad2');
    const sealed = hex(
      '42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47',
    );
    const plain = crypto.aes128GcmOpen(key, nonce, aad, sealed);
    expect(text(plain)).toBe(
      'd9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39',
    );
    for (const at of [0, sealed.length - 1]) {
      const forged = sealed.slice();
      forged[at]! ^= 1;
      expect(crypto.aes128GcmOpen(key, nonce, aad, forged)).toBeUndefined();
    }
    expect(crypto.aes128GcmOpen(key, nonce, aad, sealed.subarray(0, 15))).toBeUndefined();
  });

  it('signs and verifies with Ed25519 (RFC 8032 §7.1, test 2)', () => {
    const seed = hex('4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb');
    const key = hex('3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c');
    const signature = crypto.ed25519Sign(seed, hex('72'));
    expect(text(signature)).toBe(
      '92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00',
    );
    expect(crypto.ed25519Verify(key, hex('72'), signature)).toBe(true);
    expect(crypto.ed25519Verify(key, hex('73'), signature)).toBe(false);
    expect(crypto.ed25519Verify(key, hex('72'), signature.subarray(1))).toBe(false);
    expect(crypto.ed25519Verify(key.subarray(1), hex('72'), signature)).toBe(false);
    expect(() => crypto.ed25519Sign(seed.subarray(1), seed)).toThrow(expect.objectContaining({ code: 'ED25519_SEED' }));
  });

  it('verifies with a public key in SubjectPublicKeyInfo, of P-256 and Ed25519 only', () => {
    const message = Buffer.from('message');
    const check = (
      pair: { publicKey: import('node:crypto').KeyObject; privateKey: import('node:crypto').KeyObject },
      hash: string | null,
    ): boolean =>
      crypto.spkiVerify(
        pair.publicKey.export({ format: 'der', type: 'spki' }),
        message,
        sign(hash, message, pair.privateKey),
      );
    const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    expect(check(p256, 'sha256')).toBe(true);
    expect(check(p256, 'sha384')).toBe(false);
    expect(check(generateKeyPairSync('ed25519'), null)).toBe(true);
    expect(check(generateKeyPairSync('ec', { namedCurve: 'P-384' }), 'sha256')).toBe(false);
    expect(check(generateKeyPairSync('rsa', { modulusLength: 2048 }), 'sha256')).toBe(false);
    expect(crypto.spkiVerify(new Uint8Array(10), message, message)).toBe(false);
  });

  it('compares in constant time, also what differs in length', () => {
    expect(crypto.equal(hex('0102'), hex('0102'))).toBe(true);
    expect(crypto.equal(hex('0102'), hex('0103'))).toBe(false);
    expect(crypto.equal(hex('0102'), hex('010203'))).toBe(false);
  });
});

describe('entropy', () => {
  it('gives every request fresh bytes, small and large', () => {
    const entropy = new SystemEntropy();
    const seen = new Set<string>();
    for (let i = 0; i < 3000; i++) {
      const bytes = new Uint8Array([16, 24, 256, 1000][i % 4]!);
      entropy.fill(bytes);
      seen.add(text(bytes.subarray(0, 16)));
      seen.add(text(bytes.subarray(bytes.length - 8)));
    }
    expect(seen.size).toBe(6000);
  });

  it('gives unsigned 32-bit numbers with every bit in use', () => {
    const entropy = new SystemEntropy();
    let ones = 0;
    let zeros = 0;
    for (let i = 0; i < 5000; i++) {
      const n = entropy.uint32();
      expect(n >>> 0).toBe(n);
      ones |= n;
      zeros |= ~n;
    }
    expect([ones >>> 0, zeros >>> 0]).toEqual([0xffffffff, 0xffffffff]);
  });
});

describe('clocks', () => {
  it('read the kernel’s monotonic clock and the wall clock', () => {
    const clock = new SystemClock();
    const before = Number(process.hrtime.bigint()) / 1_000;
    const now = clock.now();
    const after = Number(process.hrtime.bigint()) / 1_000;
    // The origin is taken from two readings a few microseconds apart.
    expect(now).toBeGreaterThan(before - 1_000);
    expect(now).toBeLessThan(after + 1_000);
    expect(clock.now()).toBeGreaterThanOrEqual(now);
    const wallBefore = Date.now();
    const wall = clock.wall();
    expect(wall).toBeGreaterThanOrEqual(wallBefore);
    expect(wall).toBeLessThanOrEqual(Date.now());
  });
});
