/**
 * How a relay without the CA's key gets its next certificate: it asks the relay that has it, with its present certificate and a
 * signature by its key.
 *
 *   envelope "renew-relay" {time, certificate} ─POST /api/v1/renew-relay─► certificate for the same key and name, for 90 d
 *
 * As RFC 7030 §4.2.2 re-enrols: the certificate that ends vouches for the next one.
 */
import type { WallTime } from '../base/time.js';
import { sealJson } from '../policy/envelope.js';
import type { RelayContact } from '../policy/relay-contact.js';
import { type CertificateOwner, checkCertificate } from './enrol.js';
import { tlsSigner } from './keys.js';

/**
 * @param certificatePem the relay's present certificate.
 * @param relays of the network; the first that issues certificates decides.
 * @throws SallyportError those of `askControl` and `checkCertificate`.
 */
export async function requestRelayRenewal(
  relay: Omit<CertificateOwner, 'role'>,
  certificatePem: string,
  relays: readonly RelayContact[],
  wall: WallTime,
): Promise<string> {
  const { network, name, keyPem, caPem } = relay;
  const target = { network, caPem, relays: relays.filter((one) => one.name !== name) };
  const request = { time: wall, certificate: certificatePem };
  const envelope = sealJson(tlsSigner(keyPem), 'renew-relay', network, request);
  const { askControl } = await import('./control-client.js');
  const { certificate } = await askControl(target, '/api/v1/renew-relay', envelope);
  checkCertificate(certificate, { network, name, keyPem, caPem, role: 'relay' }, wall);
  return certificate;
}
