/** What an `Engine` needs of Node: its clock, scheduler, randomness and cryptography. */
import type { Crypto } from '../base/crypto.js';
import type { Entropy } from '../base/entropy.js';
import { SystemClock } from './clock.js';
import { createCrypto } from './crypto.js';
import { SystemEntropy } from './entropy.js';

export interface NodePlatform {
  now(): number;
  schedule(milliseconds: number, callback: () => void): () => void;
  readonly entropy: Entropy;
  readonly crypto: Crypto;
}

export function nodePlatform(): NodePlatform {
  const clock = new SystemClock();
  return {
    now: () => clock.now(),
    schedule: (milliseconds, callback) => {
      if (milliseconds <= 0) {
        const immediate = setImmediate(callback);
        return () => clearImmediate(immediate);
      }
      const timer = setTimeout(callback, milliseconds);
      return () => clearTimeout(timer);
    },
    entropy: new SystemEntropy(),
    crypto: createCrypto(),
  };
}
