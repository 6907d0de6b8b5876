/** Certificates as text and as bytes (RFC 7468 §5). */
import { X509Certificate } from 'node:crypto';
import { SallyportError } from '../base/error.js';

/** The first certificate of a PEM text, in DER. @throws SallyportError CERTIFICATE_MALFORMED (peer). */
export function certificateDer(pem: string): Uint8Array {
  return new Uint8Array(parse(pem).raw);
}

/** A certificate (DER) as PEM. @throws SallyportError CERTIFICATE_MALFORMED (peer). */
export function certificatePem(der: Uint8Array): string {
  return parse(der).toString();
}

function parse(certificate: string | Uint8Array): X509Certificate {
  try {
    return new X509Certificate(certificate);
  } catch (cause) {
    throw new SallyportError('peer', 'CERTIFICATE_MALFORMED', 'a certificate cannot be parsed', { cause });
  }
}
