/**
 * Initial sequence numbers: a 4 µs clock plus a keyed hash of the connection's addresses and ports, so that numbers grow
 * per 4-tuple and cannot be guessed for another one. The same hash offsets timestamps (RFC 7323 §5.4).
 *
 *   ISN = M + F(local address, local port, remote address, remote port, secret)
 *
 * RFC 6528 §3.
 */
import type { Crypto } from '../../base/crypto.js';
import type { Entropy } from '../../base/entropy.js';
import type { Instant } from '../../base/time.js';

const SECRET_BYTES = 32;
/** M ticks once per this many µs. */
const TICK = 4;

export class InitialSequence {
  readonly #key = new Uint8Array(SECRET_BYTES);
  readonly #message = new Uint8Array(36);
  readonly #view = new DataView(this.#message.buffer);

  constructor(
    readonly crypto: Pick<Crypto, 'hmacSha256'>,
    entropy: Entropy,
  ) {
    entropy.fill(this.#key);
  }

  /** `words` are the ten words of local and remote address and port, as in a flow key. `result[0]` is the ISN, `result[1]` a timestamp offset. */
  choose(now: Instant, words: Uint32Array, result: Int32Array): void {
    for (let i = 0; i < 4; i++) {
      this.#view.setUint32(i * 4, words[i]);
      this.#view.setUint32(16 + i * 4, words[5 + i]);
    }
    this.#view.setUint16(32, words[4]);
    this.#view.setUint16(34, words[9]);
    const hash = this.crypto.hmacSha256(this.#key, this.#message);
    const word = (o: number): number => (hash[o] << 24) | (hash[o + 1] << 16) | (hash[o + 2] << 8) | hash[o + 3];
    result[0] = (word(0) + (Math.floor(now / TICK) | 0)) | 0;
    result[1] = word(4);
  }
}
