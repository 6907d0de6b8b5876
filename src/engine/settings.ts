/**
 * What an engine may use, as two presets and whatever a host changes of them.
 *
 *   mobile   128 TCP and 128 UDP flows; 15 MB for everything that grows with traffic (a system extension has that much in all)
 *   server   8,192 flows of each kind; windows as large as a path of 4 MiB wants
 */
import { SallyportError } from '../base/error.js';
import { type Duration, Millis, Seconds } from '../base/time.js';
import type { StackLimits } from '../netstack/options.js';
import type { TcpOptions } from '../netstack/tcp/options.js';
import { DEFAULT_FLOW_LIMITS, type FlowLimits } from './flow-options.js';

export type PresetName = 'mobile' | 'server';

export interface EngineSettings {
  /** Largest IP packet to and from the device, bytes; 1280 … 65535. */
  readonly mtu: number;
  readonly flows: FlowLimits;
  readonly tcp: Partial<TcpOptions>;
  readonly stack: Partial<StackLimits>;
  /** Longest time between two turns while flows are open: a safety net, everything else comes by event. */
  readonly ceiling: Duration;
  readonly host: HostLimits;
}

/** Memory between an engine and the program it runs in, bytes. */
export interface HostLimits {
  /** Packets of the device that wait for a turn. */
  readonly ringBytes: number;
  /** Packets of one batch to the device. */
  readonly batchBytes: number;
  /** What the host has received and a flow has not taken: of one flow (it is paused at three quarters), and of all. */
  readonly perFlowBytes: number;
  readonly queueBytes: number;
  /** Addresses with names. */
  readonly names: number;
}

const common: FlowLimits = {
  ...DEFAULT_FLOW_LIMITS,
  udpFiltering: 'endpoint-independent',
  udpEvict: true,
  tcpEvictIdle: Seconds(60),
  udpIdle: Seconds(60),
  udpUnanswered: Seconds(30),
};

const PRESETS: Readonly<Record<PresetName, EngineSettings>> = {
  mobile: {
    mtu: 1500,
    flows: {
      ...common,
      tcpFlows: 128,
      tcpDials: 128,
      udpFlows: 128,
      udpPeers: 32,
      echoFlows: 16,
      dialTimeout: Seconds(5),
      shapedFlowBytes: 128 * 1024,
      shapedBytes: 1024 * 1024,
    },
    tcp: {
      congestion: 'cubic',
      receiveInitial: 16 * 1024,
      receiveMax: 256 * 1024,
      sendInitial: 16 * 1024,
      sendMax: 256 * 1024,
      idleTimeout: Seconds(300),
      userTimeout: Seconds(60),
    },
    stack: {
      // Flows, and as many as 32 in TIME-WAIT or of the resolver's.
      connections: 160,
      pendingRequests: 128,
      reassemblyBytes: 128 * 1024,
      retainedBytes: 1024 * 1024,
      bufferBytes: 4 * 1024 * 1024,
    },
    ceiling: Millis(5),
    host: {
      ringBytes: 512 * 1024,
      batchBytes: 256 * 1024,
      perFlowBytes: 64 * 1024,
      queueBytes: 2 * 1024 * 1024,
      names: 2048,
    },
  },
  server: {
    mtu: 1500,
    flows: {
      ...common,
      tcpFlows: 8192,
      tcpDials: 2048,
      udpFlows: 8192,
      udpPeers: 512,
      echoFlows: 256,
      newFlowRate: 5000,
      newFlowBurst: 10_000,
    },
    tcp: { congestion: 'cubic', idleTimeout: Seconds(300), userTimeout: Seconds(120) },
    stack: {
      connections: 16_384,
      pendingRequests: 2048,
      reassemblyBytes: 4 * 1024 * 1024,
      reassemblyPackets: 1024,
      bufferBytes: 1024 * 1024 * 1024,
    },
    ceiling: Millis(5),
    host: {
      ringBytes: 4 * 1024 * 1024,
      batchBytes: 512 * 1024,
      perFlowBytes: 256 * 1024,
      queueBytes: 64 * 1024 * 1024,
      names: 8192,
    },
  },
};

export interface EngineOverrides {
  readonly mtu?: number;
  readonly flows?: Partial<FlowLimits>;
  readonly tcp?: Partial<TcpOptions>;
  readonly stack?: Partial<StackLimits>;
  readonly host?: Partial<HostLimits>;
}

/** @throws SallyportError ENGINE_SETTINGS (caller): it names the value and what is allowed. */
export function engineSettings(preset: PresetName, overrides: EngineOverrides = {}): EngineSettings {
  const base = Object.hasOwn(PRESETS, preset) ? PRESETS[preset] : undefined;
  if (base === undefined) throw invalid(`there is no preset ${String(preset)}: mobile or server`);
  const mtu = overrides.mtu ?? base.mtu;
  if (!Number.isInteger(mtu) || mtu < 1280 || mtu > 65_535) throw invalid(`mtu ${mtu} is not from 1280 to 65535`);
  const flows = { ...base.flows, ...overrides.flows };
  for (const name of ['tcpFlows', 'tcpDials', 'udpFlows', 'udpPeers', 'echoFlows'] as const) {
    if (!Number.isInteger(flows[name]) || flows[name] < 1) throw invalid(`${name} ${flows[name]} is not 1 or more`);
  }
  const filtering = flows.udpFiltering;
  if (filtering !== undefined && !FILTERINGS.includes(filtering)) {
    throw invalid(`udpFiltering ${String(filtering)} is none of ${FILTERINGS.join(', ')}`);
  }
  return {
    mtu,
    flows,
    tcp: { ...base.tcp, ...overrides.tcp },
    stack: { ...base.stack, ...overrides.stack },
    ceiling: base.ceiling,
    host: { ...base.host, ...overrides.host },
  };
}

export const FILTERINGS = ['endpoint-independent', 'address-dependent', 'address-and-port-dependent'] as const;

const invalid = (message: string): SallyportError => new SallyportError('caller', 'ENGINE_SETTINGS', message);
