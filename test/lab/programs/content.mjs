/**
 * Known bytes: a stream that follows from a seed, so that both ends know what must arrive without sending it twice.
 * xorshift32 (Marsaglia 2003), four bytes a step, little-endian.
 */
import { createHash } from 'node:crypto';

const PIECE = 64 * 1024;

/**
 * Yields `total` bytes in pieces of at most 64 KiB; each piece is fresh memory.
 * @param {number} seed 1 … 2^32 − 1
 * @param {number} total
 * @returns {Generator<Buffer, void, undefined>}
 */
export function* content(seed, total) {
  let state = seed >>> 0 || 1;
  for (let sent = 0; sent < total; ) {
    const piece = Buffer.alloc(PIECE);
    for (let at = 0; at < PIECE; at += 4) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      piece.writeInt32LE(state | 0, at);
    }
    const size = Math.min(PIECE, total - sent);
    yield piece.subarray(0, size);
    sent += size;
  }
}

/**
 * SHA-256 of `content(seed, total)`, in hex.
 * @param {number} seed
 * @param {number} total
 */
export function contentHash(seed, total) {
  const hash = createHash('sha256');
  for (const piece of content(seed, total)) hash.update(piece);
  return hash.digest('hex');
}

/**
 * `--name value` pairs and the arguments without a name.
 * @param {readonly string[]} argv
 */
export function parseArguments(argv) {
  /** @type {Record<string, string>} */
  const named = {};
  /** @type {string[]} */
  const plain = [];
  for (let at = 0; at < argv.length; at++) {
    const word = String(argv[at]);
    if (word.startsWith('--')) named[word.slice(2)] = String(argv[++at] ?? '');
    else plain.push(word);
  }
  return { named, plain };
}
