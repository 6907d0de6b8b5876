/**
 * An invitation: the operator's signed permission for one node to enrol under one name, role and set of addresses. Whoever
 * holds its invite private key may use it, once, until it expires.
 *
 *   envelope of kind `invitation` over
 *   {network, id (16 bytes, hex), name, role, groups, overlay4?, overlay6?, expiry (ms), inviteKey (base64, Ed25519)}
 */
import * as v from 'valibot';
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import { decodeBase64 } from './base64.js';
import { EpochMillis, InvitationId, Ipv4Text, Ipv6Text } from './document.js';
import { type Envelope, ed25519Verifier, open, parsePayload, parseWith, type Signer, sealJson } from './envelope.js';
import { Label, NODE_ROLES } from './names.js';

/** Raw length of an Ed25519 public key and of its seed, in bytes (RFC 8032 §5.1.5). */
export const ED25519_KEY_BYTES = 32;

/** Base64 of exactly `length` bytes. */
export const base64Bytes = (length: number) =>
  v.pipe(
    v.string(),
    v.check((text) => decodeBase64(text)?.length === length, `must be base64 of ${length} bytes`),
  );

const Schema = v.pipe(
  v.strictObject({
    network: Label,
    id: InvitationId,
    name: Label,
    role: v.picklist(NODE_ROLES),
    groups: v.pipe(v.array(Label), v.maxLength(256)),
    /** Overlay addresses: agents have both, connectors none. */
    overlay4: v.optional(Ipv4Text),
    overlay6: v.optional(Ipv6Text),
    /** The invitation may be used before that. */
    expiry: EpochMillis,
    /** Public half of the invite key, base64. */
    inviteKey: base64Bytes(ED25519_KEY_BYTES),
  }),
  v.check(
    (i) => (i.role === 'agent') === (i.overlay4 !== undefined && i.overlay6 !== undefined),
    'an agent has both overlay addresses, a connector none',
  ),
  v.check((i) => (i.overlay4 === undefined) === (i.overlay6 === undefined), 'has only one overlay address'),
);
export type Invitation = v.InferOutput<typeof Schema>;

export function sealInvitation(sign: Signer, invitation: Invitation): Envelope {
  const legal = parseWith(Schema, invitation, 'INVITATION_MALFORMED', 'the invitation');
  return sealJson(sign, 'invitation', legal.network, legal);
}

/**
 * Verifies and parses a signed invitation; says nothing about its expiry.
 * @throws SallyportError (peer) INVITATION_MALFORMED, INVITATION_TAMPERED, NETWORK_MISMATCH.
 */
export function openInvitation(crypto: Crypto, policyKey: Uint8Array, network: string, envelope: unknown): Invitation {
  const { bytes } = open(ed25519Verifier(crypto, policyKey), 'invitation', network, envelope, 'INVITATION');
  const invitation = parsePayload(Schema, bytes, 'INVITATION');
  if (invitation.network !== network) {
    throw new SallyportError('peer', 'NETWORK_MISMATCH', `the invitation is for ${invitation.network}, not ${network}`);
  }
  return invitation;
}
