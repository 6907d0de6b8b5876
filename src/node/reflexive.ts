/**
 * Where a node's own sockets are seen from (server-reflexive candidates, RFC 8445 §5.1.1.2), in both address families whatever family the
 * relay connection is in: asked of the relay's addresses by PROBE, from the very sockets that punch. The relay's second port tells
 * whether the NAT gives every destination another public port; nobody translates IPv6, so that is asked over IPv4 only.
 *
 *   each family   PROBE ─► relay's port ─► where it came from ─► (IPv4) PROBE ─► relay's other port ─► where it came from: the same?
 *                   ▲          │ three unanswered: nothing is known of that family
 *                   └── KEEP ◄─┘ while there are sessions, in the family that the relay connection does not keep open
 *
 * A relay answers one source 20 times a second, so the second question waits a little; what is lost is asked again, three times.
 */
import { SocketAddress } from '../base/address.js';
import type { Entropy } from '../base/entropy.js';
import { type Duration, earliest, type Instant, later, Millis, Seconds } from '../base/time.js';
import { encodeProbe, type ProbeReply, type Word64 } from '../tunnel/frames.js';

const SPACING: Duration = Millis(100);
const PATIENCE: Duration = Millis(1000);
const TRIES = 3;
/** Below the 30 s after which the least patient NATs forget an idle mapping. */
const KEEP: Duration = Seconds(20);

export type Family = 4 | 6;
const FAMILIES: readonly Family[] = [4, 6];

export interface ReflexiveParts {
  readonly entropy: Entropy;
  /** The relay's addresses; of each family the first that there is a socket for is asked. */
  readonly relays: () => readonly SocketAddress[];
  readonly send: (address: SocketAddress, probe: Uint8Array) => void;
  /** The family whose mapping the relay connection keeps open, and whose changes the relay tells of by itself. */
  readonly carrier: () => Family | undefined;
  /** Whether anybody is told of candidates. */
  readonly isWanted: () => boolean;
  /** The relay sees the socket of this family at `address`; undefined: it does not see it. */
  readonly onSeen: (now: Instant, family: Family, address: SocketAddress | undefined) => void;
  /** Another `isStrict`. */
  readonly onChange: (now: Instant) => void;
}

interface Question {
  readonly to: SocketAddress;
  readonly nonce: Word64;
  /** Where the relay's first port saw us; undefined: this is the question to it. */
  readonly first: SocketAddress | undefined;
  /** Only a mapping is to live on: nothing is asked of the other port. */
  readonly isKeeping: boolean;
  due: Instant;
  tries: number;
}

export class Reflexive {
  /** Whether the IPv4 NAT gives every destination another port; undefined while it is not known. */
  isStrict: boolean | undefined;
  readonly #parts: ReflexiveParts;
  readonly #questions = new Map<Family, Question>();
  /** Families that nothing came back in; until all is asked anew. */
  readonly #silent = new Set<Family>();
  #keepAt: Instant | undefined;

  constructor(parts: ReflexiveParts) {
    this.#parts = parts;
  }

  /** When `turn` is wanted. */
  get due(): Instant | undefined {
    let due = this.#keepAt;
    for (const question of this.#questions.values()) due = earliest(due, question.due);
    return due;
  }

  /** Begins anew: the relay is there again, the network is another, or candidates are wanted again. */
  ask(now: Instant): void {
    this.#silent.clear();
    for (const family of FAMILIES) this.#begin(later(now, SPACING), family, false);
    this.#keepAt = later(now, KEEP);
  }

  turn(now: Instant): void {
    if (this.#keepAt !== undefined && now >= this.#keepAt) this.#keep(now);
    for (const [family, question] of this.#questions) {
      if (now < question.due) continue;
      if (question.tries++ === TRIES) this.#giveUp(now, family, question);
      else {
        question.due = later(now, PATIENCE);
        this.#parts.send(question.to, encodeProbe(question.nonce));
      }
    }
  }

  /** Any PROBE REPLY of the node's. */
  onReply(now: Instant, { nonce, observed, otherPort }: ProbeReply): void {
    for (const [family, question] of this.#questions) {
      if (nonce.high !== question.nonce.high || nonce.low !== question.nonce.low) continue;
      this.#questions.delete(family);
      if (observed.ip.family === family) this.#answered(now, family, question, observed, otherPort);
      return;
    }
  }

  #answered(now: Instant, family: Family, question: Question, observed: SocketAddress, otherPort: number): void {
    const { to, first, isKeeping } = question;
    if (first === undefined) {
      this.#parts.onSeen(now, family, observed);
      if (family === 6 || isKeeping || otherPort === 0) return;
      this.#put(later(now, SPACING), family, new SocketAddress(to.ip, otherPort), observed, false);
      return;
    }
    const isStrict = !observed.equals(first);
    if (isStrict === this.isStrict) return;
    this.isStrict = isStrict;
    this.#parts.onChange(now);
  }

  #giveUp(now: Instant, family: Family, { first, isKeeping }: Question): void {
    this.#questions.delete(family);
    if (first === undefined) this.#silent.add(family);
    if (first === undefined && !isKeeping && family !== this.#parts.carrier()) {
      this.#parts.onSeen(now, family, undefined);
    }
  }

  #keep(now: Instant): void {
    this.#keepAt = undefined;
    const { isWanted, carrier } = this.#parts;
    const kept = carrier();
    if (!isWanted() || kept === undefined) return;
    const other = kept === 4 ? 6 : 4;
    if (this.#silent.has(other) || this.#questions.has(other)) return;
    this.#begin(now, other, true);
    // Without a relay address of that family there is nothing to keep.
    if (this.#questions.has(other)) this.#keepAt = later(now, KEEP);
  }

  #begin(due: Instant, family: Family, isKeeping: boolean): void {
    const relay = this.#parts.relays().find(({ ip }) => ip.family === family);
    if (relay === undefined) this.#questions.delete(family);
    else this.#put(due, family, relay, undefined, isKeeping);
  }

  #put(due: Instant, family: Family, to: SocketAddress, first: SocketAddress | undefined, isKeeping: boolean): void {
    const { entropy } = this.#parts;
    const nonce = { high: entropy.uint32(), low: entropy.uint32() };
    this.#questions.set(family, { to, nonce, first, isKeeping, due, tries: 0 });
  }
}
