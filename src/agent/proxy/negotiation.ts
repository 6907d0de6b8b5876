/**
 * What a proxy protocol tells its connection: whom the client wants, and which bytes answer it.
 *
 *   reading ──request complete──► asked ──accept | refuse──► (the stream is the service's, or it is over)
 *      └────── not our protocol ──► failed (`takeReply` holds the answer, if the protocol has one)
 *
 * One object per client. Nothing here throws, reads a clock, or keeps more bytes than its protocol allows.
 */
import type { SocketAddress } from '../../base/address.js';
import type { Framing } from './http-head.js';

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

/** A request of HTTP that is not CONNECT: it is passed on, and its answer comes back. */
export interface PlainRequest {
  readonly method: string;
  /** Request line and fields as the service gets them. */
  readonly head: Uint8Array;
  /** How its content ends; never `close`. */
  readonly framing: Framing;
  readonly isHttp10: boolean;
  /** Whether the client wants to send another request afterwards. */
  readonly keepAlive: boolean;
}

export interface Negotiation {
  readonly state: 'reading' | 'asked' | 'failed';
  /** Set once `state` is `asked`, unless something else was asked for. */
  readonly target: Target | undefined;
  /** A UDP association is asked for: where the client says it will send from; an unspecified address or port 0 = unknown. */
  readonly association?: Target | undefined;
  /** Set beside `target` for a request that is passed on instead of joining the streams. */
  readonly plain?: PlainRequest | undefined;
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
