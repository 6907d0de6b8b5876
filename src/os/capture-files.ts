/**
 * Files of a capture: FILE, and when it is full FILE.1, FILE.2 …, the oldest of which is removed. Readable by their owner only: they hold
 * what people send.
 */
import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { SallyportError } from '../base/error.js';

const OWNER_ONLY = 0o600;

export class RotatingFiles {
  readonly #path: string;
  readonly #files: number;
  #fd: number;

  /** Replaces what is there. @param files kept beside the one being written @throws SallyportError CAPTURE_FILE (environment) */
  constructor(path: string, files: number) {
    this.#path = path;
    this.#files = files;
    for (let i = 1; i <= files; i++) rmSync(`${path}.${i}`, { force: true });
    this.#fd = this.#open();
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
  }

  rotate(): void {
    closeSync(this.#fd);
    for (let i = this.#files; i > 0; i--) {
      try {
        renameSync(i === 1 ? this.#path : `${this.#path}.${i - 1}`, `${this.#path}.${i}`);
      } catch {
        // Not all of them are there yet.
      }
    }
    this.#fd = this.#open();
  }

  close(): void {
    closeSync(this.#fd);
  }

  #open(): number {
    try {
      return openSync(this.#path, 'w', OWNER_ONLY);
    } catch (cause) {
      throw new SallyportError('environment', 'CAPTURE_FILE', `the capture ${this.#path} cannot be written`, {
        cause,
        hint: 'give --pcap a file in a folder that exists and is writable',
      });
    }
  }
}
