/**
 * A role's counters as Prometheus reads them (text exposition format 0.0.4).
 *
 *   # TYPE sallyport_events_total counter
 *   sallyport_events_total{network="lab",role="agent",name="alice",counter="proxy.dials"} 3
 */
import type { NodeStatus } from './status-types.js';

type Labels = Readonly<Record<string, string>>;

interface Family {
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  readonly samples: readonly (readonly [Labels, number])[];
}

/** Ends without a line feed: whoever prints it adds one. */
export function prometheusText(status: NodeStatus): string {
  const { network, role, name } = status;
  const base = { network, role, name };
  return familiesOf(status)
    .filter(({ samples }) => samples.length > 0)
    .flatMap(({ name: family, type, help, samples }) => [
      `# HELP ${family} ${help}`,
      `# TYPE ${family} ${type}`,
      ...samples.map(([labels, value]) => `${family}${formatLabels({ ...base, ...labels })} ${value}`),
    ])
    .join('\n');
}

function familiesOf(status: NodeStatus): Family[] {
  const each = (label: string, values: Readonly<Record<string, number>>): (readonly [Labels, number])[] =>
    Object.entries(values)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => [{ [label]: key }, value] as const);
  return [
    gauge('sallyport_up', 'The role runs.', [[{}, 1]]),
    gauge('sallyport_policy_version', 'Version of the policy in force.', [[{}, status.policyVersion]]),
    ...(status.role === 'relay'
      ? [
          gauge(
            'sallyport_nodes',
            'Nodes connected to this relay.',
            countBy(status.nodes, ({ role }) => role, 'of'),
          ),
          gauge('sallyport_channels', 'Channels open through this relay.', [[{}, status.channels.length]]),
        ]
      : [
          gauge('sallyport_relay_ready', 'Whether the relay is reached.', [
            [{}, status.relay.state === 'ready' ? 1 : 0],
          ]),
          gauge(
            'sallyport_relay_place',
            'Relays this node knows: 1 for the place each has, home, standby, used or resting.',
            status.relays.map(({ name, place }) => [{ relay: name, place }, 1] as const),
          ),
          gauge(
            'sallyport_relay_rtt_seconds',
            'Round trip to each relay, where it is known.',
            status.relays.flatMap(({ name, rttMilliseconds: rtt }) =>
              rtt === undefined ? [] : [[{ relay: name }, Math.round(rtt * 1000) / 1_000_000] as const],
            ),
          ),
          gauge('sallyport_sessions', 'Sessions, with or without a live link.', [[{}, status.sessions.length]]),
        ]),
    counter('sallyport_events_total', 'Everything that is counted, by counter.', each('counter', status.counters)),
    counter('sallyport_dropped_packets_total', 'Packets dropped, by reason.', each('reason', status.drops)),
  ];
}

function gauge(name: string, help: string, samples: Family['samples']): Family {
  return { name, type: 'gauge', help, samples };
}

function counter(name: string, help: string, samples: Family['samples']): Family {
  return { name, type: 'counter', help, samples };
}

function countBy<T>(all: readonly T[], of: (one: T) => string, label: string): (readonly [Labels, number])[] {
  const counts = new Map<string, number>();
  for (const one of all) counts.set(of(one), (counts.get(of(one)) ?? 0) + 1);
  return [...counts].map(([key, value]) => [{ [label]: key }, value] as const);
}

function formatLabels(labels: Labels): string {
  const text = Object.entries(labels).map(([key, value]) => `${key}="${escapeLabel(value)}"`);
  return `{${text.join(',')}}`;
}

function escapeLabel(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
