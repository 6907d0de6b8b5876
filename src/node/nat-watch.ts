/**
 * Whether the NAT before a node gives every destination another public port: asked of the relay by its two ports, from the very
 * socket that punches. Only that is known here; `sallyport netcheck` tells the rest.
 *
 *   PROBE ─► relay's port ─► where it came from, and the relay's other port ─► PROBE ─► that port ─► where it came from: the same?
 *
 * A relay answers one source 20 times a second, so the second question waits a little; what is lost is asked again, three times.
 */
import { SocketAddress } from '../base/address.js';
import type { Entropy } from '../base/entropy.js';
import { type Duration, type Instant, later, Millis } from '../base/time.js';
import { encodeProbe, type ProbeReply, type Word64 } from '../tunnel/frames.js';

const SPACING: Duration = Millis(100);
const PATIENCE: Duration = Millis(1000);
const TRIES = 3;

export interface NatWatchParts {
  readonly entropy: Entropy;
  /** The relay's addresses; IPv6 is not asked about, as nobody translates it. */
  readonly relays: () => readonly SocketAddress[];
  readonly send: (address: SocketAddress, probe: Uint8Array) => void;
  readonly onChange: (now: Instant) => void;
}

interface Question {
  readonly to: SocketAddress;
  readonly nonce: Word64;
  /** Where the relay's first port saw us; undefined: this is the question to it. */
  readonly first: SocketAddress | undefined;
  tries: number;
}

export class NatWatch {
  /** Undefined while it is not known. */
  isStrict: boolean | undefined;
  /** When `turn` is wanted. */
  due: Instant | undefined;
  readonly #parts: NatWatchParts;
  #question: Question | undefined;

  constructor(parts: NatWatchParts) {
    this.#parts = parts;
  }

  /** Begins anew: the relay is there again, or the network is another. */
  ask(now: Instant): void {
    const relay = this.#parts.relays().find(({ ip }) => ip.isV4);
    if (relay !== undefined) this.#put(later(now, SPACING), relay, undefined);
  }

  turn(now: Instant): void {
    if (this.due === undefined || now < this.due) return;
    const question = this.#question!;
    if (question.tries++ === TRIES) {
      this.due = undefined;
      return;
    }
    this.due = later(now, PATIENCE);
    this.#parts.send(question.to, encodeProbe(question.nonce));
  }

  /** Any PROBE REPLY of the node's. */
  onReply(now: Instant, { nonce, observed, otherPort }: ProbeReply): void {
    const question = this.#question;
    if (question === undefined || nonce.high !== question.nonce.high || nonce.low !== question.nonce.low) return;
    this.#question = undefined;
    this.due = undefined;
    if (question.first === undefined) {
      if (otherPort !== 0) this.#put(later(now, SPACING), new SocketAddress(question.to.ip, otherPort), observed);
      return;
    }
    const isStrict = !observed.equals(question.first);
    if (isStrict === this.isStrict) return;
    this.isStrict = isStrict;
    this.#parts.onChange(now);
  }

  #put(due: Instant, to: SocketAddress, first: SocketAddress | undefined): void {
    const { entropy } = this.#parts;
    this.#question = { to, nonce: { high: entropy.uint32(), low: entropy.uint32() }, first, tries: 0 };
    this.due = due;
  }
}
