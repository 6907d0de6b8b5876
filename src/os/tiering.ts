/**
 * When V8 hands a function to its optimizing compilers. With its defaults the code of a packet's way would be interpreted for its
 * first thousands of packets, and in a quiet node for hours: measured, the round trip of a node's first packets takes a third longer.
 *
 * The flags count for functions that run for the first time after they were set. Set before the modules are loaded they would
 * have every function of the start optimized too, which makes it 150 ms longer.
 */
import { setFlagsFromString } from 'node:v8';

/** About a 27th of the default each: bytes of bytecode run (Node 20), or calls (Node 22 and later). */
const BY_BYTECODE = ['--interrupt-budget=2500'];
const BY_CALLS = ['--invocation-count-for-maglev=15', '--invocation-count-for-turbofan=110'];
/** The first major version of V8 that counts calls; it prints an error for a flag that it does not know. */
const V8_COUNTS_CALLS = 12;

/** The flags that this V8 knows. */
export function tieringFlags(v8Version: string = process.versions.v8): readonly string[] {
  return Number.parseInt(v8Version, 10) < V8_COUNTS_CALLS ? BY_BYTECODE : BY_CALLS;
}

/** To be called by a packet thread when its modules are loaded. */
export function optimizeEarly(): void {
  for (const flag of tieringFlags()) setFlagsFromString(flag);
}
