/**
 * Certificate requests (RFC 2986 §4) as nodes make them: a name for people, the key, and the key's own signature over both. Written by
 * hand, because it is all that a node would need a library for, which takes 150 ms to load and 5 MB for as long as the node lives.
 *
 *   CertificationRequest { CertificationRequestInfo { 0, name, spki, [0] {} }, ecdsa-with-SHA256, signature }       DER (X.690 §8, §10)
 */
import { encodeUtf8 } from '../base/utf8.js';
import { spkiOf, tlsSigner } from './keys.js';

const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OBJECT_IDENTIFIER = 0x06;
const UTF8_STRING = 0x0c;
const SEQUENCE = 0x30;
const SET = 0x31;
/** Attributes: [0] IMPLICIT SET, of which there are none. */
const ATTRIBUTES = 0xa0;

/** 2.5.4.3 (RFC 5280 §A.1). */
const COMMON_NAME = der(OBJECT_IDENTIFIER, Uint8Array.of(0x55, 0x04, 0x03));
/** 1.2.840.10045.4.3.2 (RFC 5758 §3.2). */
const ECDSA_WITH_SHA256 = der(OBJECT_IDENTIFIER, Uint8Array.of(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02));

/** A certificate request (PEM) that proves possession of the key (PEM, P-256); its name is for people, the CA ignores it. */
export function createCsr(keyPem: string, name: string): string {
  const commonName = der(SEQUENCE, COMMON_NAME, der(UTF8_STRING, encodeUtf8(name)));
  const info = der(
    SEQUENCE,
    der(INTEGER, Uint8Array.of(0)),
    der(SEQUENCE, der(SET, commonName)),
    spkiOf(keyPem),
    der(ATTRIBUTES),
  );
  // No bit of the last byte is unused.
  const signature = der(BIT_STRING, Uint8Array.of(0), tlsSigner(keyPem)(info));
  return pem(der(SEQUENCE, info, der(SEQUENCE, ECDSA_WITH_SHA256), signature));
}

/** One value: its tag, its length in as few bytes as it takes, what it holds. */
function der(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  const length = content.reduce((sum, part) => sum + part.length, 0);
  return Buffer.concat([Uint8Array.of(tag, ...lengthOctets(length)), ...content]);
}

function lengthOctets(length: number): readonly number[] {
  if (length < 0x80) return [length];
  const octets: number[] = [];
  for (let rest = length; rest > 0; rest >>>= 8) octets.unshift(rest & 0xff);
  return [0x80 | octets.length, ...octets];
}

/** RFC 7468 §7. */
function pem(request: Uint8Array): string {
  const lines = Buffer.from(request).toString('base64').replace(/.{64}/g, '$&\n').trimEnd();
  return `-----BEGIN CERTIFICATE REQUEST-----\n${lines}\n-----END CERTIFICATE REQUEST-----\n`;
}
