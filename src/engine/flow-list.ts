/**
 * Live flows as a host or `status` sees them, made when somebody asks and never longer than asked for.
 */
import { SocketAddress } from '../base/address.js';
import type { FlowRequest } from './hooks.js';

/** A flow as its keeper knows it. */
export interface LiveFlow {
  readonly protocol: 'tcp' | 'udp';
  readonly state: 'dialling' | 'open';
  /** Packed: index 0 = the program's end, 1 = its destination (UDP: the first one of its port). */
  readonly words: Uint32Array;
  readonly sendPaused: boolean;
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** One live TCP flow, or one UDP port of a program. */
export interface FlowInfo {
  readonly protocol: 'tcp' | 'udp';
  readonly state: 'dialling' | 'open';
  /** The program's end, ADDRESS:PORT. */
  readonly source: string;
  /** As the program sees it; of a UDP port the first destination. */
  readonly destination: string;
  /** As logs show it; empty when there is none. */
  readonly name: string;
  /** What the program sends waits: the host's side takes nothing more for now. */
  readonly sendPaused: boolean;
  /** Payload from the program, and to it. */
  readonly bytesIn: number;
  readonly bytesOut: number;
}

/** @param nameOf the name of a flow, empty for none */
export function describeFlow(flow: LiveFlow, nameOf: (flow: FlowRequest) => string): FlowInfo {
  const { words, protocol, ...rest } = flow;
  const source = SocketAddress.read(words, 0);
  const destination = SocketAddress.read(words, 1);
  const name = nameOf({ protocol, source, destination });
  return { protocol, source: source.toString(), destination: destination.toString(), name, ...rest };
}
