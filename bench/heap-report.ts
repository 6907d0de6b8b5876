/** What heap.ts writes. */
import type { Machine } from './machine.js';
import type { RoleName } from './subjects/sallyport-network.js';

export interface HeapRow {
  readonly role: RoleName;
  readonly direction: 'up' | 'down';
  readonly bytesPerPacket: number;
  /** Percent of the process's CPU that collections took. */
  readonly collection: number;
  readonly functions: readonly { readonly name: string; readonly bytesPerPacket: number }[];
}

export interface HeapReport {
  readonly bench: 'heap';
  readonly date: string;
  readonly command: string;
  readonly machine: Machine;
  readonly rows: readonly HeapRow[];
}
