/** What the main thread of `tun2socks` and its packet thread say to each other. */
import type { FlowInfo } from '../engine/flow-list.js';
import type { UdpFiltering } from '../engine/flow-options.js';
import type { EngineSnapshot } from '../engine/metrics.js';
import type { PresetName } from '../engine/settings.js';
import type { FlowEvent } from '../engine/taps/events.js';
import type { TrafficOptions } from './traffic.js';

/** Where flows go: sockets of this host, or a proxy. */
export type WayOut =
  | { readonly kind: 'direct' }
  | {
      readonly kind: 'socks5' | 'socks5h' | 'http';
      /** ADDRESS:PORT. */
      readonly address: string;
      readonly user: string | undefined;
      readonly password: string | undefined;
    };

export interface Tun2socksThreadData {
  readonly tun: string;
  readonly mtu: number;
  readonly preset: PresetName;
  readonly udpFiltering: UdpFiltering;
  readonly way: WayOut;
  /** Device and mark of the sockets that flows leave by, so that they do not come back. */
  readonly device: string | undefined;
  readonly mark: number | undefined;
  readonly traffic: TrafficOptions;
}

export interface Tun2socksThreadStatus {
  readonly device: string;
  readonly way: string;
  readonly flows: { readonly tcp: number; readonly udp: number; readonly echo: number };
  /** TCP flows whose programs wait for what is behind the engine. */
  readonly sendPaused: number;
  /** Live TCP and UDP flows, 256 at most; `flows` counts all. */
  readonly flowList: readonly FlowInfo[];
  /** True when the host permits no ICMP socket, so that echo is answered by the engine itself. */
  readonly echoAnsweredHere: boolean;
  /** The resolver inside, where there is one. */
  readonly dns: { readonly mode: string; readonly cached: number; readonly outstanding: number } | undefined;
  /** How often each rule decided, in their order. */
  readonly rules: readonly { readonly rule: string; readonly hits: number }[];
  readonly capture:
    | { readonly packets: number; readonly dropped: number; readonly failure: string | undefined }
    | undefined;
  readonly metrics: EngineSnapshot;
}

export type Tun2socksProtocol = {
  readonly requests: {
    readonly status: { readonly input: undefined; readonly output: Tun2socksThreadStatus };
    /** The device sockets leave by is another now. */
    readonly path: { readonly input: { readonly device: string }; readonly output: undefined };
    /** Other rules, in pieces so that packets do not wait for long lists; those of the last piece and all before it then count. */
    readonly rules: {
      readonly input: { readonly rules: readonly string[]; readonly last: boolean };
      readonly output: undefined;
    };
    /** Ends every flow, before the device goes. */
    readonly shutdown: { readonly input: undefined; readonly output: undefined };
  };
  readonly events: {
    /** What happened to flows, oldest first, and how many events found no room. */
    readonly flows: { readonly events: readonly FlowEvent[]; readonly dropped: number };
  };
};
