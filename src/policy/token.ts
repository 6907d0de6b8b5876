/**
 * The join token: everything a node needs to enrol, as one line of text. It holds the invite private key, so it is a secret
 * until it is used or has expired; nothing may log it.
 *
 *   base64url( first 8 bytes of SHA-256(body) ‖ body )
 *   body = JSON {network, relays: [{name, quic, control}], ca (base64 DER), policyKey, invitation, inviteKey, services?}
 *
 * The checksum finds a token that was cut or mistyped; what protects the network is the signature of the invitation inside.
 *
 * RFC 4648 §5 (base64url).
 */
import * as v from 'valibot';
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import { decodeUtf8, encodeUtf8 } from '../base/utf8.js';
import { decodeBase64, decodeBase64Url, encodeBase64, encodeBase64Url } from './base64.js';
import { Envelope, signedMessage } from './envelope.js';
import { base64Bytes, ED25519_KEY_BYTES, type Invitation, openInvitation } from './invitation.js';
import { Label } from './names.js';
import { type RelayContact, RelayContacts } from './relay-contact.js';

const CHECKSUM_BYTES = 8;
/** Longest token in characters; argv, environment and files carry that without trouble. */
export const MAX_TOKEN_CHARACTERS = 64 * 1024;

const HINT = 'ask the operator for a new one: sallyport invite';

const Body = v.strictObject({
  network: Label,
  relays: RelayContacts,
  /** The network's CA certificate, DER in base64. */
  ca: v.pipe(
    v.string(),
    v.maxLength(8192),
    v.check((text) => decodeBase64(text) !== undefined, 'must be base64'),
  ),
  policyKey: base64Bytes(ED25519_KEY_BYTES),
  invitation: Envelope,
  /** Seed of the invite key. */
  inviteKey: base64Bytes(ED25519_KEY_BYTES),
  /** For connectors: backend address of each service, `id → PROTO://HOST:PORT`; a default that flags override. */
  services: v.optional(v.record(Label, v.pipe(v.string(), v.maxLength(300)))),
});
type Body = v.InferOutput<typeof Body>;

export interface JoinToken {
  readonly network: string;
  readonly relays: readonly RelayContact[];
  readonly ca: Uint8Array;
  readonly policyKey: Uint8Array;
  readonly invitationEnvelope: Body['invitation'];
  readonly invitation: Invitation;
  readonly inviteKey: Uint8Array;
  readonly services: Readonly<Record<string, string>>;
}

export function encodeToken(crypto: Crypto, token: Omit<JoinToken, 'invitation'>): string {
  const body: Body = {
    network: token.network,
    relays: [...token.relays],
    ca: encodeBase64(token.ca),
    policyKey: encodeBase64(token.policyKey),
    invitation: token.invitationEnvelope,
    inviteKey: encodeBase64(token.inviteKey),
    ...(Object.keys(token.services).length > 0 ? { services: token.services } : {}),
  };
  const bytes = encodeUtf8(JSON.stringify(body));
  const out = new Uint8Array(CHECKSUM_BYTES + bytes.length);
  out.set(crypto.sha256(bytes).subarray(0, CHECKSUM_BYTES));
  out.set(bytes, CHECKSUM_BYTES);
  return encodeBase64Url(out);
}

/**
 * Reads a join token; white space around it is allowed. Says nothing about its expiry (`token.invitation.expiry`).
 * @throws SallyportError (caller) TOKEN_MALFORMED: no token, or a part of one; TOKEN_TAMPERED: changed, or not signed by
 * the policy key it names.
 */
export function parseToken(crypto: Crypto, text: string): JoinToken {
  const trimmed = text.trim();
  const bytes = trimmed.length > MAX_TOKEN_CHARACTERS ? undefined : decodeBase64Url(trimmed);
  if (bytes === undefined || bytes.length <= CHECKSUM_BYTES) throw malformed('this is not a join token');
  const encoded = bytes.subarray(CHECKSUM_BYTES);
  const intact = crypto.equal(crypto.sha256(encoded).subarray(0, CHECKSUM_BYTES), bytes.subarray(0, CHECKSUM_BYTES));
  const body = parseBody(encoded);
  if (body === undefined) throw malformed('the join token is damaged: a part of it is missing or changed');
  if (!intact) throw tampered('the join token was changed after it was made');
  const policyKey = decodeBase64(body.policyKey)!;
  const inviteKey = decodeBase64(body.inviteKey)!;
  let invitation: Invitation;
  try {
    invitation = openInvitation(crypto, policyKey, body.network, body.invitation);
  } catch (cause) {
    throw tampered('the invitation in the join token is not signed by the policy key it names', cause);
  }
  const sample = signedMessage('enrol', body.network, crypto.sha256(encoded));
  const signature = crypto.ed25519Sign(inviteKey, sample);
  if (!crypto.ed25519Verify(decodeBase64(invitation.inviteKey)!, sample, signature)) {
    throw tampered('the key in the join token is not the key of its invitation');
  }
  return {
    network: body.network,
    relays: body.relays,
    ca: decodeBase64(body.ca)!,
    policyKey,
    invitationEnvelope: body.invitation,
    invitation,
    inviteKey,
    services: body.services ?? {},
  };
}

function parseBody(bytes: Uint8Array): Body | undefined {
  try {
    const result = v.safeParse(Body, JSON.parse(decodeUtf8(bytes)));
    return result.success ? result.output : undefined;
  } catch {
    return undefined;
  }
}

function malformed(message: string): SallyportError {
  return new SallyportError('caller', 'TOKEN_MALFORMED', message, { hint: HINT });
}

function tampered(message: string, cause?: unknown): SallyportError {
  return new SallyportError('caller', 'TOKEN_TAMPERED', message, { hint: HINT, cause });
}
