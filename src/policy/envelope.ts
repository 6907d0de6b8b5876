/**
 * A signed envelope: exact bytes and an Ed25519 signature that names what kind of thing they are and for which network.
 * The bytes are parsed only after the signature has been checked.
 *
 *   {"kind": KIND, "payload": base64(bytes), "signature": base64(64 bytes)}
 *   signed: "sallyport/" KIND "/1" 00 ‖ NETWORK ‖ bytes
 *
 * RFC 8032 §5.1 (Ed25519), RFC 4648 §4.
 */
import * as v from 'valibot';
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import { decodeUtf8, encodeUtf8 } from '../base/utf8.js';
import { decodeBase64, encodeBase64 } from './base64.js';

/** What a signature of the network can be about; a signature of one kind never verifies as another. */
export const KINDS = ['policy', 'invitation', 'enrol', 'rotate', 'renew', 'renew-relay'] as const;
export type Kind = (typeof KINDS)[number];

/** Longest payload of an envelope in bytes: the limit of a policy push (8 MiB of JSON) less base64's third. */
export const MAX_PAYLOAD_BYTES = 6 * 1024 * 1024;

export const Envelope = v.strictObject({
  kind: v.picklist(KINDS),
  payload: v.pipe(v.string(), v.maxLength(Math.ceil(MAX_PAYLOAD_BYTES / 3) * 4)),
  signature: v.pipe(v.string(), v.maxLength(200)),
});
export type Envelope = v.InferOutput<typeof Envelope>;

/** Signs a whole message; the private key stays with whoever made the function. */
export type Signer = (message: Uint8Array) => Uint8Array;

/** The bytes a signature covers. */
export function signedMessage(kind: Kind, network: string, bytes: Uint8Array): Uint8Array {
  const head = encodeUtf8(`sallyport/${kind}/1\0${network}`);
  const message = new Uint8Array(head.length + bytes.length);
  message.set(head);
  message.set(bytes, head.length);
  return message;
}

export function seal(sign: Signer, kind: Kind, network: string, payload: Uint8Array): Envelope {
  return { kind, payload: encodeBase64(payload), signature: encodeBase64(sign(signedMessage(kind, network, payload))) };
}

/** Seals a value as JSON. */
export function sealJson(sign: Signer, kind: Kind, network: string, value: unknown): Envelope {
  return seal(sign, kind, network, encodeUtf8(JSON.stringify(value)));
}

/** Checks one signature over one message; false for anything malformed. */
export type Verifier = (message: Uint8Array, signature: Uint8Array) => boolean;

export function ed25519Verifier(crypto: Crypto, publicKey: Uint8Array): Verifier {
  return (message, signature) => crypto.ed25519Verify(publicKey, message, signature);
}

/** The error codes of one kind of signed thing: `POLICY_MALFORMED` and `POLICY_TAMPERED`, and so on. */
export type CodePrefix = 'POLICY' | 'INVITATION' | 'RENEWAL';

/**
 * The payload of an envelope whose signature is right.
 * @throws SallyportError (peer) `…_MALFORMED` when it is no envelope of this kind, `…_TAMPERED` when the signature is wrong.
 */
export function open(
  verify: Verifier,
  kind: Kind,
  network: string,
  envelope: unknown,
  code: CodePrefix,
): { readonly bytes: Uint8Array; readonly envelope: Envelope } {
  const parsed = v.safeParse(Envelope, envelope);
  if (!parsed.success || parsed.output.kind !== kind) {
    throw new SallyportError('peer', `${code}_MALFORMED`, `not a signed ${kind}`);
  }
  const bytes = decodeBase64(parsed.output.payload);
  const signature = decodeBase64(parsed.output.signature);
  if (bytes === undefined || signature === undefined) {
    throw new SallyportError('peer', `${code}_MALFORMED`, `the signed ${kind} is not base64`);
  }
  if (!verify(signedMessage(kind, network, bytes), signature)) {
    throw new SallyportError(
      'peer',
      `${code}_TAMPERED`,
      `the signature of the ${kind} for network ${network} is wrong`,
    );
  }
  return { bytes, envelope: parsed.output };
}

/**
 * The payload of a checked envelope as typed data.
 * @throws SallyportError (peer) `…_MALFORMED` naming the field.
 */
export function parsePayload<T>(schema: v.GenericSchema<unknown, T>, bytes: Uint8Array, code: CodePrefix): T {
  let value: unknown;
  try {
    value = JSON.parse(decodeUtf8(bytes));
  } catch (cause) {
    throw new SallyportError('peer', `${code}_MALFORMED`, `the signed ${code.toLowerCase()} is not JSON`, { cause });
  }
  return parseWith(schema, value, `${code}_MALFORMED`, `the ${code.toLowerCase()}`);
}

/**
 * Data from outside as typed data.
 * @throws SallyportError (peer) with `code`, naming the first wrong field of `what`.
 */
export function parseWith<T>(schema: v.GenericSchema<unknown, T>, value: unknown, code: string, what: string): T {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = v.getDotPath(issue);
  throw new SallyportError('peer', code, `${what} is not valid: ${path === null ? '' : `${path}: `}${issue.message}`);
}
