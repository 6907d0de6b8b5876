/**
 * Memory that nobody needs any more and nothing gives back by itself: garbage of the start and of a busy time, compilers' working
 * memory, source texts. A thread that waits in the kernel is never idle in V8's eyes, and the C library keeps what was freed.
 *
 *   turns in 10 s:   many ──► few: give back, once ──► few … ──► many ──► few: give back
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { type Duration, Seconds } from '../base/time.js';
import { mallocTrim } from './linux/libc.js';

export const REST_INTERVAL: Duration = Seconds(10);
/** A thread with nothing to carry makes about ten turns a second. */
const BUSY_TURNS = 1000;

/** Says when a thread has come to rest. */
export class RestWatch {
  /** A start is work too. */
  #wasBusy = true;
  #turns = 0;

  /** To be called every `REST_INTERVAL` with the turns made so far: whether the thread rests, and has not been told to rest before. */
  look(turns: number): boolean {
    const isBusy = turns - this.#turns >= BUSY_TURNS;
    this.#turns = turns;
    const rests = this.#wasBusy && !isBusy;
    this.#wasBusy = isBusy;
    return rests;
  }
}

/** Collects the whole heap of this thread, which takes some ten milliseconds. */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  setFlagsFromString('--no-expose-gc');
  collect();
}

/** Collects, and returns what the C library holds for any thread to the kernel. */
export function giveMemoryBack(): void {
  collectGarbage();
  mallocTrim?.(0);
}
