/** A certificate of the network's CA like the present one of a node, but for a short time. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Duration, toMillis } from '../../src/base/time.js';
import { spkiOf } from '../../src/identity/keys.js';
import { ALGORITHM, importKeyPair, x509 } from '../../src/identity/x509.js';

/** In PEM; valid from now on for `life`, of which whole seconds count. */
export async function shortCertificate(relayDir: string, nodeDir: string, life: Duration): Promise<string> {
  const present = new x509.X509Certificate(readFileSync(join(nodeDir, 'cert.pem'), 'utf8'));
  const caKey = readFileSync(join(relayDir, 'ca-key.pem'), 'utf8');
  const now = Date.now();
  const certificate = await x509.X509CertificateGenerator.create({
    subject: present.subjectName,
    issuer: present.issuerName,
    notBefore: new Date(now),
    notAfter: new Date(now + toMillis(life)),
    signingAlgorithm: ALGORITHM,
    publicKey: present.publicKey,
    signingKey: (await importKeyPair(caKey, spkiOf(caKey))).privateKey,
    extensions: present.extensions,
  });
  return `${certificate.toString('pem')}\n`;
}
