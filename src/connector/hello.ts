/** Who says hello on a link, by certificate and proof; nothing that the hello itself says of its sender is believed. */
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import type { WallTime } from '../base/time.js';
import type { PeerIdentity } from '../identity/peer-identity.js';
import type { PolicyKeeper } from '../policy/keeper.js';
import { type Identity, verifyProof } from '../policy/proof.js';
import { PROTOCOL_VERSION, type ToConnector } from '../tunnel/messages.js';

export type Hello = Extract<ToConnector, { type: 'hello' }>;

export interface HelloParts {
  readonly policy: PolicyKeeper;
  readonly policyKey: Uint8Array;
  readonly network: string;
  readonly crypto: Crypto;
  readonly wall: () => WallTime;
}

/** The agent that says this hello, or the code of why it is refused. */
export function identify(parts: HelloParts, certificate: PeerIdentity, hello: Hello): Identity | string {
  const { crypto, policyKey, network, policy, wall } = parts;
  if (hello.version !== PROTOCOL_VERSION) return 'VERSION';
  const { view } = policy;
  if (view === undefined || !policy.admits(wall())) return 'POLICY_EXPIRED';
  let identity: Identity;
  try {
    const { revocations } = view;
    identity = verifyProof(crypto, policyKey, network, hello.proof, certificate.spki, { revocations });
  } catch (error) {
    return error instanceof SallyportError ? error.code : 'PROOF_MALFORMED';
  }
  return identity.role === 'agent' && identity.name === certificate.name ? identity : 'IDENTITY_MISMATCH';
}
