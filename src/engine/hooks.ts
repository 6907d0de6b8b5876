/**
 * What a host may hook into an engine, and the guard around it: a hook that throws is counted, and the engine goes on as if it
 * were not there.
 */
import { SocketAddress } from '../base/address.js';
import type { Duration } from '../base/time.js';
import type { TcpRequest } from '../netstack/tcp/request.js';
import type { Rejection } from '../netstack/types.js';
import { type Hold, type PayloadTap, PROTOCOL_TCP, PROTOCOL_UDP } from './flow-options.js';
import type { NameSource } from './names/tracker.js';
import type { FlowShape } from './shaping/rate.js';
import type { FlowEvent } from './taps/events.js';

export type FlowProtocol = 'tcp' | 'udp' | 'icmp';

/** A flow that somebody wants to open. */
export interface FlowRequest {
  readonly protocol: FlowProtocol;
  /** The program's address; port 0 for ICMP. */
  readonly source: SocketAddress;
  readonly destination: SocketAddress;
}

/** What becomes of it. */
export type FlowDecision =
  | {
      readonly action: 'allow';
      /** Name of a dialer; the first one when absent. */
      readonly dialer?: string;
      /** TCP: where it goes instead of its destination. Datagrams each go where they say. */
      readonly target?: SocketAddress;
      /** How it is held back; given again for a live flow, it counts from then on. */
      readonly shape?: FlowShape;
      /** A TCP flow is dialled this much later; `shape.latency` and a part of its jitter when absent. */
      readonly delay?: Duration;
      /** Sees the first bytes of both directions, until it returns false. */
      readonly tap?: PayloadTap;
      /**
       * Asked whether what the flow says may yet change the decision. Until that is `none`, or the time is up, what it says first waits: of
       * TCP 12 KiB for 5 s, of UDP QUIC's first 7 datagrams for 200 ms. `Engine.reevaluate` has it asked again.
       */
      readonly hold?: () => Hold;
      readonly onClosed?: (reason: string, bytesIn: number, bytesOut: number) => void;
    }
  | { readonly action: 'block'; readonly how: Rejection }
  /**
   * A service of the host's own, such as a resolver; the one that fits the protocol has to be there. `udp` is given each datagram,
   * lent, with its addresses (`SocketAddress.read`: 0 = the program, 1 = where it sent it), and answers by `Engine.answer`.
   */
  | {
      readonly action: 'serve';
      readonly tcp?: (request: TcpRequest) => void;
      readonly udp?: (addresses: Uint32Array, bytes: Uint8Array, offset: number, length: number) => void;
    };

/** What is known of an allowed flow; told when it begins with a name, and when it has said its ClientHello. */
export interface FlowMetadata extends FlowRequest {
  /** Its best name; undefined when it has none. */
  readonly host: string | undefined;
  /** Where `host` is from. */
  readonly nameSource: NameSource | undefined;
  /** `host` stands in front of an encrypted ClientHello and is not the name that is reached. */
  readonly outer: boolean;
  readonly hello: FlowHello | undefined;
}

/** What a ClientHello said in the clear, over TCP or in QUIC's Initial packets. */
export interface FlowHello {
  /** SNI. */
  readonly serverName: string | undefined;
  /** ALPN, for example `h2`, `h3`. */
  readonly protocols: readonly string[];
  /** TLS versions offered, for example 0x0304. */
  readonly versions: readonly number[];
  /** An encrypted ClientHello (ECH), or what looks like one, is inside. */
  readonly encrypted: boolean;
  /** Of QUIC: its version, for example 1. */
  readonly quicVersion: number | undefined;
}

export interface EngineHooks {
  /** Asked once per flow (UDP: per destination of a flow), and again about live ones after `reevaluate`. Undefined: allowed. */
  readonly onFlow?: (flow: FlowRequest) => FlowDecision | undefined;
  /** Names, SNI, ALPN and ECH of flows as they are found; never payload. */
  readonly onMetadata?: (metadata: FlowMetadata) => void;
  /**
   * What has happened to flows, at the end of a turn, oldest first; at most 256 a turn, the rest in the next. `dropped`: how many
   * newer ones have found no room since the last call, beyond 1,024 that wait.
   */
  readonly onEvents?: (events: readonly FlowEvent[], dropped: number) => void;
  /** Every packet, or run of equal ones, as it passes between device and stack; lent. */
  readonly onPacket?: (toEngine: boolean, bytes: Uint8Array, offset: number, length: number) => void;
}

/** Protocol names as in `FlowRequest`. */
export function flowProtocol(protocol: number): FlowProtocol {
  return protocol === PROTOCOL_TCP ? 'tcp' : protocol === PROTOCOL_UDP ? 'udp' : 'icmp';
}

/** Something of the host's has thrown: counted, and told in its log. */
export type HookFailed = (hook: string, error: unknown) => void;

/** Asks the hook about the flow from index 0 to index 1 of `addresses`. */
export function askFlow(
  hooks: EngineHooks,
  failed: HookFailed,
  protocol: number,
  addresses: Uint32Array,
): FlowDecision | undefined {
  if (hooks.onFlow === undefined) return undefined;
  const source = SocketAddress.read(addresses, 0);
  const destination = SocketAddress.read(addresses, 1);
  try {
    return hooks.onFlow({ protocol: flowProtocol(protocol), source, destination });
  } catch (error) {
    failed('onFlow', error);
    return undefined;
  }
}
