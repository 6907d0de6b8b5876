/** The engine of this system, opened when something is to be traced. */
import type { Entropy } from '../base/entropy.js';
import { openLinuxPacketIo } from '../os/linux/packet-io.js';
import { Tracer } from './engine/tracer.js';
import type { TraceEngine } from './types.js';

/** To be closed by the caller; until then it may keep the process alive. */
export function openEngine(entropy: Entropy): TraceEngine {
  return new Tracer(
    openLinuxPacketIo((error) => {
      // A handler that throws is a defect of this program: it must not go unseen.
      queueMicrotask(() => {
        throw error;
      });
    }),
    entropy,
  );
}
