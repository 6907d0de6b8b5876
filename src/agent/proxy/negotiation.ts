/**
 * What a proxy protocol tells its connection: whom the client wants, and which bytes answer it.
 *
 *   reading ──request complete──► asked ──accept | refuse──► (the stream is the service's, or it is over)
 *      └────── not our protocol ──► failed (`takeReply` holds the answer, if the protocol has one)
 *
 * One object per client. Nothing here throws, reads a clock, or keeps more bytes than its protocol allows.
 */
import type { SocketAddress } from '../../base/address.js';

/** Whom a client wants, in its own words. */
export interface Target {
  /** A name or an address literal without brackets; 1 – 255 printable ASCII characters. */
  readonly host: string;
  /** 0 … 65535; undefined = the service's only port. */
  readonly port: number | undefined;
}

/** Why a client is not served. */
export type Failure =
  /** Not a service of this network, or not granted. */
  | 'not-allowed'
  /** There is no way into the network now. */
  | 'net-unreachable'
  | 'host-unreachable'
  | 'refused'
  | 'timeout'
  | 'failed';

export interface Negotiation {
  readonly state: 'reading' | 'asked' | 'failed';
  /** Set once `state` is `asked`. */
  readonly target: Target | undefined;
  /**
   * Takes the client's next bytes and returns how many belonged to the negotiation. Fewer than `length` only when the
   * state is no longer `reading`: what follows is the stream's.
   */
  feed(bytes: Uint8Array, offset: number, length: number): number;
  /** Bytes that are due to the client; each is given out once. */
  takeReply(): Uint8Array;
  /** The answer after a successful dial. `bound`: the address the connection goes out from. */
  accept(bound: SocketAddress): Uint8Array;
  /** The answer after a refusal; empty when the protocol has none. `detail`: one line for a person. */
  refuse(failure: Failure, detail: string): Uint8Array;
}

export const NO_BYTES = new Uint8Array(0);

/** A listener that stands for one service: nothing is negotiated, and a refusal can only be a reset. */
export class FixedTarget implements Negotiation {
  readonly state = 'asked';

  constructor(readonly target: Target) {}

  feed(): number {
    return 0;
  }

  takeReply(): Uint8Array {
    return NO_BYTES;
  }

  accept(): Uint8Array {
    return NO_BYTES;
  }

  refuse(): Uint8Array {
    return NO_BYTES;
  }
}
