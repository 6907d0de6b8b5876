/**
 * The operator's folder: the one place where the network's policy key is. Everything that changes who may do what is signed
 * here, by a command of the operator, and copied to the relay's folder when that is on the same machine.
 *
 *   policy-key.pem   Ed25519; whoever has it is the operator
 *   policy.json      the signed policy, current version
 *   book.json        addresses given out, invitations made, the relay's contact, the CA certificate
 */
import { join, resolve } from 'node:path';
import * as v from 'valibot';
import type { Crypto } from '../base/crypto.js';
import { SallyportError } from '../base/error.js';
import { type WallTime, wallLater } from '../base/time.js';
import {
  InvitationId,
  openPolicy,
  POLICY_LIFETIME,
  type PolicyDocument,
  type SignedPolicy,
  sealPolicy,
} from '../policy/document.js';
import { Envelope, type Signer } from '../policy/envelope.js';
import { Label, NODE_ROLES } from '../policy/names.js';
import { RelayContact } from '../policy/relay-contact.js';
import { has, makeFolder, readJson, readText, writeFile, writeJson } from './files.js';
import { ed25519Signer, type SigningKey, signingKeyFromPem, signingKeyToPem } from './keys.js';
import { StateLock } from './lock.js';
import { POLICY_KEY_FILE } from './relay-folder.js';

const Pair = v.object({ v4: v.string(), v6: v.string() });
const IssuedInvitation = v.object({
  id: InvitationId,
  name: Label,
  role: v.picklist(NODE_ROLES),
  groups: v.array(Label),
  /** Milliseconds since the epoch. */
  expiry: v.number(),
});
const Book = v.object({
  network: Label,
  relays: v.array(RelayContact),
  /** PEM. */
  ca: v.string(),
  services: v.record(v.string(), Pair),
  agents: v.record(v.string(), Pair),
  invitations: v.array(IssuedInvitation),
});
export type OperatorBook = v.InferOutput<typeof Book>;
export type IssuedInvitation = v.InferOutput<typeof IssuedInvitation>;

/** What `init` found a network with. */
export interface NewOperator {
  readonly key: SigningKey;
  readonly book: OperatorBook;
  readonly document: PolicyDocument;
}

/** Locked while it is open: `close` it. `dir` is the folder that holds `operator/` and perhaps `relay/`. */
export class OperatorFolder {
  readonly dir: string;
  readonly key: SigningKey;
  readonly sign: Signer;
  readonly #lock: StateLock;
  #book: OperatorBook;
  #signed: SignedPolicy;

  private constructor(dir: string, lock: StateLock, key: SigningKey, book: OperatorBook, signed: SignedPolicy) {
    this.dir = dir;
    this.#lock = lock;
    this.key = key;
    this.sign = ed25519Signer(key);
    this.#book = book;
    this.#signed = signed;
  }

  /** @throws SallyportError OPERATOR_EXISTS (caller): nothing is ever overwritten. */
  static create(dir: string, operator: NewOperator): SignedPolicy {
    const folder = join(dir, 'operator');
    if (has(folder, POLICY_KEY_FILE)) {
      throw new SallyportError('caller', 'OPERATOR_EXISTS', `${resolve(folder)} already holds a network`, {
        hint: 'choose another folder with --dir',
      });
    }
    makeFolder(folder);
    const signed = sealPolicy(ed25519Signer(operator.key), operator.document);
    writeJson(join(folder, 'policy.json'), signed.envelope);
    writeJson(join(folder, 'book.json'), operator.book);
    writeFile(join(folder, POLICY_KEY_FILE), signingKeyToPem(operator.key));
    return signed;
  }

  /** @throws SallyportError NOT_AN_OPERATOR, STATE_LOCKED, STATE_UNREADABLE (environment). */
  static open(dir: string, crypto: Crypto): OperatorFolder {
    const folder = join(dir, 'operator');
    if (!has(folder, POLICY_KEY_FILE)) {
      throw new SallyportError('environment', 'NOT_AN_OPERATOR', `there is no operator’s folder in ${resolve(dir)}`, {
        hint: 'run this where "sallyport init" was run, or name that folder with --dir',
      });
    }
    const lock = StateLock.acquire(folder);
    try {
      const key = signingKeyFromPem(readText(join(folder, POLICY_KEY_FILE)));
      const book = readJson(join(folder, 'book.json'), Book);
      const envelope = readJson(join(folder, 'policy.json'), Envelope);
      return new OperatorFolder(dir, lock, key, book, openPolicy(crypto, key.publicKey, book.network, envelope));
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  get book(): OperatorBook {
    return this.#book;
  }

  get envelope(): Envelope {
    return this.#signed.envelope;
  }

  get document(): PolicyDocument {
    return this.#signed.document;
  }

  saveBook(book: OperatorBook): void {
    writeJson(join(this.dir, 'operator', 'book.json'), book);
    this.#book = book;
  }

  /**
   * Signs a changed document as the next version, valid for `POLICY_LIFETIME` from now.
   * @returns whether it was copied to every relay's folder beside it; if not, the operator has to.
   * @throws SallyportError POLICY_MALFORMED when the change is not a legal document.
   */
  publish(document: PolicyDocument, wall: WallTime): { readonly version: number; readonly copied: boolean } {
    const version = this.document.version + 1;
    this.#signed = sealPolicy(this.sign, { ...document, version, notAfter: wallLater(wall, POLICY_LIFETIME) });
    writeJson(join(this.dir, 'operator', 'policy.json'), this.#signed.envelope);
    const wanted = ['relay', ...this.#book.relays.slice(1).map(({ name }) => `relay-${name}`)];
    const folders = wanted.map((name) => join(this.dir, name)).filter((folder) => has(folder, 'relay.json'));
    for (const folder of folders) writeJson(join(folder, 'policy.json'), this.#signed.envelope);
    return { version, copied: folders.length === wanted.length };
  }

  close(): void {
    this.#lock.release();
  }
}
