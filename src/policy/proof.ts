/**
 * The enrolment proof: that the operator invited this node and that the node's TLS key is the one the invitation was used
 * for. It travels in `hello` and `welcome`; each end checks it against the policy key and the TLS key in use, so no
 * certificate alone, whoever issued it, lets anybody in.
 *
 *   policy key ──signs──► invitation {…, invite key} ──invite key signs──► first TLS key ──signs──► next … (≤ 8 steps)
 *   {invitation: envelope, spki: base64, signature: base64, steps: [{spki, signature}, …]}
 *
 *   signature: kind `enrol` over the first SPKI, by the invite key; a step's: kind `rotate` over its SPKI, by the key before.
 *
 * RFC 5280 §4.1.2.7 (SubjectPublicKeyInfo, DER).
 */
import * as v from 'valibot';
import { IpAddress } from '../base/address.js';
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import type { WallTime } from '../base/time.js';
import { decodeBase64, encodeBase64 } from './base64.js';
import { Envelope, parseWith, type Signer, signedMessage } from './envelope.js';
import { openInvitation } from './invitation.js';
import type { NodeRole } from './names.js';

/** Key rotations one proof may carry; after that the node is invited anew. */
export const MAX_ROTATIONS = 8;
/** Longest base64 text of a SubjectPublicKeyInfo or a signature: P-256 and Ed25519 need far less. */
const MAX_TEXT = 400;

const base64 = v.pipe(v.string(), v.maxLength(MAX_TEXT));
export const Proof = v.strictObject({
  invitation: Envelope,
  spki: base64,
  signature: base64,
  steps: v.pipe(v.array(v.strictObject({ spki: base64, signature: base64 })), v.maxLength(MAX_ROTATIONS)),
});
export type Proof = v.InferOutput<typeof Proof>;

/** Who a node is, by the operator's signature. */
export interface Identity {
  readonly network: string;
  readonly role: NodeRole;
  readonly name: string;
  readonly groups: readonly string[];
  /** Agents have overlay addresses, connectors none. */
  readonly overlay4: IpAddress | undefined;
  readonly overlay6: IpAddress | undefined;
  /** 32 hex digits. */
  readonly invitationId: string;
  /** Key rotations since enrolment: of two keys of one invitation the one with more steps is the newer. */
  readonly rotations: number;
}

export interface ProofChecks {
  /** Given at enrolment only: an invitation must be used before it expires, and counts for good afterwards. */
  readonly wallNow?: WallTime;
  /** Invitation ids the current policy revokes. */
  readonly revocations?: ReadonlySet<string>;
}

/** A proof for a TLS key, made with the invite key. `spki` is DER. */
export function makeProof(signWithInviteKey: Signer, network: string, invitation: Envelope, spki: Uint8Array): Proof {
  const signature = signWithInviteKey(signedMessage('enrol', network, spki));
  return { invitation, spki: encodeBase64(spki), signature: encodeBase64(signature), steps: [] };
}

/**
 * The proof for a new TLS key, made with the present one.
 * @throws SallyportError PROOF_TOO_LONG (caller) after `MAX_ROTATIONS`.
 */
export function rotateProof(signWithTlsKey: Signer, network: string, proof: Proof, newSpki: Uint8Array): Proof {
  if (proof.steps.length >= MAX_ROTATIONS) {
    throw new SallyportError('caller', 'PROOF_TOO_LONG', `the key was changed ${MAX_ROTATIONS} times`, {
      hint: 'invite the node anew',
    });
  }
  const signature = signWithTlsKey(signedMessage('rotate', network, newSpki));
  return { ...proof, steps: [...proof.steps, { spki: encodeBase64(newSpki), signature: encodeBase64(signature) }] };
}

/**
 * Verifies a proof for the TLS key of the connection it came over (`spkiInUse`, DER).
 * @throws SallyportError (peer) PROOF_MALFORMED, INVITATION_MALFORMED, INVITATION_TAMPERED, NETWORK_MISMATCH,
 * INVITATION_EXPIRED, INVITATION_REVOKED, PROOF_TAMPERED (a signature in the chain is wrong), PROOF_KEY_MISMATCH (the chain
 * ends at another key).
 */
export function verifyProof(
  crypto: Crypto,
  policyKey: Uint8Array,
  network: string,
  proof: unknown,
  spkiInUse: Uint8Array,
  checks: ProofChecks = {},
): Identity {
  const claimed = parseWith(Proof, proof, 'PROOF_MALFORMED', 'the enrolment proof');
  const invitation = openInvitation(crypto, policyKey, network, claimed.invitation);
  let spki = bytesOf(claimed.spki);
  const inviteKey = bytesOf(invitation.inviteKey);
  if (!crypto.ed25519Verify(inviteKey, signedMessage('enrol', network, spki), bytesOf(claimed.signature))) {
    throw new SallyportError(
      'peer',
      'PROOF_TAMPERED',
      `the proof of ${invitation.name} was not made with its invite key`,
    );
  }
  for (const step of claimed.steps) {
    const next = bytesOf(step.spki);
    if (!crypto.spkiVerify(spki, signedMessage('rotate', network, next), bytesOf(step.signature))) {
      throw new SallyportError(
        'peer',
        'PROOF_TAMPERED',
        `a key change in the proof of ${invitation.name} is not signed`,
      );
    }
    spki = next;
  }
  if (!crypto.equal(spki, spkiInUse)) {
    throw new SallyportError('peer', 'PROOF_KEY_MISMATCH', `the proof of ${invitation.name} is for another TLS key`);
  }
  if (checks.wallNow !== undefined && checks.wallNow >= invitation.expiry) {
    throw new SallyportError('peer', 'INVITATION_EXPIRED', `the invitation of ${invitation.name} has expired`);
  }
  if (checks.revocations?.has(invitation.id)) {
    throw new SallyportError('peer', 'INVITATION_REVOKED', `the invitation of ${invitation.name} is revoked`);
  }
  return {
    network,
    role: invitation.role,
    name: invitation.name,
    groups: invitation.groups,
    overlay4: invitation.overlay4 === undefined ? undefined : IpAddress.parse(invitation.overlay4),
    overlay6: invitation.overlay6 === undefined ? undefined : IpAddress.parse(invitation.overlay6),
    invitationId: invitation.id,
    rotations: claimed.steps.length,
  };
}

function bytesOf(text: string): Uint8Array {
  const bytes = decodeBase64(text);
  if (bytes === undefined) throw new SallyportError('peer', 'PROOF_MALFORMED', 'the enrolment proof is not base64');
  return bytes;
}
