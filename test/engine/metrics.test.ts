/** Every name of the metrics: the same in snapshot, Prometheus text and docs/METRICS.md; and one way to move each. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type Duration, Millis, Seconds } from '../../src/base/time.js';
import { LATENCY_BOUNDS } from '../../src/engine/dns/resolver.js';
import { DNS_COUNTERS } from '../../src/engine/dns/transport.js';
import { BATCH_BOUNDS, ENGINE_METRICS, engineMetricsText } from '../../src/engine/metrics.js';
import { NAME_SOURCES } from '../../src/engine/names/tracker.js';
import { RULE_ACTIONS } from '../../src/engine/rules/rule.js';
import { REPOSITORY } from '../lab/services.js';
import { echoRequest, icmpPacket, ipPacket, PROTO, tcpPacket, udpPacket } from '../support/packets.js';
import { query } from './dns/world.js';
import { MOVES_BY_HAND } from './metrics-moves.js';
import { clientHello, cryptoFrame, hex, initialPacket, padded } from './names/hellos.js';
import { CLIENT, MockHost } from './replay/mock-host.js';

const ends = { from: CLIENT, to: '93.184.216.34' };
const WEB = '93.184.216.34:80';
const udp = (port: number, to = 53): Uint8Array => udpPacket(ends, port, to, 'x');
const feed = (host: MockHost, packets: readonly Uint8Array[], span: Duration = Millis(20)): void => {
  host.engine.packets(packets);
  host.run(span);
};
const small = { preset: 'mobile', settings: { flows: { tcpFlows: 1, udpFlows: 1, echoFlows: 1 } } } as const;

/** The first of several packets: its ClientHello has no end. */
const INITIAL = initialPacket({
  id: hex('0102030405060708'),
  payload: padded(cryptoFrame(clientHello({ name: 'quic.example' }), 0, 50)),
});

interface Move {
  readonly name: string;
  readonly by: (host: MockHost) => void;
  readonly with?: ConstructorParameters<typeof MockHost>[0];
}

/** Every value of a histogram, by its bounds in the unit that is told. */
const histogramNames = (name: string, bounds: readonly number[]): string[] => [
  ...[...bounds, '+Inf'].map((bound) => `${name}_bucket{le=${bound}}`),
  `${name}_sum`,
  `${name}_count`,
];
const LATENCIES = LATENCY_BOUNDS.map((bound) => bound / 1e6);

const blocked = { hooks: { onFlow: () => ({ action: 'block', how: 'reset' }) as const } };

const MOVES: readonly Move[] = [
  { name: 'packets_in', by: (host) => feed(host, [echoRequest(ends, 1, 1)]) },
  { name: 'packets_out', by: (host) => feed(host, [echoRequest(ends, 1, 1)]) },
  { name: 'bytes_in', by: (host) => feed(host, [echoRequest(ends, 1, 1)]) },
  { name: 'bytes_out', by: (host) => feed(host, [echoRequest(ends, 1, 1)]) },
  { name: 'drops{reason=not_ip}', by: (host) => feed(host, [Uint8Array.of(0xff, ...new Uint8Array(40))]) },
  { name: 'flows_active{protocol=tcp}', by: (host) => void host.open(WEB) },
  { name: 'flows_active{protocol=udp}', by: (host) => feed(host, [udp(1)]) },
  { name: 'flows_opened{protocol=tcp}', by: (host) => void host.open(WEB) },
  { name: 'flows_opened{protocol=udp}', by: (host) => feed(host, [udp(1)]) },
  { name: 'flows_denied', by: (host) => feed(host, [udp(1)]), with: blocked },
  {
    name: 'flows_rate_limited',
    by: (host) => feed(host, [udp(1), udp(2), udp(3)]),
    with: { settings: { flows: { newFlowRate: 1, newFlowBurst: 1 } } },
  },
  {
    name: 'tcp_admission_fail',
    by: (host) => {
      host.open(WEB);
      host.connect(WEB);
      host.run(Millis(10));
    },
    with: small,
  },
  {
    name: 'udp_admission_fail',
    by: (host) => feed(host, [udp(1), udp(2)]),
    with: { settings: { flows: { udpFlows: 1, udpEvict: false } } },
  },
  {
    name: 'evictions{protocol=tcp}',
    by: (host) => {
      host.open(WEB);
      host.run(Seconds(61));
      host.open(WEB);
    },
    with: small,
  },
  { name: 'evictions{protocol=udp}', by: (host) => feed(host, [udp(1), udp(2)]), with: small },
  ...(['refused', 'blocked', 'timeout'] as const).map((kind) => ({
    name: `dial_errors{kind=${kind}}`,
    by: (host: MockHost) => {
      host.connect(WEB);
      host.run(Millis(10));
      host.engine.failed(host.last.id, kind);
      host.run(Millis(10));
    },
  })),
  {
    name: 'dial_errors{kind=unreachable}',
    by: (host) => {
      host.connect(WEB);
      host.run(Millis(10));
      host.engine.failed(host.last.id, 'unreachable-net');
      host.run(Millis(10));
    },
  },
  {
    name: 'backpressure_drops{where=udp_out}',
    by: (host) => {
      feed(host, [udp(1)]);
      host.last.room = 0;
      feed(host, [udp(1), udp(1)]);
    },
  },
  {
    name: 'backpressure_drops{where=device_in}',
    by: (host) =>
      feed(
        host,
        Array.from({ length: 400 }, () => udpPacket(ends, 1, 2, new Uint8Array(1400))),
      ),
    with: { preset: 'mobile' },
  },
  {
    name: 'backpressure_drops{where=host}',
    by: (host) => {
      feed(host, [udp(1)]);
      host.reply(host.last, 'without an address');
    },
  },
  {
    name: 'idle_timeouts{protocol=udp}',
    by: (host) => {
      feed(host, [udp(1)]);
      host.engine.connected(host.last.id);
      host.run(Seconds(40));
    },
  },
  {
    name: 'idle_timeouts{protocol=tcp}',
    by: (host) => {
      host.open(WEB);
      host.run(Seconds(10));
    },
    with: { settings: { tcp: { idleTimeout: Seconds(5) } } },
  },
  {
    name: 'udp_filtered',
    by: (host) => {
      feed(host, [udp(1)]);
      host.reply(host.last, 'x', '9.9.9.9:9');
      host.run(Millis(10));
    },
    with: { settings: { flows: { udpFiltering: 'address-dependent' } } },
  },
  {
    name: 'udp_send_errors',
    by: (host) => {
      feed(host, [udp(1)]);
      host.engine.connected(host.last.id);
      host.engine.closed(host.last.id, 'error');
      host.run(Millis(10));
    },
  },
  ...(['decided', 'refused', 'gave_up', 'flow_ended'] as const).map((end) => ({
    name: `udp_holds{end=${end}}`,
    with: { rules: ['reject host=quic.example'] },
    by: (host: MockHost) => {
      feed(host, [udpPacket(ends, 1, 443, INITIAL)], Millis(5));
      if (end === 'decided') host.engine.setRules(['allow']);
      if (end === 'refused') host.engine.setRules(['reject']);
      if (end === 'flow_ended') host.engine.pathChanged(false);
      host.run(Millis(end === 'gave_up' ? 250 : 5));
    },
  })),
  ...(['decided', 'refused', 'gave_up', 'flow_ended'] as const).map((end) => ({
    name: `tcp_holds{end=${end}}`,
    with: { rules: ['reject host=web.example'] },
    by: (host: MockHost) => {
      const { client } = host.open(WEB);
      client.connection.write(Uint8Array.of(22), 0, 1);
      host.run(Millis(5));
      if (end === 'decided') host.engine.setRules(['allow']);
      if (end === 'refused') host.engine.setRules(['reject']);
      if (end === 'flow_ended') client.connection.abort();
      host.run(end === 'gave_up' ? Seconds(6) : Millis(5));
    },
  })),
  { name: 'echo_requests', by: (host) => feed(host, [echoRequest(ends, 1, 1)]) },
  {
    name: 'retransmits',
    by: (host) => {
      feed(host, [tcpPacket(ends, 999, 80)]);
      host.engine.connected(host.last.id);
      host.run(Seconds(5));
    },
  },
  {
    name: 'rst_in',
    by: (host) => {
      host.open(WEB).client.connection.abort();
      host.run(Millis(10));
    },
  },
  { name: 'rst_out', by: (host) => feed(host, [tcpPacket(ends, 999, 80, 0x10)]) },
  { name: 'icmp_in', by: (host) => feed(host, [echoRequest(ends, 1, 1)]) },
  { name: 'icmp_out', by: (host) => feed(host, [echoRequest(ends, 1, 1)]) },
  {
    name: 'icmp_rate_limited',
    by: (host) =>
      feed(
        host,
        Array.from({ length: 200 }, (_, i) => udp(i + 1)),
      ),
    with: { hooks: { onFlow: () => ({ action: 'block', how: 'port-unreachable' }) as const } },
  },
  {
    name: 'fragments_in',
    by: (host) =>
      feed(host, [
        ipPacket({
          ...ends,
          protocol: PROTO.udp,
          body: Uint8Array.of(0, 9, 0, 9, 4, 0, ...new Uint8Array(10)),
          fragment: { offset: 0, more: true },
        }),
      ]),
  },
  {
    name: 'fragments_out',
    by: (host) => {
      feed(host, [udp(1)]);
      host.reply(host.last, new Uint8Array(4000), '9.9.9.9:9');
      host.run(Millis(10));
    },
  },
  {
    name: 'hook_errors',
    by: (host) => {
      host.onDial = () => {
        throw new Error('of the host');
      };
      feed(host, [udp(1)]);
    },
  },
  {
    name: 'events_dropped',
    by: (host) => {
      feed(
        host,
        Array.from({ length: 1100 }, (_, i) => udp(i + 1)),
      );
      host.engine.pathChanged(false);
      host.run(Millis(10));
    },
    with: { settings: { flows: { newFlowRate: 2000, newFlowBurst: 2000 } } },
  },
  {
    name: 'path_changes',
    by: (host) => {
      host.engine.pathChanged(false);
      host.run(Millis(10));
    },
  },
  ...histogramNames('dns_latency_seconds', LATENCIES).map((name) => ({
    name,
    with: { dns: { mode: 'hijack', servers: ['10.9.0.53'] } } as const,
    by: (host: MockHost) => {
      // The first question fails at once, the second one takes its time.
      host.onDial = ({ id }) => host.engine.failed(id, 'unreachable-net');
      feed(host, [udpPacket(ends, 1, 53, query('a.example', 'A'))]);
      host.onDial = ({ id }) => host.engine.connected(id);
      feed(host, [udpPacket(ends, 1, 53, query('b.example', 'A'))], Seconds(15));
    },
  })),
  // Turns with a packet, and the next ones without.
  ...['turn_packets_in', 'turn_packets_out'].flatMap((histogram) =>
    histogramNames(histogram, BATCH_BOUNDS).map((name) => ({
      name,
      by: (host: MockHost) => feed(host, [echoRequest(ends, 1, 1), udp(1)]),
    })),
  ),
  { name: 'turns', by: (host) => feed(host, [udp(1)]) },
  {
    name: 'buffer_bytes',
    by: (host) => {
      const { client } = host.open(WEB);
      client.reads = false;
      host.reply(host.last, new Uint8Array(1000));
      host.run(Millis(10));
    },
  },
];
test.each(MOVES)('$name', ({ name, by, with: overrides }) => {
  const host = new MockHost(overrides);
  const before = host.values[name] ?? 0;
  by(host);
  expect(host.values[name]).toBeGreaterThan(before);
});

test.each(MOVES_BY_HAND)('$name', ({ name, move }) => {
  const values: number[] = [];
  move((now) => values.push(now[name] ?? 0));
  expect(values[1]).toBeGreaterThan(values[0]!);
});

test('every value has something here that moves it', () => {
  const moved = new Set([...MOVES, ...MOVES_BY_HAND].map(({ name }) => name));
  const names = Object.keys(new MockHost().values);
  expect(names.filter((name) => !moved.has(name))).toEqual([]);
  const labels = [
    ...RULE_ACTIONS.map((action) => `rule_decisions{action=${action}}`),
    ...DNS_COUNTERS.map((event) => `dns{event=${event.slice('dns_'.length)}}`),
    ...histogramNames('dns_latency_seconds', LATENCIES),
    ...['tls', 'quic'].map((source) => `flow_names{source=${source}}`),
  ];
  expect(labels.filter((name) => !moved.has(name))).toEqual([]);
});

test('an ICMP error about a flow that is not ours changes nothing', () => {
  const host = new MockHost();
  feed(host, [icmpPacket(ends, 3, 1, 0, tcpPacket({ from: ends.to, to: CLIENT }, 80, 999))]);
  expect(host.values['drops{reason=no_handler}']).toBe(1);
});

const METRICS_MD = readFileSync(join(REPOSITORY, 'docs/METRICS.md'), 'utf8');

/** What a label may say: from the lists of its words, or from the snapshot, which holds every one from the start. */
const WORDS: Readonly<Record<string, readonly string[]>> = {
  flow_names: NAME_SOURCES,
  rule_decisions: RULE_ACTIONS,
  dns: DNS_COUNTERS.map((event) => event.slice('dns_'.length)),
  dns_latency_seconds: [...LATENCIES.map(String), '+Inf'],
};
function wordsOf(name: string, values: readonly string[]): string {
  if (name === 'drops') return 'see [drop.ts](../src/base/drop.ts)';
  const prefixes = [`${name}{`, `${name}_bucket{`];
  const own = (key: string): boolean => prefixes.some((prefix) => key.startsWith(prefix));
  const words = WORDS[name] ?? values.filter(own).map((key) => key.split('=')[1]!.slice(0, -1));
  // Numbers in their order, words as they are.
  const sorted = [...words].sort((a, b) => Number(a) - Number(b) || 0);
  return sorted.map((word) => `\`${word}\``).join(', ');
}

test('docs/METRICS.md names every metric, its type, its label and what that may say as they are, and no other', () => {
  const values = Object.keys(new MockHost().values);
  const rows = METRICS_MD.split('\n').filter((line) => line.startsWith('| `'));
  const expected = ENGINE_METRICS.map(({ name, type, help, label }) => {
    const labels = label === undefined ? '' : `\`${label}\``;
    return `| \`${name}\` | ${type} | ${labels} | ${label === undefined ? '' : wordsOf(name, values)} | ${help} |`;
  });
  expect(rows).toEqual(expected);
});

test('the Prometheus text holds every value once, and is of its format', () => {
  const host = new MockHost();
  feed(host, [echoRequest(ends, 1, 1), new Uint8Array(30)]);
  const snapshot = host.engine.snapshot();
  const lines = engineMetricsText(snapshot).split('\n');
  const samples = lines.filter((line) => !line.startsWith('#'));
  for (const line of samples) expect(line).toMatch(/^sallyport_engine_[a-z_]+(\{[a-z]+="[^"]*"\})? [0-9.]+$/);
  expect(samples.length).toBe(Object.keys(snapshot.values).length);
  expect(new Set(samples.map((line) => line.split(' ')[0])).size).toBe(samples.length);
  expect(host.engine.metricsText().split('\n').length).toBe(lines.length);
});
