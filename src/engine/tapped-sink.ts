/** A sink that shows every packet to a hook before it leaves; what leaves is what was shown, joined into one run where it is one. */
import type { StackSink } from '../netstack/types.js';
import { Arena, copyBytes } from '../wire/arena.js';
import type { EngineHooks, HookFailed } from './hooks.js';

export class TappedSink implements StackSink {
  readonly #sink: StackSink;
  readonly #hook: NonNullable<EngineHooks['onPacket']>;
  readonly #failed: HookFailed;
  readonly #whole = new Arena(65_536);

  constructor(sink: StackSink, hook: NonNullable<EngineHooks['onPacket']>, failed: HookFailed) {
    this.#sink = sink;
    this.#hook = hook;
    this.#failed = failed;
  }

  emit(packet: Arena, offset: number, length: number): void {
    this.#show(packet.bytes, offset, length);
    this.#sink.emit(packet, offset, length);
  }

  emitTcp(
    header: Arena,
    headerOffset: number,
    headerLength: number,
    payload: Arena,
    offset: number,
    length: number,
    segmentSize: number,
  ): void {
    // The header says how long the whole is: nothing has to be written anew.
    copyBytes(header, headerOffset, this.#whole, 0, headerLength);
    copyBytes(payload, offset, this.#whole, headerLength, length);
    this.#show(this.#whole.bytes, 0, headerLength + length);
    this.#sink.emitTcp(header, headerOffset, headerLength, payload, offset, length, segmentSize);
  }

  #show(bytes: Uint8Array, offset: number, length: number): void {
    try {
      this.#hook(false, bytes, offset, length);
    } catch (error) {
      this.#failed('onPacket', error);
    }
  }
}
