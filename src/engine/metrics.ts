/**
 * Everything an engine counts: one table of names, from which the snapshot, the Prometheus text and docs/METRICS.md come.
 *
 *   snapshot     { version, values: { tcp_admission_fail: 3, "drops{reason=bad_checksum}": 1, … } }      zeros included for names
 *   Prometheus   sallyport_engine_drops_total{reason="bad_checksum"} 1                                   without a label
 *
 * A histogram is `name_bucket{le=bound}` (how many were no greater), `name_sum` and `name_count` in both.
 */
import type { Counters } from '../base/counters.js';
import type { DropName } from '../base/drop.js';
import type { StackCounter } from '../netstack/counters.js';
import type { FlowCounter } from './flow-options.js';
import { Histogram } from './histogram.js';
import type { LoopLag } from './loop-lag.js';

/** What the engine itself counts, beside its flows and its stack. */
export const ENGINE_COUNTERS = [
  'hook_errors',
  'device_queue_drops',
  'host_queue_drops',
  'path_changes',
  'turns',
  'turns_over_1ms',
  'turns_over_5ms',
  'turns_over_20ms',
] as const;
export type EngineCounter = (typeof ENGINE_COUNTERS)[number];

/** Packets of one turn: a turn takes 256 from a host's ring, and what a device has at once. */
export const BATCH_BOUNDS = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512] as const;

/** What the values of a snapshot are read from. */
export interface MetricSources {
  readonly engine: Counters<EngineCounter>;
  readonly flows: Counters<FlowCounter>;
  readonly stack: Counters<StackCounter>;
  readonly drops: Counters<DropName>;
  /** Of names, rules and the resolver, where there are any. */
  readonly traffic: TrafficCounts | undefined;
  readonly active: { readonly tcp: number; readonly udp: number; readonly echo: number };
  readonly deviceDrops: number;
  readonly shapedBytes: number;
  readonly bufferBytes: number;
  readonly longestTurnMicroseconds: number;
  readonly lag: LoopLag;
  /** Packets that each turn took from the device, and gave it. */
  readonly batchesIn: Histogram;
  readonly batchesOut: Histogram;
}

export interface TrafficCounts {
  readonly names: Readonly<Record<string, number>>;
  readonly rules: Readonly<Record<string, number>>;
  readonly dns: Readonly<Record<string, number>>;
  /** Microseconds; undefined where there is no resolver. */
  readonly dnsLatency: Histogram | undefined;
  readonly eventsDropped: number;
}

interface Metric {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  /** One value, or one per value of `label`. */
  readonly label?: string;
  readonly read: (from: MetricSources) => number | Readonly<Record<string, number>> | Histogram | undefined;
  /** Of a histogram: how many of its values make one of the unit that is told; 1. */
  readonly scale?: number;
}

const stack =
  (name: StackCounter) =>
  ({ stack: counters }: MetricSources): number =>
    counters.get(name);
const flows =
  (name: FlowCounter) =>
  ({ flows: counters }: MetricSources): number =>
    counters.get(name);
const engine =
  (name: EngineCounter) =>
  ({ engine: counters }: MetricSources): number =>
    counters.get(name);
const count = (name: string, help: string, read: Metric['read'], label?: string): Metric => ({
  name,
  type: 'counter',
  help,
  read,
  ...(label === undefined ? {} : { label }),
});
const gauge = (name: string, help: string, read: Metric['read'], label?: string): Metric => ({
  ...count(name, help, read, label),
  type: 'gauge',
});

const histogram = (name: string, help: string, read: Metric['read'], scale = 1): Metric => ({
  ...count(name, help, read, 'le'),
  type: 'histogram',
  scale,
});

export const ENGINE_METRICS: readonly Metric[] = [
  count('packets_in', 'Packets (runs count once) from the device.', stack('packets_in')),
  count('packets_out', 'Packets to the device.', stack('packets_out')),
  count('bytes_in', 'Bytes of packets from the device.', stack('bytes_in')),
  count('bytes_out', 'Bytes of packets to the device.', stack('bytes_out')),
  count('drops', 'Packets dropped, by reason.', ({ drops }) => drops.snapshot() as Record<string, number>, 'reason'),
  gauge('flows_active', 'Flows open or being dialled.', ({ active }) => ({ ...active }), 'protocol'),
  count(
    'flows_opened',
    'Flows opened.',
    ({ flows: c }) => ({ tcp: c.get('tcp_opened'), udp: c.get('udp_opened'), echo: c.get('echo_opened') }),
    'protocol',
  ),
  count(
    'flows_closed',
    'Flows that were open and have ended.',
    ({ flows: c }) => ({ tcp: c.get('tcp_closed'), udp: c.get('udp_closed') }),
    'protocol',
  ),
  count('flows_denied', 'Flows that a hook or rule refused.', flows('flow_denied')),
  count('flows_shaped', 'TCP flows, and destinations of UDP flows, that are held back.', flows('flow_shaped')),
  count('shaped_losses', 'Datagrams lost at random because a rule or hook says so.', flows('shaped_losses')),
  count('flows_rate_limited', 'New flows beyond the rate.', flows('flow_rate_limited')),
  count('tcp_admission_fail', 'TCP flows refused because all are taken.', flows('tcp_admission_fail')),
  count('udp_admission_fail', 'UDP flows refused because all are taken.', flows('udp_admission_fail')),
  count('echo_admission_fail', 'Echo flows refused because all are taken.', flows('echo_admission_fail')),
  count(
    'evictions',
    'Flows ended early to make room for new ones.',
    ({ flows: c }) => ({ tcp: c.get('tcp_evicted'), udp: c.get('udp_evicted') }),
    'protocol',
  ),
  count(
    'dial_errors',
    'Flows whose dial failed, by kind.',
    ({ flows: c }) => ({
      refused: c.get('tcp_dial_refused') + c.get('udp_dial_refused'),
      timeout: c.get('tcp_dial_timeout') + c.get('udp_dial_timeout'),
      unreachable: c.get('tcp_dial_unreachable') + c.get('udp_dial_unreachable'),
      blocked: c.get('tcp_dial_blocked') + c.get('udp_dial_blocked'),
      unsupported: c.get('udp_unsupported'),
    }),
    'kind',
  ),
  count(
    'backpressure_drops',
    'Datagrams and packets dropped because who takes them was not ready.',
    (from) => ({
      udp_out: from.flows.get('udp_send_blocked'),
      device_out: from.drops.get('tun_full'),
      device_in: from.engine.get('device_queue_drops'),
      device_queue: from.deviceDrops,
      host: from.engine.get('host_queue_drops'),
      shaper: from.flows.get('shaped_drops'),
    }),
    'where',
  ),
  count(
    'idle_timeouts',
    'Flows ended because nothing moved.',
    (from) => ({
      tcp: from.stack.get('tcp_idle_timeouts'),
      udp: from.flows.get('udp_expired'),
      echo: from.flows.get('echo_expired'),
    }),
    'protocol',
  ),
  count('udp_filtered', 'Datagrams of hosts that the filtering mode keeps out.', flows('udp_filtered')),
  count(
    'udp_holds',
    'Destinations whose first datagrams waited for a name, by what ended that.',
    ({ flows: c }) => ({
      decided: c.get('udp_holds_decided'),
      refused: c.get('udp_holds_refused'),
      gave_up: c.get('udp_holds_gave_up'),
      flow_ended: c.get('udp_holds_ended'),
    }),
    'end',
  ),
  count(
    'tcp_holds',
    'TCP flows whose first bytes waited for a name, by what ended that.',
    ({ flows: c }) => ({
      decided: c.get('tcp_holds_decided'),
      refused: c.get('tcp_holds_refused'),
      gave_up: c.get('tcp_holds_gave_up'),
      flow_ended: c.get('tcp_holds_ended'),
    }),
    'end',
  ),
  count('udp_send_errors', 'Datagrams that failed on a way out that stood.', flows('udp_send_fail')),
  count('echo_requests', 'Echo requests.', flows('echo_requests')),
  count('retransmits', 'TCP segments sent again to the device.', stack('tcp_retransmits')),
  count(
    'fast_retransmits',
    'Of these, the first ones of a recovery: found lost by later acknowledgements.',
    stack('tcp_fast_retransmits'),
  ),
  count('rto', 'TCP retransmission timeouts.', stack('tcp_rto')),
  count('dup_acks', 'Duplicate acknowledgements received.', stack('tcp_dup_acks')),
  count('out_of_order', 'TCP segments that came out of order.', stack('tcp_ooo')),
  count('zero_window', 'Times a window offered to the device side was zero.', stack('tcp_zero_window')),
  count('challenge_acks', 'Challenge ACKs sent (RFC 5961).', stack('tcp_challenge_acks')),
  count('paws_drops', 'Segments dropped as old duplicates (RFC 7323).', stack('tcp_paws_drops')),
  count('ecn_marks_in', 'TCP segments that came with CE (congestion experienced).', stack('tcp_ce_in')),
  count('ecn_marks_reported', 'TCP segments to the device whose marks the program reported.', stack('tcp_ce_reported')),
  count('rst_in', 'RSTs received.', stack('tcp_rst_in')),
  count('rst_out', 'RSTs sent.', stack('tcp_rst_out')),
  count('icmp_in', 'ICMP messages from the device.', stack('icmp_in')),
  count('icmp_out', 'ICMP messages to the device.', stack('icmp_out')),
  count('icmp_rate_limited', 'ICMP errors not sent because of the rate limit.', stack('icmp_limited')),
  count('fragments_in', 'IP fragments from the device.', stack('fragments_in')),
  count('fragments_out', 'IP fragments to the device.', stack('fragments_out')),
  count('flow_names', 'Flows whose name was learnt, by source.', ({ traffic }) => traffic?.names ?? {}, 'source'),
  count(
    'rule_decisions',
    'Flows that a rule decided about, by action.',
    ({ traffic }) => traffic?.rules ?? {},
    'action',
  ),
  count('dns', 'What the resolver did and met, by event.', ({ traffic }) => traffic?.dns ?? {}, 'event'),
  histogram(
    'dns_latency_seconds',
    'How long questions took that went to servers, answered or not.',
    ({ traffic }) => traffic?.dnsLatency,
    1e6,
  ),
  count('hook_errors', 'Hooks that threw.', engine('hook_errors')),
  count('events_dropped', 'Events of flows that found no room.', ({ traffic }) => traffic?.eventsDropped ?? 0),
  count('path_changes', 'Changes of the way out that the host told of.', engine('path_changes')),
  count('turns', 'Turns of the loop.', engine('turns')),
  count(
    'slow_turns',
    'Turns that took longer than so many milliseconds.',
    ({ engine: c }) => ({ '1': c.get('turns_over_1ms'), '5': c.get('turns_over_5ms'), '20': c.get('turns_over_20ms') }),
    'over',
  ),
  gauge('longest_turn_microseconds', 'The longest turn so far.', (from) => from.longestTurnMicroseconds),
  count(
    'late_turns',
    'Turns that began later than so many milliseconds after they were due.',
    ({ lag }) => lag.over(),
    'over',
  ),
  gauge(
    'loop_lag_microseconds',
    'How late turns began at most, by share of all turns.',
    ({ lag }) => ({ '0.5': lag.quantile(0.5), '0.99': lag.quantile(0.99), '1': lag.longest }),
    'quantile',
  ),
  histogram('turn_packets_in', 'Packets (runs count once) that a turn took from the device.', (from) => from.batchesIn),
  histogram('turn_packets_out', 'Packets that a turn gave to the device.', (from) => from.batchesOut),
  gauge('shaped_bytes', 'Memory of what is held back by rules.', (from) => from.shapedBytes),
  gauge('buffer_bytes', 'Memory of TCP buffers, in use and kept for reuse.', (from) => from.bufferBytes),
];

/** Name, or `name{label=value}` → value. */
export interface EngineSnapshot {
  readonly version: 1;
  readonly values: Readonly<Record<string, number>>;
}

export function engineSnapshot(from: MetricSources): EngineSnapshot {
  const values: Record<string, number> = {};
  for (const { name, label, read, scale } of ENGINE_METRICS) {
    const value = read(from);
    if (value === undefined) continue;
    if (typeof value === 'number') values[name] = value;
    else if (value instanceof Histogram) addHistogram(values, name, value, scale!);
    else for (const [key, one] of Object.entries(value)) values[`${name}{${label}=${key}}`] = one;
  }
  return { version: 1, values };
}

/** As Prometheus has it: cumulative buckets up to +Inf, the sum of all values, and how many there were. */
function addHistogram(values: Record<string, number>, name: string, from: Histogram, scale: number): void {
  const within = from.cumulative();
  for (const [i, count] of within.entries()) {
    const bound = from.bounds[i];
    values[`${name}_bucket{le=${bound === undefined ? '+Inf' : bound / scale}}`] = count;
  }
  values[`${name}_sum`] = from.sum / scale;
  values[`${name}_count`] = within.at(-1)!;
}

/** Text exposition format 0.0.4; counters end in `_total`. Ends without a line feed. */
export function engineMetricsText(snapshot: EngineSnapshot): string {
  const lines: string[] = [];
  for (const { name, type, help, label } of ENGINE_METRICS) {
    const family = `sallyport_engine_${name}${type === 'counter' ? '_total' : ''}`;
    const isOwn = ([key]: [string, number]): boolean =>
      type === 'histogram' ? isPart(key, name) : key === name || key.startsWith(`${name}{`);
    const samples = Object.entries(snapshot.values).filter(isOwn);
    if (samples.length === 0) continue;
    lines.push(`# HELP ${family} ${help}`, `# TYPE ${family} ${type}`);
    for (const [key, value] of samples) {
      const at = key.indexOf('{');
      const part = type === 'histogram' ? key.slice(name.length, at < 0 ? undefined : at) : '';
      const of = at < 0 ? '' : `{${label}="${key.slice(at + label!.length + 2, -1)}"}`;
      lines.push(`${family}${part}${of} ${value}`);
    }
  }
  return lines.join('\n');
}

const PARTS = ['_bucket{', '_sum', '_count'] as const;
const isPart = (key: string, name: string): boolean => PARTS.some((part) => key.startsWith(name + part));
