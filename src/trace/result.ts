/** What a whole trace found: several runs, the series of end-to-end probes, and what names and registries say of the addresses. */
import type { IpAddress } from '../base/address.js';
import type { TraceProtocol, TraceRun } from './types.js';

/** What a routing registry says of an address. */
export interface NetworkInfo {
  /** Number of the autonomous system that announces it; undefined when nobody does. */
  readonly asn?: number;
  /** Its name, such as `EXAMPLE-NET`. */
  readonly name?: string;
  /** The announced prefix. */
  readonly prefix?: string;
  /** Two-letter country of the prefix's registration, which need not be where the router stands. */
  readonly country?: string;
}

export interface NamedRun {
  readonly id: string;
  readonly run: TraceRun;
}

export interface EndToEnd {
  /** Milliseconds in order of completion; 0: lost. */
  readonly rtts: readonly number[];
  /**
   * How they were measured: as asked, or by echo requests, because the destination answers UDP with ICMP errors and limits those,
   * which would look like loss.
   */
  readonly method: TraceProtocol;
}

export interface TraceResult {
  readonly id: string;
  readonly protocol: TraceProtocol;
  /** The target's text as given, an embedded port included. */
  readonly hostname: string;
  /** The port asked for beside the target; the one probed is each run's. */
  readonly port: number;
  /** The address the Internet sees; empty when not asked for or not found out. */
  readonly publicIp: string;
  /** In order of completion; failed ones are missing. */
  readonly runs: readonly NamedRun[];
  readonly endToEnd: EndToEnd;
  /** By address text; empty unless asked for. */
  readonly names: ReadonlyMap<string, readonly string[]>;
  readonly networks: ReadonlyMap<string, NetworkInfo>;
}

/** The names of an address; none when unknown. */
export function namesOf(result: Pick<TraceResult, 'names'>, ip: IpAddress): readonly string[] {
  return result.names.get(ip.toString()) ?? [];
}
