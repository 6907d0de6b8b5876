/** Whether the peer of an agent's link is the connector it should be: by its certificate, the policy, and its proof. */
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import type { PeerIdentity } from '../identity/peer-identity.js';
import { type Identity, verifyProof } from '../policy/proof.js';
import type { PolicyView } from '../policy/view.js';
import type { QuicConnection } from '../quic/connection.js';
import { PROTOCOL_VERSION, type ToAgent } from '../tunnel/messages.js';

export type Welcome = Extract<ToAgent, { type: 'welcome' }>;

export interface AdmissionParts {
  readonly crypto: Crypto;
  readonly network: string;
  readonly policyKey: Uint8Array;
  readonly view: () => PolicyView | undefined;
  readonly parseCertificate: (der: Uint8Array) => PeerIdentity;
}

export class LinkAdmission {
  readonly #parts: AdmissionParts;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  /** Whether the certificate is this connector's, and the policy lets it serve something. */
  isConnector(connection: QuicConnection, connector: string): boolean {
    const certificate = this.#certificate(connection);
    const view = this.#parts.view();
    return (
      certificate !== undefined &&
      certificate.role === 'connector' &&
      certificate.name === connector &&
      certificate.network === this.#parts.network &&
      view !== undefined &&
      view.servicesOf(connector).length > 0
    );
  }

  /** Who welcomes on a connection that `isConnector`, or what is wrong with the welcome. */
  identify(connection: QuicConnection, welcome: Welcome, connector: string, session: string): Identity | string {
    const { crypto, policyKey, network, view } = this.#parts;
    if (welcome.version !== PROTOCOL_VERSION) return 'the connector speaks another version';
    if (welcome.session !== session) return 'the connector answered for another session';
    const certificate = this.#certificate(connection)!;
    try {
      const revocations = view()!.revocations;
      const identity = verifyProof(crypto, policyKey, network, welcome.proof, certificate.spki, { revocations });
      if (identity.role === 'connector' && identity.name === connector) return identity;
      return 'the connector’s proof names another node';
    } catch (error) {
      return error instanceof SallyportError
        ? `${error.code}: ${error.message}`
        : 'the connector’s proof does not hold';
    }
  }

  /** Whether the operator has revoked this invitation: the name of its connector may be another machine's by now. */
  isRevoked(invitationId: string): boolean {
    return this.#parts.view()?.isRevoked(invitationId) === true;
  }

  #certificate(connection: QuicConnection): PeerIdentity | undefined {
    const der = connection.peerCertificates[0];
    if (der === undefined) return undefined;
    try {
      return this.#parts.parseCertificate(der);
    } catch {
      return undefined;
    }
  }
}
