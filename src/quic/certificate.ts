/**
 * What the endpoint itself looks at in a certificate that rustls has already verified: when it ends, and that it says what
 * it is for. (webpki accepts a certificate without extended key usage for either role; here it must be there, RFC 5280
 * §4.2.1.12.)
 */
import { X509Certificate } from 'node:crypto';
import { SallyportError } from '../base/error.js';
import { type WallTime, wallAt } from '../base/time.js';

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** When a certificate (DER or PEM) expires. @throws SallyportError CERTIFICATE_MALFORMED. */
export function certificateExpiry(certificate: Uint8Array | string): WallTime {
  return wallAt(Date.parse(parse(certificate).validTo));
}

/**
 * When a certificate expires that names the key usage of a server or of a client; undefined when it does not name it.
 * @throws SallyportError CERTIFICATE_MALFORMED.
 */
export function expiryAs(role: 'server' | 'client', certificate: Uint8Array): WallTime | undefined {
  const { keyUsage, validTo } = parse(certificate);
  // Node returns the extended key usage here, whatever the name says; undefined when there is none.
  const usage: readonly string[] | undefined = keyUsage;
  const isNamed = usage?.includes(role === 'server' ? SERVER_AUTH : CLIENT_AUTH) ?? false;
  return isNamed ? wallAt(Date.parse(validTo)) : undefined;
}

function parse(certificate: Uint8Array | string): X509Certificate {
  try {
    return new X509Certificate(certificate);
  } catch (cause) {
    throw new SallyportError('peer', 'CERTIFICATE_MALFORMED', 'a certificate cannot be parsed', { cause });
  }
}
