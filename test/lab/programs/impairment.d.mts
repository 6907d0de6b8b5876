/** Types of impairment.mjs, which runs as it is and describes each of these. */
export interface Profile {
  readonly loss?: number;
  readonly burst?: { readonly enter: number; readonly leave: number; readonly loss: number };
  readonly rate?: number;
  readonly queue?: number;
  readonly delay?: number;
  readonly jitter?: number;
  readonly reorder?: number;
  readonly reorderDelay?: number;
  readonly duplicate?: number;
  readonly largest?: number;
  readonly down?: boolean;
}
export interface Counters {
  offered: number;
  delivered: number;
  lost: number;
  queueFull: number;
  tooLarge: number;
  down: number;
  duplicated: number;
  heldBack: number;
}
export class Impairment {
  constructor(seed: number, profile: Profile);
  profile: Profile;
  /** Of the random numbers; set it to start them anew from a seed. */
  state: number;
  readonly counters: Counters;
  readonly releases: readonly number[];
  offer(now: number, bytes: number): 0 | 1 | 2;
}
export interface WaitingPacket {
  readonly at: number;
  readonly order: number;
  readonly to: number;
  readonly bytes: Uint8Array;
}
export class WaitingPackets {
  readonly size: number;
  readonly next: number;
  push(at: number, to: number, bytes: Uint8Array): void;
  pop(): WaitingPacket | undefined;
}
