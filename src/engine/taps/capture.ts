/**
 * A bounded capture: blocks are queued, written in batches, and the file is changed when it is full.
 *
 *   packet ─► queue (bytes bounded, else dropped and counted) ─ flush ─► FILE ─ full ─► FILE.1 ─► FILE.2 … the oldest is removed
 *
 * It writes nothing by itself: the files come from outside.
 */
import type { WallTime } from '../../base/time.js';
import { captureHeader, packetBlock } from './pcapng.js';

/** Where a capture goes; errors are thrown and end it. */
export interface CaptureFiles {
  write(bytes: Uint8Array): void;
  /** The file is full: the next bytes go into a new one. */
  rotate(): void;
  close(): void;
}

export interface CaptureOptions {
  readonly files: CaptureFiles;
  readonly device: string;
  /** Bytes of one file, at least. */
  readonly fileBytes: number;
  /** Bytes kept of one packet. Default 65,535: all. */
  readonly snapLength?: number;
  /** Bytes that wait for `flush`. Default 4 MiB. */
  readonly queueBytes?: number;
}

const QUEUE_BYTES = 4 * 1024 * 1024;
/** Bytes of one write. */
const BATCH = 256 * 1024;

export class Capture {
  packets = 0;
  /** Packets that found no room in the queue, or came after a write failed. */
  dropped = 0;
  /** What ended it early. */
  failure: unknown;
  readonly #options: CaptureOptions;
  readonly #snapLength: number;
  readonly #queueBytes: number;
  #queue: Uint8Array[] = [];
  #queued = 0;
  #written = 0;

  constructor(options: CaptureOptions) {
    this.#options = options;
    this.#snapLength = options.snapLength ?? 65_535;
    this.#queueBytes = options.queueBytes ?? QUEUE_BYTES;
  }

  /** Bytes that wait. */
  get queued(): number {
    return this.#queued;
  }

  /** Copies one packet. @param comment the flow's name; empty for none */
  add(at: WallTime, inbound: boolean, bytes: Uint8Array, offset: number, length: number, comment: string): void {
    if (this.failure !== undefined || this.#queued + length > this.#queueBytes) {
      this.dropped++;
      return;
    }
    const block = packetBlock(at, bytes, offset, length, this.#snapLength, inbound, comment);
    this.#queue.push(block);
    this.#queued += block.length;
    this.packets++;
  }

  /** Writes what waits. */
  flush(): void {
    if (this.failure !== undefined) return;
    const queue = this.#queue;
    this.#queue = [];
    this.#queued = 0;
    try {
      for (let first = 0; first < queue.length; ) first = this.#writeBatch(queue, first);
    } catch (error) {
      this.failure = error;
      this.dropped += queue.length;
      this.packets -= queue.length;
    }
  }

  close(): void {
    this.flush();
    this.failure ??= 'closed';
    this.#options.files.close();
  }

  /** Writes blocks from `first` on as one; returns the first that is left. */
  #writeBatch(queue: readonly Uint8Array[], first: number): number {
    const { files, device, fileBytes } = this.#options;
    const parts: Uint8Array[] = [];
    if (this.#written >= fileBytes) {
      files.rotate();
      this.#written = 0;
    }
    if (this.#written === 0) parts.push(captureHeader(device, this.#snapLength));
    let length = parts[0]?.length ?? 0;
    let end = first;
    do {
      parts.push(queue[end]!);
      length += queue[end]!.length;
      end++;
    } while (end < queue.length && length < BATCH && this.#written + length < fileBytes);
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    files.write(bytes);
    this.#written += length;
    return end;
  }
}
